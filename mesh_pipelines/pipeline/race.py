"""Several runs of one product at a time: who loses a commit looks at what is there now, and goes on from that.

A lost commit keeps nothing of its attempt, so trying again is safe: it reads the position, the newest candidate and the
pointer again. Mostly the other run has done what was asked for, and the second look finds nothing left to do. The tries
are few: a product whose commits are lost again and again has more writers than it should have, and says so (M403).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mesh_pipelines.errors import ConcurrentWriter

T = TypeVar("T")

_TRIES = 6
# Waits are random, so that two losers do not meet again, and double: at most 0.05, 0.1, ... 0.8 seconds.
_PAUSE_S = 0.05


def outlast(attempt: Callable[[], T]) -> tuple[T, int]:
    """What ``attempt`` gives, tried again where another writer committed first; second, how often it lost.

    Raises:
        ConcurrentWriter: it lost every time.
    """
    for lost in range(_TRIES - 1):
        try:
            return attempt(), lost
        except ConcurrentWriter:
            time.sleep(random.uniform(0, _PAUSE_S * 2**lost))
    return attempt(), _TRIES - 1
