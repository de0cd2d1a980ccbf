"""The sources that are built: four containers in a Git repository, checked out anew for every run."""

import os
import shutil
import subprocess
from pathlib import Path

from stack import REPO, Stack

CONTAINERS = ["features", "train", "inference", "report"]
SOURCE, REQUIREMENTS = "main.py", "requirements.txt"


def git(folder: Path, *arguments: str) -> None:
    """Without the user's own settings: signing and hooks have no business here."""
    who = {f"GIT_{role}_{what}": "bench@localhost" for role in ["AUTHOR", "COMMITTER"] for what in ["NAME", "EMAIL"]}
    env = {**os.environ, **who, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", *arguments], cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)


def commit_all(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


class Workload:
    def __init__(self, stack: Stack, folder: str = "workload"):
        self.folder = stack.home / "checkout"
        self._origin = stack.home / "origin"
        shutil.rmtree(self._origin, ignore_errors=True)
        shutil.copytree(REPO / "bench" / folder, self._origin)
        for file in self._origin.rglob("*"):
            if file.is_file():
                file.write_text(file.read_text().replace("localhost:5000", stack.registry))
        git(self._origin, "init", "--quiet", "--initial-branch", "main")
        commit_all(self._origin, "The bench's containers")

    def check_out(self, change: dict[str, str], among: list[str]) -> None:
        """A fresh clone in which `change` (file name → line) is appended in each of these containers and committed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        git(self._origin, "clone", "--quiet", str(self._origin), str(self.folder))
        for file, line in change.items():
            for container in among:
                with (self.folder / "containers" / container / file).open("a") as text:
                    text.write(line + "\n")
        if change:
            commit_all(self.folder, "A change in each container")

    def revert(self) -> None:
        """Takes the last commit back by a new one."""
        git(self.folder, "revert", "--no-edit", "HEAD")
