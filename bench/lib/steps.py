"""Where a run's time goes: the builder's steps, from buildx's `--progress rawjson` or from skiff's events."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_BRACKET = re.compile(r"^\[([^\]]*)\] (.*)$")
# In bake's output the container's name is put into the bracket, or in front of a name without one.
_PHASES = [
    ("sources", re.compile(r"load (build|\.docker|local|metadata)|internal\] load")),
    ("cache import", re.compile(r"importing cache")),
    ("base image", re.compile(r"FROM ")),
    ("run and copy", re.compile(r"\b(RUN|COPY|ADD|WORKDIR)\b")),
    ("cache export", re.compile(r"exporting cache")),
    ("image export and push", re.compile(r"exporting to|pushing|export")),
]


@dataclass
class Step:
    name: str
    started: float  # both in seconds after the run's start
    ended: float
    cached: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def phase(self) -> str:
        return next((phase for phase, pattern in _PHASES if pattern.search(self.name)), "other")


def from_rawjson(log: Path, run_started: float) -> list[Step]:
    """The builder begins and completes a vertex more than once: when its cache key is asked for, and when it runs."""
    steps = {}
    for record in _records(log):
        for vertex in record.get("vertexes") or []:
            if vertex.get("started") and vertex.get("completed"):
                started, ended = (_epoch(vertex[at]) - run_started for at in ["started", "completed"])
                step = steps.setdefault(vertex["digest"], Step(vertex["name"], started, ended, False))
                step.started, step.ended = min(step.started, started), max(step.ended, ended)
                step.cached = vertex.get("cached", False)
    return list(steps.values())


def from_events(events: Path, run_started: float) -> list[Step]:
    """skiff's steps, and what it does besides them as steps of their own."""
    steps = []
    numbered: dict[tuple[str, int], Step] = {}
    finished, released = 0.0, 0.0
    for event in _records(events):
        now = _epoch(event["time"]) - run_started
        match event["event"]:
            case "run_started":
                steps.append(Step("skiff: start until it knows what to do", 0, now, False))
            case "step_started":
                name = f"[{event['container']}] {event['name']}"
                numbered[event["container"], event["step"]] = Step(name, now, now, False)
            # Progress may follow the end that was told first: that of the question for the cache key.
            case "step_progress" | "step_finished":
                step = numbered.get((event["container"], event["step"]))
                if step:
                    step.ended = now
                    step.cached |= event.get("cached", False)
            case "container_verified":
                finished = now
            case "tagged":
                released = now
            case "cache_exported":
                name = f"[{event['container']}] exporting cache, after the release"
                steps.append(Step(name, now - event["seconds"], now, False))
    if released:
        steps.append(Step("skiff: tags and channels", finished, released, False))
    return [*numbered.values(), *steps]


def phases(steps: list[Step]) -> dict[str, tuple[float, float, float]]:
    """Phase → (first start, last end, sum of seconds); those of several containers overlap."""
    of = {}
    for step in sorted(steps, key=lambda step: step.started):
        first, last, total = of.get(step.phase, (step.started, 0.0, 0.0))
        of[step.phase] = (first, max(last, step.ended), total + step.seconds)
    return of


def longest(steps: list[Step], count: int) -> list[Step]:
    return sorted(steps, key=lambda step: -step.seconds)[:count]


def context_seconds(steps: list[Step]) -> float | None:
    """The longest transfer of a build context."""
    return max((step.seconds for step in steps if "load build context" in step.name), default=None)


def _records(file: Path) -> list[dict]:
    """One JSON object a line; other lines are somebody's warnings."""
    records = []
    for line in file.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            records.append(json.loads(line))
    return records


def _epoch(time: str) -> float:
    """RFC 3339 with up to nine digits of a second, of which Python reads six."""
    time = re.sub(r"(\.\d{6})\d+", r"\1", time).replace("Z", "+00:00")
    return datetime.fromisoformat(time).timestamp()
