"""Four containers on a fresh runner: what was changed, how each peer releases it, and what that took."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import steps
from peers import Peer
from registry import Registry, Traffic
from stack import BenchError, GivenUp, Stack, say
from timed import run
from workload import CONTAINERS, REQUIREMENTS, SOURCE, Workload


@dataclass
class Scenario:
    name: str
    title: str
    change: dict[str, str] = field(default_factory=dict)  # file → line that is added to it in each container
    among: list[str] = field(default_factory=lambda: CONTAINERS)  # the containers that are changed, and built by name
    reverted: bool = False  # the change is released first, unmeasured; then a commit takes it back
    holds: str = SOURCE  # a file of each image, looked at where nothing is changed

    def cold(self) -> "Scenario":
        """The same containers on an empty registry."""
        return replace(self, name=f"{self.name}-cold", change={})


COLD = Scenario("cold", "cold: empty registry too")
WARM = [
    Scenario("unchanged", "nothing changed"),
    Scenario("source", "a source line in each", {SOURCE: "# a line that was not there"}),
    Scenario("requirement", "a requirement in each", {REQUIREMENTS: "humanize==4.13.0"}),
    Scenario("one", "a source line in one of four", {SOURCE: "# a line that was not there"}, ["train"]),
    Scenario("revert", "back to an earlier commit", {SOURCE: "# a line that is taken back"}, reverted=True),
]
UNIT = "units/u00.cpp"
MOUNTS = [
    Scenario("mounts-uv", "one container, a requirement: uv with a cache mount", {REQUIREMENTS: "humanize==4.13.0"}, ["uv"]),
    Scenario("mounts-ccache", "one container, one C++ file of 12: ccache in a cache mount", {UNIT: "// more"}, ["ccache"], holds=UNIT),
]
SCENARIOS = {scenario.name: scenario for scenario in [*WARM, COLD, *MOUNTS]}


@dataclass
class Run:
    scenario: str
    peer: str
    seconds: float  # to the command's exit
    release_seconds: float  # until release and `latest` stood in the registry, for all containers
    traffic: Traffic
    peak_kib: int
    steps: list[steps.Step]


class Bench:
    LIMIT = 900  # seconds for one command
    ATTEMPTS = 3

    def __init__(self, stack: Stack, registry: Registry, workload: Workload):
        self._stack, self._registry, self._workload = stack, registry, workload
        self._count = 0
        self.failures: dict[str, int] = {}
        self.last_log = Path()  # of the run that came last

    def cold(self, peer: Peer, scenario: Scenario = COLD) -> Run:
        """Leaves the registry as every warm run of this peer shall find it."""
        result = self._measure(scenario, peer, lambda: self._registry.forget(peer.name))
        self._registry.keep(peer.name)
        return result

    def warm(self, scenario: Scenario, peer: Peer) -> Run:
        return self._measure(scenario, peer, lambda: self._registry.put_back(peer.name))

    def kept(self, scenario: Scenario, peer: Peer) -> Run:
        """The same on an engine whose containers and images are those of the run before."""
        return self._measure(scenario, peer, lambda: self._registry.put_back(peer.name), self._stack.empty_builder)

    def _measure(self, scenario: Scenario, peer: Peer, prepare_registry, prepare_engine=None) -> Run:
        """The legacy script's parallel pushes fail now and then: a failed run is told, counted, and repeated."""
        for attempt in range(1, self.ATTEMPTS + 1):
            self._workload.check_out(scenario.change, scenario.among)
            prepare_registry()
            (prepare_engine or self._stack.fresh_runner)()
            self._count += 1
            name = f"{self._count:03}-{scenario.name}-{peer.name}"
            try:
                if scenario.reverted:
                    self._once(scenario, peer, f"{name}-before")
                    self._workload.revert()
                    self._stack.fresh_runner()
                return self._once(scenario, peer, name)
            except GivenUp:
                raise
            except BenchError as error:
                self.failures[peer.name] = self.failures.get(peer.name, 0) + 1
                say(f"{name}: {error} (attempt {attempt} of {self.ATTEMPTS})")
        raise BenchError(f"{peer.title} failed {self.ATTEMPTS} times: see {self._log(name)}")

    def _once(self, scenario: Scenario, peer: Peer, name: str) -> Run:
        log = self.last_log = self._log(name)
        mark = self._registry.mark()
        env = peer.environment(self._stack, name)
        timed = run(peer.command(scenario.among), cwd=self._workload.folder, env=env, log=log, limit=self.LIMIT)
        traffic = self._registry.traffic_since(mark)
        if timed.code:
            raise BenchError(f"exit code {timed.code}, see {log}")
        released = self._check(scenario, peer, name)
        told = self._steps(peer, timed.started, log)
        result = Run(
            scenario.name, peer.name, timed.seconds, released - timed.started, traffic, timed.peak_kib, told
        )
        say(
            f"{name}: {result.seconds:.1f} s (released after {result.release_seconds:.1f} s), "
            f"{traffic.layer_gets} layers, {traffic.bytes / 1e6:.1f} MB"
        )
        return result

    def _check(self, scenario: Scenario, peer: Peer, release: str) -> float:
        """Every container's image is in the registry, tagged, with the changed file in it. When the last one was."""
        released = 0.0
        for container in scenario.among:
            repository = f"{peer.name}/{container}"
            released = max(released, self._registry.released_at(repository, release))
            for file in scenario.change or [scenario.holds]:
                path = self._workload.folder / "containers" / container / file
                if not self._registry.image_holds(repository, release, path):
                    raise BenchError(f"{repository}:{release} does not hold the {file} that was to be released")
        return released

    def _steps(self, peer: Peer, started: float, log: Path) -> list[steps.Step]:
        if not peer.events:
            return steps.from_rawjson(log, started)
        told = steps.from_events(peer.events, started)
        shutil.move(peer.events, log.with_suffix(".events"))
        return told

    def _log(self, name: str) -> Path:
        return self._stack.home / "runs" / f"{name}.log"
