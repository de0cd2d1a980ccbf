"""RESULTS.md from what was measured: medians, ratios to bake, goals, and where the time goes where one is missed."""

from dataclasses import dataclass
from statistics import median

import steps
from compression import COMPRESSIONS, GZIP, CompressionRun
from driver import DRIVERS, FRESH, KEPT, DriverRun
from peers import BASE, Peer
from planning import GIT, PlanRun
from scenarios import SCENARIOS, Run
from transfer import FIRST, SECOND, TransferRun

# The goals: scenario → largest ratio to bake.
GOALS = {"unchanged": 0.03, "source": 0.9, "requirement": 0.85, "one": 1.0, "revert": 0.05, "cold": 0.9}
GOALS |= {"mounts-uv": 0.85, "mounts-ccache": 0.3}
CONTEXT_GOAL = 1.0
MEMORY_GOAL_MIB = 64
PLAN_GOAL_SECONDS, PLAN_GOAL, PLAN_MEMORY_GOAL_MIB = 1.0, 2.5, 200
LONGEST = 8  # steps in a profile


@dataclass
class Measured:
    """Of each kind nothing, if it was not asked for."""

    deploys: list[Run]
    drivers: list[DriverRun]
    compressions: list[CompressionRun]
    transfers: list[TransferRun]
    plans: list[PlanRun]


def render(machine: list[str], notes: list[str], peers: list[Peer], measured: Measured) -> str:
    parts = ["# Results", "*Written by `bench/run`; [README.md](README.md) says what is compared and how.*"]
    parts.append("\n".join(f"- {line}" for line in machine + notes))
    if measured.deploys:
        parts += _deploys(peers, measured.deploys)
    if measured.drivers:
        parts += _drivers(measured.drivers)
    if measured.compressions:
        parts += _compressions(measured.compressions)
    if measured.transfers:
        parts += _transfers(measured.transfers)
    if measured.plans:
        parts += _plans(measured.plans)
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _verdict(ratio: float, goal: float) -> str:
    return f"≤ {goal}: {'met' if ratio <= goal else '**missed**'}"


# ---- deploys ---------------------------------------------------------------------------------------------------------


def _deploys(peers: list[Peer], runs: list[Run]) -> list[str]:
    of = {}
    for run in runs:
        of.setdefault((run.scenario, run.peer), []).append(run)
    names = [name for name in SCENARIOS if any(run.scenario == name for run in runs)]
    parts = ["## Containers on a fresh runner: four, where it does not say one", _seconds_table(peers, names, of)]
    parts += ["Until the release stood in the registry, and what was pulled:", _traffic_table(peers, names, of)]
    for name in names:
        ratio = _ratio(of, name, "skiff")
        if ratio is not None and ratio > GOALS[name]:
            parts += _profiles(name, of)
    return parts


def _seconds(runs: list[Run]) -> float:
    return median(run.seconds for run in runs)


def _ratio(of: dict, scenario: str, peer: str) -> float | None:
    one, base = of.get((scenario, peer)), of.get((scenario, BASE))
    return _seconds(one) / _seconds(base) if one and base else None


def _seconds_table(peers: list[Peer], names: list[str], of: dict) -> str:
    rows = []
    for name in names:
        row = [SCENARIOS[name].title]
        for peer in peers:
            runs, ratio = of.get((name, peer.name)), _ratio(of, name, peer.name)
            cell = f"{_seconds(runs):.1f} s" if runs else "–"
            row.append(cell if ratio is None or peer.name == BASE else f"{cell} ({ratio:.2f})")
        ratio = _ratio(of, name, "skiff")
        row.append("–" if ratio is None else _verdict(ratio, GOALS[name]))
        rows.append(row)
    head = ["median seconds to exit (ratio to bake)", *(peer.title for peer in peers), "goal of skiff"]
    return _table(head, rows)


def _traffic_table(peers: list[Peer], names: list[str], of: dict) -> str:
    rows = []
    for name in names:
        row = [SCENARIOS[name].title]
        for peer in peers:
            runs = of.get((name, peer.name))
            if not runs:
                row.append("–")
                continue
            released = median(run.release_seconds for run in runs)
            gets = median(run.traffic.layer_gets for run in runs)
            megabytes = median(run.traffic.bytes for run in runs) / 1e6
            row.append(f"{released:.1f} s; {gets:.0f} layers, {megabytes:.1f} MB")
        rows.append(row)
    return _table(["median", *(peer.title for peer in peers)], rows)


