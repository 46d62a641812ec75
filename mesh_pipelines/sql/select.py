"""What a SELECT that a person wrote reads: found in its syntax tree, before anything runs.

Queries, rules and transforms are all one SELECT over products named ``domain.product``, and this is the one place that
says so. Whatever else could stand after FROM (a file's name, a function that reads, a system table) is refused, whether
or not the engine could reach it. Names of common table expressions are resolved by their scope, so that none lends its
name to a table elsewhere. The text is kept as it was written: generating SQL again from the tree was ruled out, since a
generator rewrites functions into its idea of the dialect and so can change what a query means.

Two parsers may read one text differently. So the engine asks its own parser the same questions before it runs a text
(``engine.py``); what is here needs no engine, and so tells an author offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mesh_pipelines.worker.pool import Overdue, WorkerLost, guarded

# Far above any transform that a person can review; parsing takes a second at this length.
MAX_CHARACTERS = 100_000
# Series and lists in the query itself: the only functions whose rows come from nowhere else.
SERIES = frozenset({"range", "generate_series", "unnest"})
# By name: who asks needs no parser.
_PARSE = "mesh_pipelines.sql.parse:parse_select"
# Seconds of CPU; the longest text that is read takes one.
_PARSE_S = 3
# Texts that are known; a mesh's rules and transforms, each asked for again and again.
_VERDICTS = 5000


class NotReadable(ValueError):
    """The text is not one SELECT over products; the message is what it does, after "the query" or "it"."""


@dataclass(frozen=True)
class Place:
    """Where the text names a table, by the half-open range of characters: in FROM, or before a column's name.

    ``parts`` are its identifiers without quotes; ``aliased`` says that the author gave it another name.
    """

    parts: tuple[str, ...]
    start: int
    end: int
    aliased: bool = False

    @property
    def name(self) -> str:
        """As products are called, ``domain.product``: the engine does not look at the case of names."""
        return ".".join(self.parts).lower()


@dataclass(frozen=True)
class Select:
    """One SELECT: its text without closing semicolons, the tables it reads, and where columns name their table.

    ``expressions`` are the names of its common table expressions, in lower case.
    """

    text: str
    tables: tuple[Place, ...]
    qualifiers: tuple[Place, ...]
    expressions: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """The tables it reads, each once."""
        return frozenset(table.name for table in self.tables)


def read_select(text: str) -> Select:
    """Read a text that must be one SELECT of DuckDB's SQL.

    Tables are given by one identifier or by two; what they may be is for the caller to say. It is parsed in a worker:
    a parser tries a text of a hundred characters in more ways than there is time for.

    Raises:
        NotReadable: it does not parse, is not one SELECT, calls what reaches outside its rows, or reads a file, a
            function's rows or another database.
    """
    found = _verdict(text)
    if isinstance(found, str):
        raise NotReadable(found)
    return found


@lru_cache(_VERDICTS)
def _verdict(text: str) -> Select | str:
    """The SELECT, or why it is not readable."""
    try:
        return guarded(_PARSE, text, cpu=_PARSE_S)
    except NotReadable as error:
        return str(error)
    except Overdue:
        return "takes too long to parse; write it with less nesting"
    except WorkerLost as error:
        return f"cannot be parsed: it {error}"
