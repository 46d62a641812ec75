import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_pipelines.collector import collecting_what_is_new, without_collector

ROOT = Path(__file__).parents[1]
LOADED = """
import gc
from mesh_pipelines.orchestration.definitions import of_folder
definitions = of_folder("assets/operations/definitions.py")
print(len(definitions.get_repository_def().assets_defs_by_key), gc.get_freeze_count(), gc.isenabled())
"""


def test_the_collector_is_as_it_was_after_the_block_whatever_happened() -> None:
    with pytest.raises(ValueError, match="inside"), without_collector():
        assert not gc.isenabled()
        with without_collector():
            pass
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled()


def test_what_is_alive_is_spared_for_the_block_and_what_was_spared_stays_so() -> None:
    # A portal that was served in this process has spared what it is made of.
    gc.unfreeze()
    with collecting_what_is_new():
        spared = gc.get_freeze_count()
        assert spared > 10_000
        with collecting_what_is_new():
            pass
        assert gc.get_freeze_count() == spared
    assert gc.get_freeze_count() == 0


def test_a_code_location_is_spared(tmp_path: Path) -> None:
    assets, spared, enabled = _ran(LOADED, tmp_path).split()
    assert int(assets) > 0
    assert int(spared) > 10_000
    assert enabled == "True"


def test_a_process_that_spared_an_extension_module_ends_without_a_word(tmp_path: Path) -> None:
    _ran("import duckdb; from mesh_pipelines.collector import spare_what_is_alive as spare; spare()", tmp_path)


def _ran(code: str, home: Path) -> str:
    given = {**os.environ, "MESH_HOME": str(home), "MESH_ASSETS": str(ROOT / "assets")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout
