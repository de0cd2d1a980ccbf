"""Cache mounts on a fresh runner: a package index that is not asked again, a compiler that has little left to do."""

import base64
import json
import re
from pathlib import Path

from peers import BASE, Peer
from registry import Registry
from scenarios import MOUNTS, Bench, Run
from stack import Stack
from workload import Workload

PEERS = [BASE, "skiff"]
FOLDER = "workload-mounts"
UV = "mounts-uv"
# What uv says of packages that it had to download; those that it has are not named.
_PREPARED = re.compile(r"Prepared (\d+) package")


def measure(stack: Stack, registry: Registry, chosen: list, among: list[Peer], rounds: int, notes: list[str]) -> list[Run]:
    """Of each scenario: a cold run of each peer, which is not counted, and then `rounds` of them with the change."""
    bench = Bench(stack, registry, Workload(stack, FOLDER))
    among = [peer for peer in among if peer.name in PEERS]
    runs = []
    for scenario in [scenario for scenario in MOUNTS if scenario in chosen]:
        for peer in among:
            bench.cold(peer, scenario.cold())
        for turn in range(rounds):
            first = turn % len(among)
            for peer in among[first:] + among[:first]:
                runs.append(bench.warm(scenario, peer))
                if scenario.name == UV:
                    notes.append(f"{peer.title}: uv downloaded {_prepared(bench.last_log)} packages, where one is new")
    return runs


def _prepared(log: Path) -> str:
    """The count in a log: plain text, or buildx's rawjson with its lines in base64."""
    text = log.read_text(errors="replace")
    for line in text.splitlines():
        if line.startswith("{"):
            for part in json.loads(line).get("logs") or []:
                text += base64.b64decode(part["data"]).decode(errors="replace")
    found = _PREPARED.search(text)
    return found[1] if found else "an unknown number of"
