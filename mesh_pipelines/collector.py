"""The cyclic garbage collector, kept out of the way of code that makes many objects and no cycles that matter."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Generator[None]:
    """The collector off for a block: it looks through all that is new again and again, and finds next to nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def spare_what_is_alive() -> None:
    """Leave all that is alive now out of every collection to come: what lives as long as the process.

    At the end it is given back, since what an extension module made is told as leaked otherwise.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)
