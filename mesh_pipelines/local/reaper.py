"""Ends what a supervisor has started, after it was killed outright: run as a process of its own, by file name.

It reads ``+pid`` and ``-pid`` lines of session leaders from its standard input, whose other end only the supervisor
holds. When that closes without an ``end``, every process of those sessions is killed: children of children too, which
a death signal of the parent does not reach. It imports nothing of this package, so that it starts in no time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def main() -> None:
    """Read until the supervisor is gone."""
    leaders: set[int] = set()
    for line in sys.stdin:
        word = line.strip()
        if word == "end":
            return
        if word.startswith("+"):
            leaders.add(int(word[1:]))
        elif word.startswith("-"):
            leaders.discard(int(word[1:]))
    # What a process starts while others are looked for is found by the next look.
    for _ in range(10):
        if not kill(leaders):
            return


def kill(leaders: set[int]) -> bool:
    """Kill all processes of these sessions; whether there were any."""
    found = [pid for pid in processes() if _session(pid) in leaders]
    for pid in found:
        _kill(os.kill, pid)
    for leader in leaders:
        _kill(os.killpg, leader)
    return bool(found)


def processes() -> list[int]:
    """The numbers of all processes, where the system lists them."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc/self") else []


def _session(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # Its name, in brackets, may have anything in it.
            state, _, _, session = file.read().rpartition(")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state == "Z" else int(session)


def _kill(how: Callable[[int, int], None], number: int) -> None:
    try:
        how(number, signal.SIGKILL)
    except OSError:
        return


if __name__ == "__main__":
    main()
