"""What a locked catalog, a full disk or a lost file system does to a step: one transient error that names it.

pyiceberg, SQLAlchemy, Arrow and DuckDB each report these in a way of their own. None of them leaves a table half
written: a commit is one statement of the catalog, and what was written before it is named by nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mesh_pipelines.errors import StorageUnavailable

P = ParamSpec("P")
T = TypeVar("T")

# Conditions of the storage, not of the program: a missing file or a wrong argument is none.
_CONDITIONS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE}


def over_storage(step: Callable[P, T]) -> Callable[P, T]:
    """A step whose storage faults are raised as StorageUnavailable."""

    @wraps(step)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        import duckdb
        from sqlalchemy.exc import OperationalError

        try:
            return step(*args, **kwargs)
        except OperationalError as error:
            raise _unavailable(f"the catalog: {error.orig}") from error
        except duckdb.IOException as error:
            raise _unavailable(str(error).splitlines()[0]) from error
        except OSError as error:
            if error.errno not in _CONDITIONS:
                raise
            raise _unavailable(str(error)) from error

    return guarded


def _unavailable(reason: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"the tables cannot be read or written: {reason}; nothing of this attempt counts",
        next_step="free the disk or the lock, then run it again",
    )
