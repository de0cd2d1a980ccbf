"""The bench's own engine and registry: those of dev/up, in a dev home of their own, so that pruning harms nobody."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


class BenchError(Exception):
    """What ends the bench: a text for people, with the remedy."""


class GivenUp(BenchError):
    """It is to end now, whatever could be tried again."""


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


def default_home() -> Path:
    dev = os.environ.get("SKIFF_DEV_HOME") or f"{os.environ['HOME']}/.cache/skiff-dev"
    return Path(os.environ.get("SKIFF_BENCH_HOME") or f"{dev}-bench").absolute()


class Stack:
    """An engine and a registry. Once they are up, `env` is the environment that points a process at them."""

    def __init__(self, home: Path):
        self.home = home
        self._own = {**os.environ, "SKIFF_DEV_HOME": str(home)}
        self.env: dict[str, str] = {}
        self.registry = ""  # host:port

    def up(self) -> None:
        self._reuse_packages()
        self._lock = (self.home / "bench.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"another bench runs in {self.home}") from None
        answer = subprocess.run([REPO / "dev/up", "--env"], env=self._own, stdout=subprocess.PIPE, text=True)
        if answer.returncode:
            raise BenchError("the stack could not be started: see above")
        script = answer.stdout + "\nenv -0"
        pairs = subprocess.run(["bash", "-c", script], env=self._own, stdout=subprocess.PIPE, text=True, check=True)
        self.env = dict(pair.split("=", 1) for pair in pairs.stdout.split("\0") if "=" in pair)
        self.registry = self.env["SKIFF_DEV_REGISTRY"]

    def _reuse_packages(self) -> None:
        """What the usual dev home has installed need not be downloaded again."""
        other = Path(os.environ.get("SKIFF_DEV_HOME") or f"{os.environ['HOME']}/.cache/skiff-dev")
        if (self.home / ".skiff-dev-home").exists():
            return
        self.home.mkdir(parents=True, exist_ok=True)
        if any(self.home.iterdir()):
            raise BenchError(f"{self.home} holds something else: set SKIFF_BENCH_HOME to an empty or a new folder")
        (self.home / ".skiff-dev-home").touch()
        if not (other / "stack.is").exists():
            return
        say(f"copying the engine's packages from {other}")
        for name in ["apt", "packages", "stack"]:
            shutil.copytree(other / name, self.home / name, symlinks=True)
        shutil.copy(other / "stack.is", self.home / "stack.is")

    def down(self) -> None:
        subprocess.run([REPO / "dev/down"], env=self._own, check=True)

    def docker(self, *arguments: str) -> str:
        command = ["docker", *arguments]
        done = subprocess.run(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise BenchError(f"`docker {' '.join(arguments)}` failed:\n{done.stdout}")
        return done.stdout

    def fresh_runner(self) -> None:
        """Empties the engine: no container, no image, no build cache, no volume."""
        for container in self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", container)
        self.docker("system", "prune", "--all", "--force")
        self.docker("volume", "prune", "--all", "--force")
        self.docker("builder", "prune", "--all", "--force")
        left = self.docker("image", "ls", "--all", "--quiet") + self.docker("system", "df", "--format", "{{.Size}}")
        if set(left.split()) != {"0B"}:
            raise BenchError(f"the engine is not empty after pruning:\n{self.docker('system', 'df')}")
        settle()

    def empty_builder(self) -> None:
        """Empties its build cache; what runs in the engine goes on."""
        self.docker("builder", "prune", "--all", "--force")
        settle()


def settle() -> None:
    """What was written and deleted before must not be paid for by the run that comes next."""
    os.sync()
    time.sleep(1)
