"""Names for columns and products, each once: what an import calls that which others call otherwise."""

from __future__ import annotations

import re

from mesh_pipelines.contract.names import NAME, column_name

_LONGEST = 63


class Names:
    """Gives names that are valid and not taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, written: str, otherwise: str) -> str:
        """A name for what is called so; ``otherwise`` where nothing of that can be kept."""
        name = written if NAME.fullmatch(written) else _readable(written) or otherwise
        free, number = name, 1
        while free in self._taken:
            number += 1
            free = f"{name[: _LONGEST - len(str(number)) - 1]}_{number}"
        self._taken.add(free)
        return free


def _readable(written: str) -> str | None:
    if name := column_name(written):
        return name
    # It begins with a digit, or has letters of other scripts: what is left of it with a letter before.
    plain = re.sub(r"[^a-z0-9]+", "_", written.lower()).strip("_")
    return f"n_{plain}"[:_LONGEST] if plain else None
