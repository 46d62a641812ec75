"""What pyproject.toml cannot say: a wheel has the demo's contracts, which are the folder ``assets`` of the project."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_ROOT = Path(__file__).parent


class BuildWithDemo(build_py):
    """The usual build, with ``assets`` as ``mesh_pipelines/demo/assets``."""

    def run(self) -> None:
        """Build, then copy; an installation in place reads ``assets`` itself."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(
                _ROOT / "assets",
                Path(self.build_lib) / "mesh_pipelines" / "demo" / "assets",
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )


setup(cmdclass={"build_py": BuildWithDemo})
