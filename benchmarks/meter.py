"""What a piece of work costs the process that does it: seconds, CPU seconds of all its threads and children, memory.

The peak is that of the process alone, from its own high-water mark: what ``getrusage`` gives on Linux is at least the
size of the process that started it. Of children (a JVM) the CPU so far and the peaks are added.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


class Meter:
    """Running from when it is made until ``stop``."""

    def __init__(self) -> None:
        self._cpu = _cpu_seconds()
        self._began = time.perf_counter()

    def stop(self, rows: int) -> None:
        """Print what was measured as the process's last line, for the process that started it."""
        seconds, cpu = time.perf_counter() - self._began, _cpu_seconds() - self._cpu
        print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "peak_mb": _peak_mb()}), flush=True)


def _cpu_seconds() -> float:
    used = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            used += times.user + times.system
    return used


def _peak_mb() -> float:
    if sys.platform != "linux":
        unit = 1024 if sys.platform == "darwin" else 1
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024
    pids = ["self", *(child.pid for child in psutil.Process().children(recursive=True))]
    return sum(map(high_water_mb, pids))


def high_water_mb(pid: int | str) -> float:
    """The peak memory of a process that runs, where there is a ``/proc``; 0 elsewhere."""
    return _high_water_kb(Path(f"/proc/{pid}/status")) / 1024


def _high_water_kb(status: Path) -> int:
    with suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
