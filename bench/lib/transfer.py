"""A build context of 1 GB in 20,000 files: first and second transfer, `docker buildx build` beside skiff.

The Dockerfile copies nothing of it: one step looks at the whole context through a bind mount, and a tiny image is
pushed. So what differs between the two is how the context gets to the builder.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import steps
from peers import Peer
from stack import BenchError, Stack, say
from timed import run
from workload import commit_all, git

FILES, FOLDERS, FILE_BYTES = 20_000, 200, 50_000
FIRST, SECOND = "first", "second"

_DOCKERFILE = """\
FROM localhost:5000/busybox:1 AS look
RUN --mount=type=bind,target=/context ls /context/data > /seen
FROM scratch
COPY --from=look /seen /seen
"""
_MANIFEST = """\
version = 1
[registry]
provider = "oci"
host = "localhost:5000"
repository = "skiff/{name}"
[cache]
backend = "none"
[containers.context]
context = "tree"
"""


@dataclass
class TransferRun:
    which: str
    peer: str
    seconds: float
    context_seconds: float  # of the builder's own step
    peak_kib: int


class Transfer:
    LIMIT = 600  # seconds for one command

    def __init__(self, stack: Stack, skiff: Path):
        self._stack = stack
        self.folder = stack.home / "transfer"
        image = f"{stack.registry}/bake/context"
        # The same image as skiff's profile makes, so that the push costs the same.
        output = f"type=image,name={image}:$RELEASE,push=true,store=false,oci-mediatypes=false"
        build = f'exec docker buildx build --progress rawjson --provenance=false --output "{output}" tree'
        events = stack.home / "events.ndjson"
        deploy = [str(skiff), "build", "--all", "--progress", "plain", "--events", str(events)]
        self.peers = [
            Peer("buildx", "docker buildx build", ["bash", "-c", build]),
            Peer("skiff", "skiff", deploy, events=events),
        ]
        self._count = 0

    def prepare(self) -> None:
        """Random files, committed, as a monorepo's are."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in range(FOLDERS):
            path = self.folder / f"tree/data/{folder:03}"
            path.mkdir(parents=True)
            for file in range(FILES // FOLDERS):
                (path / f"{file:03}.bin").write_bytes(os.urandom(FILE_BYTES))
        for file, text in [("tree/Dockerfile", _DOCKERFILE), ("containers.toml", _MANIFEST)]:
            (self.folder / file).write_text(text.replace("localhost:5000", self._stack.registry))
        git(self.folder, "init", "--quiet", "--initial-branch", "main")
        git(self.folder, "config", "core.compression", "0")
        # Else git tidies up in the background, for minutes, on one of the processors.
        git(self.folder, "config", "gc.auto", "0")
        git(self.folder, "config", "maintenance.auto", "false")
        commit_all(self.folder, "A large context")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def measure(self, peer: Peer) -> list[TransferRun]:
        """On an emptied engine, and once more on the same one, a file later: skiff would not build the same again."""
        self._stack.fresh_runner()
        runs = []
        for which in [FIRST, SECOND]:
            (self.folder / "tree/data/000/000.bin").write_bytes(os.urandom(FILE_BYTES))
            runs.append(self._once(peer, which))
        return runs

    def _once(self, peer: Peer, which: str) -> TransferRun:
        self._count += 1
        name = f"{self._count:03}-context-{which}-{peer.name}"
        log = self._stack.home / "runs" / f"{name}.log"
        os.sync()
        env = peer.environment(self._stack, name)
        timed = run(peer.base, cwd=self.folder, env=env, log=log, limit=self.LIMIT)
        if timed.code:
            raise BenchError(f"{name}: exit code {timed.code}, see {log}")
        read = steps.from_events if peer.events else steps.from_rawjson
        seconds = steps.context_seconds(read(peer.events or log, timed.started))
        if seconds is None:
            raise BenchError(f"{name}: no context was sent, see {log}")
        say(f"{name}: {timed.seconds:.2f} s, context {seconds:.2f} s, {timed.peak_kib / 1024:.0f} MiB")
        return TransferRun(which, peer.name, timed.seconds, seconds, timed.peak_kib)
