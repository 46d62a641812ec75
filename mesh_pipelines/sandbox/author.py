"""An author's SELECTs, as the process that wants their rows asks for them.

They run in a worker (``worker/``), which reads the files of the views that it is given and no others, sees no secret of
this process, and is killed when it takes too long or needs too much memory. So text that hangs or crashes the engine
costs its author an error and nobody else anything. To interrupt the engine in this process was ruled out: one call of
one function is not interrupted, its value counts towards no limit, and a crash ends everything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any

from mesh_pipelines.engine import View
from mesh_pipelines.sandbox import inside
from mesh_pipelines.settings import Settings
from mesh_pipelines.sql.select import NotReadable
from mesh_pipelines.worker.pool import Limits, Overdue, Worker, WorkerLost, workers

if TYPE_CHECKING:
    import pyarrow as pa

    from mesh_pipelines.contract.model import DataProduct
    from mesh_pipelines.rules.compile import CompiledRule
    from mesh_pipelines.rules.results import RuleResult

# What a worker holds besides the engine's own: the interpreter, its libraries, a batch on its way.
_BESIDES = 900 * 2**20
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
_LIMIT = re.compile(r"([\d.]+) ?(.+)")
# Views are made of what was just read; a worker may first have to start, on a busy machine.
_OPENING_S = 60.0


@dataclass(frozen=True)
class Allowance:
    """What an author may take: seconds for each SELECT, DuckDB's memory limit, and a folder for what is above that."""

    seconds: float = 600.0
    memory: str = "600MB"
    spill: Path = field(default_factory=lambda: Path(gettempdir()))

    @classmethod
    def of(cls, settings: Settings) -> Allowance:
        """What the settings say."""
        return cls(settings.sql_timeout_s, settings.memory_limit, settings.home / "spill")


@dataclass
class Author:
    """Runs the SELECTs of one author over some views, which have one name or a schema's and theirs.

    What readers of the rows do in between costs none of the time. ``invalid`` makes the error that tells the author of
    a fault.
    """

    allowance: Allowance
    views: Mapping[tuple[str, ...], View]
    invalid: Callable[[str], Exception]
    _held: ExitStack = field(init=False, default_factory=ExitStack)

    def __enter__(self) -> Author:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the worker go."""
        self._held.close()

    def columns(self, sql: str, tables: Collection[str]) -> list[str]:
        """The names of the columns that a SELECT over these tables gives.

        Raises:
            Exception: by ``invalid``; it reads anything else, or the engine refuses it.
        """
        return self._call(inside.columns, inside.Text(sql, frozenset(tables)))

    def rows(self, sql: str, tables: Collection[str], projection: str, batch_rows: int) -> pa.RecordBatchReader:
        """The rows of a SELECT over these tables, computed as they are read; the author is closed at their end.

        ``projection`` is SQL of ours: what of the columns to give, "" is all as they are.

        Raises:
            Exception: by ``invalid``, here or while reading; as ``columns``, or it fails, or the time is over.
            duckdb.IOException: the disk fails, here or while reading.
        """
        import pyarrow as pa

        parts = self._stream(inside.rows, inside.Text(sql, frozenset(tables)), projection, batch_rows)
        schema = pa.ipc.open_stream(next(parts)).schema
        batches = (batch for part in parts for batch in pa.ipc.open_stream(part))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def values(self, sql: str, tables: Collection[str]) -> list[tuple[Any, ...]]:
        """The first two rows of a SELECT over these tables; long texts in them are cut.

        Raises:
            Exception: by ``invalid``; as ``columns``, or it fails, or the time is over.
        """
        return self._call(inside.values, inside.Text(sql, frozenset(tables)))

    def expectations(
        self,
        of: tuple[str, int],
        product: DataProduct,
        rules: Sequence[CompiledRule],
    ) -> tuple[RuleResult, ...]:
        """The results of rules that are written as expectations, over a view (its name, its rows).

        Raises:
            Exception: by ``invalid``; the time is over, or the worker was lost.
            ContractInvalid: a query in them reads what it may not.
        """
        return self._call(inside.expectations, *of, product, tuple(rules))

    @cached_property
    def folder(self) -> Path:
        """A folder of the author's alone, which goes when the author is closed."""
        self.allowance.spill.mkdir(parents=True, exist_ok=True)
        return Path(self._held.enter_context(TemporaryDirectory(prefix="author-", dir=self.allowance.spill)))

    @cached_property
    def _worker(self) -> Worker:
        folder = self.folder
        worker = self._held.enter_context(workers().worker())
        terms = inside.Terms(tuple(self.views.items()), self.allowance.memory, str(folder))
        worker.call(replace(self._limits, seconds=_OPENING_S), inside.open_database, terms)
        return worker

    @cached_property
    def _limits(self) -> Limits:
        return Limits(self.allowance.seconds, memory=_worker_memory(self.allowance.memory))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._telling():
            return self._worker.call(self._limits, function, *arguments)

    def _stream(self, function: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        with self, self._telling():
            yield from self._worker.stream(self._limits, function, *arguments)

    @contextmanager
    def _telling(self) -> Generator[None]:
        """Tell the author of what is their own: not of a disk that fails."""
        import duckdb

        try:
            yield
        except duckdb.IOException:
            raise
        except Overdue as error:
            raise self.invalid("the SQL took longer than MESH_SQL_TIMEOUT_S allows and was stopped") from error
        except MemoryError as error:
            raise self.invalid("the SQL needs more memory than MESH_MEMORY_LIMIT allows") from error
        except WorkerLost as error:
            raise self.invalid(f"the SQL {error}") from error
        except NotReadable as error:
            raise self.invalid(f"the SQL {error}") from error
        except duckdb.Error as error:
            raise self.invalid(str(error).strip()) from error


def _worker_memory(limit: str) -> int:
    """The most bytes that a worker may hold: half as much again as the engine's limit, which spills above that."""
    amount, unit = _LIMIT.fullmatch(limit).groups()  # type: ignore[union-attr]
    if unit == "%":
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return int(float(amount) / 100 * physical * 1.5) + _BESIDES
    step = 1024 if "i" in unit else 1000
    return int(float(amount) * step ** _UNITS[unit[0]] * 1.5) + _BESIDES
