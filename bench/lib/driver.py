"""What the driver docker-container costs beside docker: the same release by both, each on a fresh runner and once more.

No image of moby/buildkit can be pulled here. What stands in for it is an image whose `buildctl dial-stdio` leads to the
engine's own BuildKit: the container, its image, the exec and the stream through the engine are real; that a buildkitd
starts, and that it has a store of its own, is not in it.
"""

import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from peers import Peer, peers
from registry import Registry
from scenarios import SCENARIOS, Bench
from stack import REPO, Stack, say
from workload import Workload

DRIVERS = ["docker", "docker-container"]
FRESH, KEPT = "a fresh runner: image, container and boot included", "the builder is there, its cache is emptied"
_CHANGE = SCENARIOS["source"]


@dataclass
class DriverRun:
    what: str
    driver: str
    seconds: float


class _Bridge:
    """The engine's own BuildKit on a port of loopback: every connection is an upgraded `POST /grpc`."""

    _UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, engine: str):
        self._engine = engine.removeprefix("unix://")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, target, *arguments: socket.socket) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            engine.sendall(self._UPGRADE)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += engine.recv(1)
            self._start(self._copy, client, engine)
            self._start(self._copy, engine, client)

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 18):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Drivers:
    def __init__(self, stack: Stack, registry: Registry, skiff: Path):
        self._stack, self._registry = stack, registry
        self._skiff = next(peer for peer in peers(stack, skiff) if peer.name == "skiff")
        self._bench = Bench(stack, registry, Workload(stack))

    def measure(self, rounds: int) -> list[DriverRun]:
        say("making the image of the builder's container")
        bridge = _Bridge(self._stack.env["DOCKER_HOST"])
        self._push_image(bridge.port)
        by = {driver: self._by(driver) for driver in DRIVERS}
        self._bench.cold(by["docker"])
        runs = []
        for turn in range(rounds):
            for driver in DRIVERS[turn % 2 :] + DRIVERS[: turn % 2]:
                runs.append(DriverRun(FRESH, driver, self._bench.warm(_CHANGE, by[driver]).seconds))
                runs.append(DriverRun(KEPT, driver, self._bench.kept(_CHANGE, by[driver]).seconds))
        self._registry.forget("skiff")
        self._stack.fresh_runner()
        return runs

    def _by(self, driver: str) -> Peer:
        """Both in one namespace, which is put back before each run."""
        peer = self._skiff
        return Peer(peer.name, f"skiff, {driver}", [*peer.base, "--builder", driver], peer.everything, events=peer.events)

    def _push_image(self, port: int) -> None:
        folder = self._stack.home / "buildkit-image"
        folder.mkdir(exist_ok=True)
        for file in (REPO / "bench/buildkit-image").iterdir():
            text = file.read_text().replace("localhost:5000", self._stack.registry).replace("PORT", str(port))
            (folder / file.name).write_text(text)
        name = f"{self._stack.registry}/bench/buildkit:1"
        output = f"type=image,name={name},push=true,store=false,oci-mediatypes=false"
        self._stack.docker("buildx", "build", "--provenance=false", "--output", output, str(folder))
