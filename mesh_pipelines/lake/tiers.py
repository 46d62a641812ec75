"""Which of a table's data files are worth merging, by their sizes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile

# Files of this many rows are as good as they get.
BIG_ROWS = 200_000
# Files of like size are merged when there are four of them, so a row is rewritten some nine times on its way from a
# commit of its own to a file that stays, and at most three files of each of nine sizes are left over.
TIER = 4


def worth_merging(files: Sequence[DataFile]) -> list[DataFile]:
    """The files of every size of which there are enough: size-tiered compaction, as log-structured stores do it."""
    tiers: dict[int, list[DataFile]] = {}
    for file in files:
        if file.record_count < BIG_ROWS:
            tiers.setdefault(int(math.log(max(1, file.record_count), TIER)), []).append(file)
    return [file for tier in tiers.values() if len(tier) >= TIER for file in tier]
