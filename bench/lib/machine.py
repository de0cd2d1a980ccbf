"""What it was measured on: no names, no paths."""

import os
import subprocess
from pathlib import Path

from stack import REPO, Stack


def describe(stack: Stack) -> list[str]:
    model = _field("/proc/cpuinfo", "model name")
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    engine = stack.docker("version", "--format", "{{.Server.Version}}").strip()
    buildx = stack.docker("buildx", "version").split()[1]
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = " with uncommitted changes" if _git("status", "--porcelain", "--", "src", "Cargo.lock") else ""
    return [
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB of memory, Linux {os.uname().release.split('-')[0]}",
        f"Docker Engine {engine} with the containerd image store, buildx {buildx}; docker-registry on the same machine",
        f"skiff of commit {commit}{changed}, release build",
    ]


def load() -> float:
    """Processes that want a core, over the last minute."""
    return os.getloadavg()[0]


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or ("" if arguments[0] == "status" else "unknown")
