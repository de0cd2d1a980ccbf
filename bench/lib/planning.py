"""`skiff plan` over a large monorepo, beside `git status` on the same tree: 1,000 containers, 200,000 files of 4 KiB."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from peers import Peer
from stack import BenchError, Stack, say
from timed import run
from workload import commit_all, git

CONTAINERS, FILES_EACH, FILE_BYTES = 1_000, 200, 4096
GIT = "git status"

_DOCKERFILE = "FROM localhost:5000/busybox:1\nCOPY . /srv\n"
_MANIFEST = """\
version = 1
[registry]
provider = "oci"
host = "localhost:5000"
repository = "plan/{name}"
[discover]
roots = ["services/*"]
"""


@dataclass
class PlanRun:
    what: str
    seconds: float
    peak_kib: int


class Planning:
    LIMIT = 120  # seconds for one command

    def __init__(self, stack: Stack, skiff: Path):
        self._stack = stack
        self.folder = stack.home / "planning"
        plan = [str(skiff), "plan", "--format", "json"]
        self.peers = [
            Peer(GIT, GIT, ["git", "status", "--porcelain"]),
            Peer("skiff plan", "skiff plan", plan),
            Peer("skiff plan --all", "skiff plan --all", [*plan, "--all"]),
        ]
        self._count = 0

    def prepare(self) -> None:
        """All files differ; one container has an uncommitted change."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for container in range(CONTAINERS):
            for part in range(4):
                path = self.folder / f"services/service-{container:04}/part-{part}"
                path.mkdir(parents=True)
                for file in range(FILES_EACH // 4):
                    (path / f"file-{file:02}.bin").write_bytes(os.urandom(FILE_BYTES))
            self._write(path.parent / "Dockerfile", _DOCKERFILE)
        self._write(self.folder / "containers.toml", _MANIFEST)
        git(self.folder, "init", "--quiet", "--initial-branch", "main")
        git(self.folder, "config", "core.compression", "0")
        # Else git tidies up in the background, for minutes, on one of the processors.
        git(self.folder, "config", "gc.auto", "0")
        git(self.folder, "config", "maintenance.auto", "false")
        commit_all(self.folder, "A large monorepo")
        self._write(self.folder / "services/service-0007/part-0/file-00.bin", "changed\n")
        # Git trusts no entry of the index whose file is as young as the index: no command may pay for that.
        time.sleep(2)
        subprocess.run(["git", "update-index", "-q", "--refresh"], cwd=self.folder, check=False)
        # Nor for hundreds of thousands of files on their way to the disk.
        os.sync()

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text.replace("localhost:5000", self._stack.registry))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def measure(self, peer: Peer) -> PlanRun:
        self._count += 1
        log = self._stack.home / "runs" / f"{self._count:03}-{peer.name.replace(' ', '-')}.log"
        env = peer.environment(self._stack, "plan")
        del env["TIMESTAMP"]
        timed = run(peer.base, cwd=self.folder, env=env, log=log, limit=self.LIMIT)
        if timed.code:
            raise BenchError(f"{peer.title}: exit code {timed.code}, see {log}")
        say(f"{peer.title}: {timed.seconds:.2f} s, {timed.peak_kib / 1024:.0f} MiB")
        return PlanRun(peer.name, timed.seconds, timed.peak_kib)
