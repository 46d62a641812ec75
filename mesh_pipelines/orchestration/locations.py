"""Which code locations Dagster is to load, a domain each, and what each was loaded from.

What a location was loaded from is a level: its contracts' files, its Python files and the contracts applied last. It is
kept beside the workspace file, so whoever looks later sees what has changed since, whenever that was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh_pipelines.contract.names import fqn, location
from mesh_pipelines.contract.read.load import product_files, product_folders
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

_LOADED = "loaded.json"
_LOADER = """\
from mesh_pipelines.orchestration.definitions import domain_definitions

defs = domain_definitions({domain!r})
"""


@dataclass(frozen=True)
class Location:
    """A domain's code location: the domain's folder, the Python file that is loaded, and a digest of what its
    definitions are made of.
    """

    domain: str
    file: str
    digest: str


class Locations:
    """The code locations of one home folder, by name: that of the domain, or what stands for it (contract/names.py)."""

    def __init__(self, settings: Settings) -> None:
        self._assets = settings.assets
        self._home = settings.home / "dagster"
        # Only what was applied is asked of it, which needs no contract to be read.
        self._platform = Platform(settings, {})

    @property
    def workspace(self) -> Path:
        """Dagster's workspace file."""
        return self._home / "workspace.yaml"

    def now(self) -> dict[str, Location]:
        """Those that the domains with a contract make now."""
        found = _products(self._assets)
        names = [name for products in found.values() for name in products]
        applied = self._platform.applied_hashes(names) if names else {}
        return {
            location(domain): Location(
                domain,
                str(self._file(domain)),
                _digest([*_stamps(self._assets / domain), *(f"{name} {applied.get(name)}" for name in products)]),
            )
            for domain, products in found.items()
        }

    def loaded(self) -> dict[str, Location]:
        """Those that Dagster was last told to load, as they were then."""
        kept = json.loads((self._home / _LOADED).read_text(encoding="utf-8"))
        return {name: Location(**one) for name, one in kept.items()}

    def write(self, locations: Mapping[str, Location]) -> None:
        """Tell Dagster to load these; what told it to load domains that are gone goes."""
        self._home.mkdir(parents=True, exist_ok=True)
        loaders = {self._loader(one.domain): one.domain for one in locations.values()}
        for stale in {*self._home.glob("*_location.py")} - loaders.keys():
            stale.unlink()
        for loader, domain in loaders.items():
            _replace(loader, _LOADER.format(domain=domain))
        entries = [
            {"python_file": {"relative_path": one.file, "location_name": name}}
            for name, one in sorted(locations.items())
        ]
        # JSON is YAML, and quotes what needs quoting.
        _replace(self.workspace, json.dumps({"load_from": entries}, indent=2) + "\n")
        _replace(self._home / _LOADED, json.dumps({name: asdict(one) for name, one in locations.items()}))

    def _file(self, domain: str) -> Path:
        """A domain's own ``definitions.py`` where it has one, else a loader of its contracts alone."""
        own = self._assets / domain / "definitions.py"
        return own if own.exists() else self._loader(domain)

    def _loader(self, domain: str) -> Path:
        return self._home / f"{location(domain)}_location.py"


def _products(assets: Path) -> dict[str, list[str]]:
    """The products that have files, sound or not, as ``domain.name``, by the domain's folder."""
    found: dict[str, list[str]] = {}
    for folder in product_folders(assets):
        found.setdefault(folder.parent.name, []).append(fqn(folder.parent.name, folder.name))
    return found


def _stamps(folder: Path) -> list[str]:
    """A line for each file that the definitions of a domain are made of; it changes with the file."""
    made_of = (one / name for one in folder.iterdir() if one.is_dir() for name in product_files(one))
    files = [*made_of, *folder.rglob("*.py")]
    return sorted(f"{file} {stamp}" for file in files if (stamp := _stamp(file)))


def _stamp(file: Path) -> str | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return f"{found.st_mtime_ns} {found.st_size}"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def _replace(file: Path, text: str) -> None:
    """Write a file at once: Dagster's processes read these whenever they like."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)
