"""The made-up past of ``benchmarks/synthetic.py``, for tests of what has to be fast at its size."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def synthetic() -> Callable[..., list[str]]:
    """``synthetic(history, products, days, seed)``: fills an empty history."""
    path = Path(__file__).parents[2] / "benchmarks/synthetic.py"
    spec = importlib.util.spec_from_file_location("benchmark_synthetic", path)
    assert spec
    assert spec.loader
    made: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made.synthetic
