"""What a locked catalog, a full disk or a lost file system does to a step: one transient error that names it.

pyiceberg, SQLAlchemy, Arrow and DuckDB each report these in a way of their own. None of them leaves a table half
written: a commit is one statement of the catalog, and what was written before it is named by nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mesh_pipelines.errors import MeshError, StorageUnavailable

P = ParamSpec("P")
T = TypeVar("T")

# Conditions of the storage, not of the program: a missing file or a wrong argument is none.
_CONDITIONS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE),
    *(errno.EACCES, errno.EPERM),
}


def over_storage(step: Callable[P, T]) -> Callable[P, T]:
    """A step whose storage faults are raised as StorageUnavailable."""

    @wraps(step)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if unavailable := fault_of(error):
                raise unavailable from error
            raise

    return guarded


def fault_of(error: Exception) -> StorageUnavailable | None:
    """What an exception says of the storage; None where it says something else."""
    if isinstance(error, MeshError):
        return None
    import duckdb
    from sqlalchemy.exc import OperationalError

    match error:
        case OperationalError():
            return _unavailable(f"the catalog: {error.orig}")
        case duckdb.IOException():
            return _unavailable(str(error).splitlines()[0])
        case OSError() if error.errno in _CONDITIONS:
            return _unavailable(str(error))
        case _:
            return None


def _unavailable(reason: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"the tables cannot be read or written: {reason}; nothing of this attempt counts",
        next_step="free the disk or the lock, or mend the permissions, then run it again",
    )
