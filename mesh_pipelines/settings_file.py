"""The settings file ``mesh.toml``: found beside the contracts, so that a mesh needs no variables to be set.

It is the file that ``MESH_CONFIG`` names, or else the ``mesh.toml`` of the current folder or of the nearest folder
above it. Keys are the names of settings in lower case, at the top or under ``[mesh]``. Relative paths are relative to
the file, and so are the defaults of ``home`` and ``assets``: a command does the same from every folder of the mesh. The
TOML source of pydantic-settings was ruled out: it drops a misspelt key in silence.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from mesh_pipelines.errors import SettingInvalid

NAME = "mesh.toml"
_VARIABLE = "MESH_CONFIG"
_TABLE = "mesh"
_PATHS = ("home", "assets", "cache", "openlineage_file", "warehouse")
# Not looked for from the folder that the command runs in, where there is a file.
_BESIDE = {"home": ".mesh", "assets": "assets"}


class SettingsFile(PydanticBaseSettingsSource):
    """The settings of the file, as a source for pydantic-settings."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One setting: not asked, since the file is read as a whole."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """The file's settings by name; nothing if there is no file.

        Raises:
            SettingInvalid: the file cannot be read, or has a key that is not a setting.
        """
        file = find(Path.cwd(), os.environ.get(_VARIABLE))
        return read(file, self.settings_cls.model_fields) if file else {}


def find(folder: Path, named: str | None) -> Path | None:
    """The settings file for a command that runs in a folder, ``named`` being what ``MESH_CONFIG`` says.

    Raises:
        SettingInvalid: the file that is named does not exist.
    """
    if named:
        file = folder / Path(named).expanduser()
        if not file.exists():
            raise SettingInvalid(
                f"{_VARIABLE} names {file}, which does not exist", next_step=f"unset {_VARIABLE}, or create the file"
            )
        # The null device says: no file at all.
        return file if file.is_file() else None
    return next((file for one in (folder, *folder.parents) if (file := one / NAME).is_file()), None)


def read(file: Path, names: Mapping[str, object]) -> dict[str, Any]:
    """The settings of a file, by name.

    Raises:
        SettingInvalid: it is not TOML, or has a key that is not one of ``names``.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingInvalid(f"{file} cannot be read: {error}", next_step="see docs/settings.md") from None
    given = {**document, **_table(file, document)}
    given.pop(_TABLE, None)
    for key in given:
        if key not in names or key == "config":
            raise _unknown(file, key, [name for name in names if name != "config"])
    folder = file.parent.absolute()
    settings = {key: _value(folder, key, value) for key, value in given.items()}
    return {"config": file.absolute(), **{key: folder / name for key, name in _BESIDE.items()}, **settings}


def _table(file: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
    table = document.get(_TABLE, {})
    if not isinstance(table, Mapping):
        raise SettingInvalid(f"{file}: {_TABLE} must be a table, got {table!r}", next_step=f"write [{_TABLE}]")
    return table


def _unknown(file: Path, key: str, names: list[str]) -> SettingInvalid:
    near = difflib.get_close_matches(key.lower().removeprefix("mesh_"), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return SettingInvalid(f"{file}: {key!r} is not a setting{hint}", next_step="docs/settings.md lists the settings")


def _value(folder: Path, key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(_flat(value))
    if key in _PATHS and isinstance(value, str) and "://" not in value:
        return str(folder / Path(value).expanduser())
    return value


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Client properties by their whole name: ``sasl.username = "x"`` is a table in a table to TOML."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
