"""What a locked catalog, a full disk or a lost file system does to a step: one transient error that names it; and what
a file that is gone or torn does: one that is not transient. One product's lost file stops no other product.

pyiceberg, SQLAlchemy, Arrow and DuckDB each report these in a way of their own. None of them leaves a table half
written: a commit is one statement of the catalog, and what was written before it is named by nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mesh_pipelines.errors import MeshError, StorageUnavailable, TableDamaged

P = ParamSpec("P")
T = TypeVar("T")

# Conditions of the storage, not of the program: a missing file or a wrong argument does not count.
_CONDITIONS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE),
    *(errno.EACCES, errno.EPERM),
}


def over_storage(step: Callable[P, T]) -> Callable[P, T]:
    """A step whose storage faults are raised as StorageUnavailable or TableDamaged."""

    @wraps(step)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if fault := fault_of(error):
                raise fault from error
            raise

    return guarded


def fault_of(error: Exception) -> StorageUnavailable | TableDamaged | None:
    """What an exception says of the storage; None where it says something else."""
    if isinstance(error, MeshError):
        return None
    import duckdb
    from pyarrow import ArrowInvalid
    from sqlalchemy.exc import OperationalError

    reason = next(iter(str(error).splitlines()), "")
    match error:
        case OperationalError():
            return _unavailable(f"the catalog: {error.orig}")
        case FileNotFoundError() | duckdb.InvalidInputException() | duckdb.SerializationException():
            return _damaged(reason)
        case duckdb.IOException() if "No files found" in reason:
            return _damaged(reason)
        case ArrowInvalid() if "Parquet" in reason:
            return _damaged(reason)
        case duckdb.IOException():
            return _unavailable(reason)
        case OSError() if error.errno in _CONDITIONS:
            return _unavailable(str(error))
        case _:
            return None


def _damaged(reason: str) -> TableDamaged:
    return TableDamaged(
        f"a file of the tables is missing or cannot be read: {reason}",
        next_step="mesh rebuild PRODUCT, with --from topic if it is a file of the log",
    )


def _unavailable(reason: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"the tables cannot be read or written: {reason}; nothing of this attempt was kept",
        next_step="free the disk or the lock, or fix the permissions, then run it again",
    )
