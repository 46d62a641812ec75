"""Numbers of things in words, as people write them: 1 fault, 2,000 faults."""

from __future__ import annotations


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what it is of; ``several`` is what ``one`` is for another number than one, by default with an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
