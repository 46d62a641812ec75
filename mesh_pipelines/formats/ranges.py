"""Which days, times and instants a column can hold: those that Python and the engines of the tables hold, too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mesh_pipelines.arrow_compute import pc

DAY_US = 86_400_000_000
# Days and microseconds from 1970 to the first of January of the years 1 and 10000.
_YEAR_1, _YEAR_10000 = -719_162, 2_932_897
_INSTANTS = (_YEAR_1 * DAY_US, _YEAR_10000 * DAY_US - 1)
RANGES: Mapping[pa.DataType, tuple[int, int]] = {
    pa.date32(): (_YEAR_1, _YEAR_10000 - 1),
    pa.time32("ms"): (0, DAY_US // 1000 - 1),
    pa.time64("us"): (0, DAY_US - 1),
    **{pa.timestamp("us", zone): _INSTANTS for zone in ("UTC", None)},
    **{pa.timestamp("ms", zone): (_INSTANTS[0] // 1000, _INSTANTS[1] // 1000) for zone in ("UTC", None)},
}


def out_of_range(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Which days and instants lie outside the years 1 to 9999, and which times outside a day; None for none of them.

    Arrow holds more, but neither Python nor the engines that read the tables do.
    """
    first, last = RANGES[array.type]
    plain = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    bounds = pc.min_max(plain)
    least, most = bounds["min"].as_py(), bounds["max"].as_py()
    if least is None or first <= least <= most <= last:
        return None
    values = pc.fill_null(plain, 0).to_numpy()
    return (values < first) | (values > last)
