"""The demo's contracts: shipped with the package, and put where a mesh's contracts are kept when the demo first runs.

They are copied, not read where they are installed: every other command then finds them without a setting, and they can
be changed to see what happens. In the project itself they are the folder ``assets``; a wheel has a copy (``setup.py``).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mesh_pipelines.contract.read.contract_file import contract_files
from mesh_pipelines.demo import nyc
from mesh_pipelines.errors import UsageError

_SHIPPED = Path(__file__).parent / "assets"
_PROJECT = Path(__file__).parents[2] / "assets"


def provide(assets: Path) -> list[Path]:
    """Make sure that the demo's contracts are in the assets folder; gives the files that were written.

    Raises:
        UsageError: the folder holds other contracts, which the demo does not mix with its own.
    """
    if not assets.exists():
        shutil.copytree(_shipped(), assets, ignore=shutil.ignore_patterns("__pycache__"))
        return sorted(file for file in assets.rglob("*") if file.is_file())
    missing = [name for name in nyc.products() if not contract_files(assets / name.replace(".", "/"))]
    if missing:
        raise UsageError(
            f"{assets} has no contract of {', '.join(missing)}, which the demo needs",
            next_step="run mesh demo in an empty folder, or set MESH_ASSETS to a folder that does not exist yet",
        )
    return []


def _shipped() -> Path:
    return _SHIPPED if _SHIPPED.exists() else _PROJECT
