"""Where tests are: in a folder named after a package or another thing that is tested, each under its own name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mesh_pipelines

TESTS = Path(__file__).parents[1]
PACKAGE = Path(mesh_pipelines.__file__).parent
# What is tested and is no package: files beside the package, and what holds for all of it.
OTHERS = {"attacks", "benchmarks", "docs", "faults", "packaging", "settings", "structure"}


def test_a_folder_of_tests_has_the_name_of_a_package() -> None:
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert {file.relative_to(TESTS).parts[0] for file in TESTS.glob("*/**/test_*.py")} <= packages | OTHERS


def test_no_two_files_of_tests_have_one_name() -> None:
    names = Counter(file.name for file in TESTS.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []
