"""The wheel as others install it: complete, and at work in an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NOT_SHIPPED = {".c", ".h"}

pytestmark = [pytest.mark.slow]


def tracked(*folders: str) -> list[str]:
    """Files of the project as they are in the working tree, known to git or new."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of its files; without the C extension, which is optional."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked(
        "mesh_pipelines", "assets", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", built, source],
        env={**os.environ, "CC": "false", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=True,
        timeout=240,
    )
    [found] = built.glob("*.whl")
    return found


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in an empty folder, where the wheel's content is the package; its libraries are the test's."""
    site, folder = tmp_path / "site", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    folder.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**variables, "PYTHONPATH": str(site), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run("-c", "import mesh_pipelines; print(mesh_pipelines.__file__)").stdout.startswith(str(site))
    return run


def test_the_wheel_has_every_file_of_the_package_and_the_demos_contracts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {name for name in tracked("mesh_pipelines") if Path(name).suffix not in _NOT_SHIPPED}
    demo = {f"mesh_pipelines/demo/{name}" for name in tracked("assets")}
    assert len(demo) > 10
    assert package | demo <= packed
    assert {Path(name).suffix for name in packed - package - demo} <= _NOT_SHIPPED | {".so"}


def test_a_mesh_begins_in_an_empty_folder(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    helped = installed("-m", "mesh_pipelines", "--help")
    assert (helped.returncode, "Create data products:" in helped.stdout) == (0, True)
    made = installed("-m", "mesh_pipelines", "init", "shop/orders")
    assert made.stdout.splitlines()[:-1] == ["wrote assets/shop/orders/contract.yaml", "wrote mesh.toml"], made.stderr
    again = installed("-m", "mesh_pipelines", "init", "shop/returns")
    assert "mesh.toml" not in again.stdout
    linted = installed("-m", "mesh_pipelines", "lint")
    assert (linted.returncode, linted.stdout.split()[:2]) == (0, ["2", "contracts"]), linted.stdout + linted.stderr
    below = "import os; os.chdir('assets/shop'); from mesh_pipelines.cli.main import invoke; invoke(['lint'])"
    assert installed("-c", below).stdout == linted.stdout


def test_the_demo_brings_its_contracts(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    provide = (
        "from pathlib import Path; from mesh_pipelines.demo.contracts import provide; "
        "print(len(provide(Path('assets'))))"
    )
    assert installed("-c", provide).stdout.strip() == str(len(tracked("assets")))
    linted = installed("-m", "mesh_pipelines", "lint")
    assert (linted.returncode, linted.stdout.split()[:2]) == (0, ["6", "contracts"]), linted.stdout + linted.stderr
    assert installed("-c", provide).stdout.strip() == "0"


def test_the_demo_leaves_other_contracts_alone(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert installed("-m", "mesh_pipelines", "init", "shop/orders").returncode == 0
    refused = installed("-m", "mesh_pipelines", "demo", "--once")
    assert (refused.returncode, refused.stderr.split()[0]) == (2, "M200")
    assert "operations.flights" in refused.stderr
