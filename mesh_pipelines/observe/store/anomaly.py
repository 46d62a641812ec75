"""Whether a number is far from those before it: a modified z-score by median and median absolute deviation.

Iglewicz and Hoaglin, How to Detect and Handle Outliers (ASQC, 1993): unlike mean and standard deviation, neither the
median nor the deviation from it is moved by the outliers that are looked for. A season is not modelled: what is twice
as much every Monday is an anomaly for as long as few Mondays are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

THRESHOLD = 3.5
LEAST = 8
# The 75th percentile of the standard normal distribution: makes the score comparable with a standard deviation.
_SCALE = 0.6745
# The least deviation that is told from noise, as a share of the median: of a series that hardly varies, every wiggle
# would be an outlier otherwise.
_FLOOR = 0.05


def score(value: float, before: Sequence[float]) -> float:
    """How far a value is from those before it; 0 at their median, negative below it."""
    middle = median(before)
    deviation = median(abs(one - middle) for one in before)
    return _SCALE * (value - middle) / max(deviation, _FLOOR * abs(middle), 1.0)


def is_anomalous(value: float, before: Sequence[float]) -> bool:
    """Whether a value is an outlier among those before it; never, where they are fewer than ``LEAST``."""
    return len(before) >= LEAST and abs(score(value, before)) > THRESHOLD
