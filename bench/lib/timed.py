"""Runs a command and measures it: seconds, exit code, peak memory. Every child ends with the bench."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Timed:
    started: float  # seconds since the epoch
    seconds: float
    code: int
    peak_kib: int  # VmHWM of the process itself, not of its children
    log: Path


def run(command: list[str], *, cwd: Path, env: dict[str, str], log: Path, limit: float) -> Timed:
    """`limit`: seconds after which the command and all that it has started is killed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        started, clock = time.time(), time.monotonic()
        child = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        peak = _Peak(child.pid)
        # Python's own wait with a limit looks every 50 ms only.
        late = threading.Timer(limit, child.kill)
        late.start()
        try:
            code = child.wait()
        finally:
            seconds = time.monotonic() - clock
            late.cancel()
            _end(child)
    return Timed(started, seconds, code, peak.stop(), log)


def _end(child: subprocess.Popen) -> None:
    """Kills what is left of the child's process group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


class _Peak:
    """Samples a process's high-water mark. getrusage would not do: it starts from this interpreter's own size."""

    EVERY = 0.05

    def __init__(self, pid: int):
        self._status = Path(f"/proc/{pid}/status")
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(self.EVERY):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            self._peak = max([self._peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))])

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak
