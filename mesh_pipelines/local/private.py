"""Who may read the files of the home folder: their owner, and a group where the settings name one.

A process that works for the mesh narrows what it creates by its umask, which its children have from it: Kafka's log,
the tables, SQLite's and DuckDB's files, logs. So no writer has to think of it, and none can forget. A home folder of an
earlier release is put right once, when a process first meets it: its own mode says whether that was done. Files for
others to read, such as contracts that a command writes, are made under the umask from before.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesh_pipelines.counted import counted
from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.settings import Settings

# What is in a home folder. Of a folder that has none of them, nothing is known, and nothing is changed.
_OURS = (
    *("attempts", "catalog.db", "catalog.db-shm", "catalog.db-wal", "contracts.json", "dagster", "docs", "logs"),
    *("portal.key", "services", "serving.duckdb", "spill", "warehouse"),
)
_before: int | None = None


def keep_private(settings: Settings) -> str | None:
    """Let this process, and what it starts, create files for their owner alone, or the group of the settings.

    Gives a sentence for people where an existing home folder was open to others and is not any more.

    Raises:
        SettingInvalid: there is no such group.
    """
    group = _group(settings.files_group)
    before = os.umask(0o077 if group is None else 0o027)
    global _before
    _before = before if _before is None else _before
    home = settings.home
    if group is not None and not home.exists():
        home.mkdir(parents=True)
        _put_right(home, group)
        return None
    if not _is_ours(home) or _is_right(home, group):
        return None
    wrong = sum(not _is_right(path, group) for path in _inside(home))
    for path in _inside(home):
        _put_right(path, group)
    # At the end: it says that all the others are done.
    _put_right(home, group)
    who = "its owner" if group is None else f"its owner and the group {settings.files_group}"
    inside = counted(wrong, "file or folder", "files and folders")
    return f"{home} and {inside} in it were open to others; now only {who} can read them"


def open_to_others(settings: Settings) -> list[Path]:
    """What in the home folder others than its owner, and the group of the settings, could read if they reach it."""
    group = _group(settings.files_group)
    home = settings.home
    return [path for path in (home, *_inside(home)) if not _is_right(path, group)] if _is_ours(home) else []


@contextmanager
def for_others() -> Generator[None]:
    """What is written in this block is for others too, as far as who started the process lets it be."""
    narrow = os.umask(0o077 if _before is None else _before)
    if _before is None:
        os.umask(narrow)
    try:
        yield
    finally:
        os.umask(narrow)


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise SettingInvalid(
            f"MESH_FILES_GROUP must be a group of this machine, got {name!r}", next_step="name one of: getent group"
        ) from None


def _is_ours(home: Path) -> bool:
    return any((home / name).exists() for name in _OURS)


def _inside(home: Path) -> Iterator[Path]:
    """All files and folders of a home folder that are ours; links are not followed, nor are what they stand for."""
    for top in home.iterdir():
        if top.is_symlink() or not _known(top):
            continue
        yield top
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                path = Path(folder, name)
                if not path.is_symlink():
                    yield path


def _known(top: Path) -> bool:
    return top.name in _OURS or top.suffix in (".db", ".db-shm", ".db-wal", ".duckdb", ".json", ".key")


def _is_right(path: Path, group: int | None) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return True
    if found.st_mode & (0o077 if group is None else 0o027):
        return False
    return group is None or found.st_gid == group


def _put_right(path: Path, group: int | None) -> None:
    """Take from others what they have; the group reads what the owner reads."""
    # What others own, or took away meanwhile, stays as it is.
    with suppress(OSError):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if group is None:
            path.chmod(mode & 0o700)
            return
        os.chown(path, -1, group, follow_symlinks=False)
        shared = (mode & 0o500) >> 3
        # What is created in a folder with this bit is of the folder's group.
        path.chmod(mode & 0o700 | shared | (stat.S_ISGID if path.is_dir() else 0))
