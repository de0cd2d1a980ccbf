"""Who is compared: one command each, run in the checkout. A peer's name is its namespace in the registry."""

from dataclasses import dataclass, field
from pathlib import Path

from stack import Stack
from workload import CONTAINERS


@dataclass
class Peer:
    name: str
    title: str
    base: list[str]  # the command, to which names are added
    everything: list[str] = field(default_factory=list)  # what stands for all names
    env: dict[str, str] = field(default_factory=dict)
    # Where the builder's steps are told: "log" is buildx's rawjson in its output, else a file of skiff's events.
    events: Path | None = None

    def command(self, names: list[str]) -> list[str]:
        return self.base + (self.everything if names == CONTAINERS else names)

    def environment(self, stack: Stack, release: str) -> dict[str, str]:
        where = {"REGISTRY": f"{stack.registry}/{self.name}", "RELEASE": release, "TIMESTAMP": release}
        # One fresh home for all: nobody's settings, nobody's CI.
        keep = {"PATH", "DOCKER_HOST", "DOCKER_CONFIG", "LANG"}
        return {k: v for k, v in stack.env.items() if k in keep} | {"HOME": str(stack.home)} | where | self.env


BASE = "bake"  # ratios are to this one


def peers(stack: Stack, skiff: Path) -> list[Peer]:
    bake = ["docker", "buildx", "bake", "--progress", "rawjson", "--file"]
    local_cache = str(stack.home / "checkout/.docker-cache")
    events = stack.home / "events.ndjson"
    deploy = [str(skiff), "deploy", "--progress", "plain", "--events", str(events)]
    return [
        Peer("legacy", "legacy deploy.sh", ["./deploy.sh"], env={"CACHE": local_cache}),
        Peer("bake", "bake", [*bake, "docker-bake.hcl"]),
        Peer("bake-attrs", "bake + attributes", [*bake, "docker-bake.attrs.hcl"]),
        Peer("skiff", "skiff", deploy, ["--all"], events=events),
    ]
