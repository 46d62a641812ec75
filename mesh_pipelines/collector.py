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


def collect_rarely() -> None:
    """Let more objects gather between collections: a command is made of modules that live as long as it does."""
    gc.set_threshold(100_000, 20)


@contextmanager
def collecting_what_is_new() -> Generator[None]:
    """Collections of a block leave out what was alive before it: looking through all modules takes a tenth of a second.

    Where something is left out already, it stays as it is.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def spare_what_is_alive() -> None:
    """Leave all that is alive now out of every collection to come: what lives as long as the process.

    At the end it is given back, since what an extension module made is told as leaked otherwise.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)