def _profiles(name: str, of: dict) -> list[str]:
    parts = [f"### Where the time goes: {SCENARIOS[name].title}"]
    for peer in [BASE, "bake-attrs", "skiff"]:
        runs = sorted(of.get((name, peer), []), key=lambda run: run.seconds)
        if not runs:
            continue
        run = runs[(len(runs) - 1) // 2]
        rows = [
            [phase, f"{first:.2f}", f"{last:.2f}", f"{total:.2f}"]
            for phase, (first, last, total) in steps.phases(run.steps).items()
        ]
        parts.append(f"**{peer}**, its run of {run.seconds:.2f} s:")
        parts.append(_table(["phase", "first step begins, s", "last one ends, s", "sum over containers, s"], rows))
        rows = [[_short(step.name), f"{step.started:.2f}", f"{step.seconds:.2f}"] for step in steps.longest(run.steps, LONGEST)]
        parts.append(_table(["longest steps", "begins, s", "takes, s"], rows))
    return parts


def _short(name: str) -> str:
    name = name.replace("|", "\\|")
    return f"`{name}`" if len(name) <= 90 else f"`{name[:89]}…`"


# ---- drivers ---------------------------------------------------------------------------------------------------------


def _drivers(drivers: list[DriverRun]) -> list[str]:
    rows = []
    for what in [FRESH, KEPT]:
        of = [[r.seconds for r in drivers if (r.what, r.driver) == (what, driver)] for driver in DRIVERS]
        cells = [f"{median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})" for seconds in of]
        rows.append([what, *cells, f"{median(of[1]) - median(of[0]):+.1f} s"])
    head = ["median seconds to exit (least to most), a source line in each of four", *DRIVERS, "difference"]
    note = "The container's BuildKit is the engine's own behind a bridge: its start and its store are not in it."
    return ["## skiff by driver", _table(head, rows), note]


# ---- compressions ----------------------------------------------------------------------------------------------------


def _compressions(compressions: list[CompressionRun]) -> list[str]:
    def of(compression: str, what: str) -> list[float]:
        return [getattr(run, what) for run in compressions if run.compression == compression]

    base = {what: median(of(GZIP, what)) for what in ["seconds", "bytes"]}
    rows = []
    for compression in COMPRESSIONS:
        seconds, size = of(compression, "seconds"), median(of(compression, "bytes"))
        took = f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
        cells = [f"{median(seconds) / base['seconds']:.2f}", f"{size / 1e6:.1f} MB", f"{size / base['bytes']:.2f}"]
        rows.append([compression, took, *cells])
    head = ["a layer of numpy, pandas and scikit-learn", "median of export and push (least to most)", "ratio", "pushed", "ratio"]
    return ["## Compressions", _table(head, rows)]


# ---- context transfer ------------------------------------------------------------------------------------------------


def _transfers(transfers: list[TransferRun]) -> list[str]:
    def middle(which: str, peer: str, what: str) -> float:
        return median(getattr(run, what) for run in transfers if (run.which, run.peer) == (which, peer))

    rows = []
    for which in [FIRST, SECOND]:
        for what, title in [("context_seconds", "the builder's step"), ("seconds", "command to exit")]:
            buildx, skiff = middle(which, "buildx", what), middle(which, "skiff", what)
            ratio = skiff / buildx
            verdict = _verdict(ratio, CONTEXT_GOAL)
            rows.append([f"{which} transfer, {title}", f"{buildx:.2f} s", f"{skiff:.2f} s", f"{ratio:.2f}", verdict])
    peak = max(run.peak_kib for run in transfers if run.peer == "skiff") / 1024
    memory = f"skiff's peak memory (VmHWM) over all of these: {peak:.0f} MiB; {_verdict(peak, MEMORY_GOAL_MIB)} (MiB)."
    head = ["median", "docker buildx build", "skiff", "ratio", "goal"]
    return ["## A context of 1 GB in 20,000 files", _table(head, rows), memory]


# ---- plans -----------------------------------------------------------------------------------------------------------


def _plans(plans: list[PlanRun]) -> list[str]:
    def middle(what: str) -> float:
        return median(run.seconds for run in plans if run.what == what)

    git = middle(GIT)
    rows = [[GIT, f"{git:.2f} s", "", ""]]
    for what in dict.fromkeys(run.what for run in plans if run.what != GIT):
        seconds, ratio = middle(what), middle(what) / git
        peak = max(run.peak_kib for run in plans if run.what == what) / 1024
        goals = [_verdict(seconds, PLAN_GOAL_SECONDS) + " (s)", _verdict(ratio, PLAN_GOAL) + f" ({ratio:.2f} × {GIT})"]
        goals.append(_verdict(peak, PLAN_MEMORY_GOAL_MIB) + " (MiB)")
        rows.append([what, f"{seconds:.2f} s", f"{peak:.0f} MiB", "; ".join(goals)])
    head = ["median, warm file cache", "seconds", "peak memory", "goals"]
    return ["## A plan over 1,000 containers and 200,000 files of 4 KiB", _table(head, rows)]
