"""Column lineage: what it says of many shapes of SQL, and that what it does not name does not matter to DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.column_lineage import Influence, SourceColumn, lineage
from mesh_pipelines.contract.model import (
    About,
    Alignment,
    DataProduct,
    EventType,
    Field,
    FieldType,
    Kind,
    TopicSettings,
    Transform,
)

INT = FieldType(Kind.INT)
POINT = FieldType(Kind.STRUCT, fields=(Field("x", INT), Field("y", INT)))
ORDERS = {"id": INT, "a": INT, "Big": INT, "at": POINT, "tags": FieldType(Kind.LIST, items=INT)}
ITEMS = {"id": INT, "c": INT}


def product(name: str, fields: Mapping[str, FieldType], transform: str = "") -> DataProduct:
    return DataProduct(
        domain="shop",
        name=name,
        contract_version="1.0.0",
        contract_hash="",
        status="active",
        alignment=Alignment.CONSUMER if transform else Alignment.SOURCE,
        event_type=EventType.MEASUREMENT,
        about=About(),
        owner="ann@example.com",
        team=(),
        tags=(),
        fields=tuple(Field(one, kind) for one, kind in fields.items()),
        rules=(),
        service_levels=(),
        folder=Path("shop") / name,
        topic=None if transform else TopicSettings(f"shop.{name}"),
        transform=Transform(("shop.orders", "shop.items"), transform) if transform else None,
    )


INPUTS = {"shop.orders": product("orders", ORDERS), "shop.items": product("items", ITEMS)}


def short(sources: tuple[SourceColumn, ...] | None) -> str | None:
    return None if sources is None else " ".join(f"{one.product[5]}.{one.column}" for one in sources)


def traced(sql: str, *names: str) -> dict[str, str | None]:
    """Sources by field, as ``o.a i.c``; ``-filter`` and its like for influences, ``-`` where those are unknown."""
    found = lineage(product("made", dict.fromkeys(names, INT), sql), INPUTS)
    assert not set(found.missing) & set(names), found.missing
    influences = {"-": None} if found.influences is None else {f"-{k}": short(v) for k, v in found.influences.items()}
    return {name: short(sources) for name, sources in found.fields.items()} | influences


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a + 1 AS n, 7 AS k FROM shop.orders WHERE id > 1", {"n": "o.a", "k": "", "-filter": "o.id"}),
        ("FROM shop.orders SELECT a AS n", {"n": "o.a"}),
        ("SELECT A AS n, BIG AS m FROM Shop.Orders", {"n": "o.a", "m": "o.Big"}),
        ("SELECT count(*) AS n FROM shop.orders GROUP BY a", {"n": "", "-group": "o.a"}),
        ("SELECT a, sum(big) AS n FROM shop.orders GROUP BY ALL", {"a": "o.a", "n": "o.Big", "-group": "o.a"}),
        (
            "SELECT 1 AS n FROM shop.orders GROUP BY a HAVING max(big) > 1",
            {"n": "", "-group": "o.a", "-filter": "o.Big"},
        ),
        ("SELECT a + 1 AS n, n * 2 AS m FROM shop.orders", {"n": "o.a", "m": "o.a"}),
        ("SELECT at.x AS n, list_transform(tags, t -> t + a) AS m FROM shop.orders", {"n": "o.at", "m": "o.a o.tags"}),
        (
            "SELECT o.* EXCLUDE (at, tags), i.c FROM shop.orders o JOIN shop.items i USING (id)",
            {"id": "o.id", "a": "o.a", "Big": "o.Big", "c": "i.c", "-join": "i.id o.id"},
        ),
        ("SELECT id FROM shop.orders FULL JOIN shop.items USING (id)", {"id": "i.id o.id", "-join": "i.id o.id"}),
        ("SELECT a FROM shop.orders SEMI JOIN shop.items USING (id)", {"a": "o.a", "-join": "i.id o.id"}),
        (
            "SELECT (SELECT max(c) FROM shop.items i WHERE i.id = o.id) AS n FROM shop.orders o",
            {"n": "i.c", "-filter": "i.id o.id"},
        ),
        (
            "SELECT a FROM shop.orders o WHERE EXISTS (SELECT 1 FROM shop.items i WHERE i.id = o.id)",
            {"a": "o.a", "-filter": "i.id o.id"},
        ),
        (
            "WITH r(n, m) AS (SELECT id, c FROM shop.items WHERE c > 1) SELECT n FROM r ORDER BY m",
            {"n": "i.id", "-filter": "i.c", "-sort": "i.c"},
        ),
        (
            "WITH RECURSIVE r AS (SELECT id, a FROM shop.orders UNION ALL SELECT a, id FROM r WHERE a < 3) "
            "SELECT id FROM r",
            {"id": "o.a o.id", "-filter": "o.a o.id"},
        ),
        ("SELECT a AS n FROM shop.orders UNION ALL SELECT c FROM shop.items", {"n": "i.c o.a"}),
        ("SELECT a AS n FROM shop.orders UNION SELECT c FROM shop.items", {"n": "i.c o.a", "-group": "i.c o.a"}),
        ("SELECT a AS n FROM shop.orders UNION ALL BY NAME SELECT c AS n FROM shop.items", {"n": "i.c o.a"}),
        ("SELECT id FROM shop.orders EXCEPT SELECT c FROM shop.items", {"id": "o.id", "-filter": "i.c o.id"}),
        ("SELECT DISTINCT a FROM shop.orders", {"a": "o.a", "-group": "o.a"}),
        ("SELECT DISTINCT ON (id) a FROM shop.orders ORDER BY big", {"a": "o.a", "-group": "o.id", "-sort": "o.Big"}),
        (
            "SELECT a FROM shop.orders QUALIFY row_number() OVER (PARTITION BY id ORDER BY big) = 1",
            {"a": "o.a", "-filter": "o.Big o.id"},
        ),
        ("SELECT row_number() OVER w AS n FROM shop.orders WINDOW w AS (ORDER BY big)", {"n": "o.Big"}),
        ("SELECT n FROM shop.orders, unnest(tags) AS t(n)", {"n": "o.tags", "-join": "o.tags"}),
        ("SELECT v.k, a FROM shop.orders, (VALUES (1), (2)) AS v(k)", {"k": "", "a": "o.a"}),
        # What cannot be placed is unknown, and only where it is needed.
        ("SELECT nowhere AS n, o.a FROM shop.orders o, shop.items", {"n": None, "a": "o.a"}),
        ("SELECT nowhere FROM shop.orders o, shop.items", {"nowhere": None}),
        ("SELECT n, a FROM shop.orders, shop.unheard", {"n": None, "a": "o.a"}),
        ("SELECT u.a AS n, o.a AS m FROM shop.orders o, shop.unheard u", {"n": None, "m": "o.a"}),
        ("SELECT COLUMNS('a.*'), big AS n FROM shop.orders", {"a": None, "n": "o.Big"}),
        ("SELECT a FROM shop.orders WHERE nowhere = 1", {"a": "o.a", "-": None}),
        ("SELECT n FROM shop.orders AS o(m, n)", {"n": None}),
        ("SELECT * FROM (PIVOT shop.orders ON a USING sum(big))", {"n": None, "-": None}),
        ("SELECT a FROM shop.orders NATURAL JOIN shop.items", {"a": "o.a", "-join": "i.id o.id"}),
    ],
)
def test_what_it_says_of(sql: str, expected: dict[str, str | None]) -> None:
    names = [name for name in expected if not name.startswith("-")]
    assert traced(sql, *names) == expected


@pytest.mark.parametrize("sql", ["DELETE FROM shop.orders", "SELECT 1; SELECT 2", "((((", "SELECT '\0'"])
def test_what_does_not_parse_is_unknown(sql: str) -> None:
    found = lineage(product("made", {"n": INT}, sql), INPUTS)
    assert (found.fields, found.influences, found.missing) == ({"n": None}, None, ())


def test_fields_the_query_does_not_give_are_missing() -> None:
    found = lineage(product("made", {"n": INT, "a": INT}, "SELECT a, count(*) AS k FROM shop.orders"), INPUTS)
    assert found.missing == ("n",)
    assert found.fields["n"] is None


def test_the_fields_of_a_stream_are_those_of_its_events() -> None:
    found = lineage(INPUTS["shop.items"], {})
    assert found.fields == {name: (SourceColumn("shop.items", name),) for name in ("id", "c")}
    assert found.influences == {}


# Queries in which every part may or may not depend on every column.
COLUMN = st.sampled_from(["o.id", "o.a", "o.big", "i.id", "i.c"])
VALUE = st.recursive(
    COLUMN,
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("CASE WHEN {} > 2 THEN {} ELSE 0 END".format, inner, inner),
        st.builds("coalesce({}, (SELECT max(c) FROM shop.items WHERE id < {}))".format, inner, inner),
    ),
    max_leaves=2,
)
WHERE = st.one_of(
    st.just(""),
    st.builds("WHERE {} > 1".format, VALUE),
    st.builds("WHERE {} IN (SELECT a FROM shop.orders WHERE big > 1)".format, VALUE),
    st.builds("WHERE EXISTS (SELECT 1 FROM shop.items x WHERE x.c = {})".format, COLUMN),
)
JOIN = st.one_of(
    st.just("JOIN shop.items i ON true"),
    st.builds("LEFT JOIN shop.items i ON i.{} = o.{}".format, st.sampled_from("c"), st.sampled_from(["a", "big"])),
    st.builds("FULL JOIN shop.items i ON i.id <= o.{}".format, st.sampled_from(["a", "id"])),
)
PLAIN = st.builds("SELECT {} AS n, {} AS m FROM shop.orders o {} {}".format, VALUE, VALUE, JOIN, WHERE)
QUERY = st.one_of(
    PLAIN,
    st.builds("SELECT DISTINCT m AS n, 1 AS m FROM ({})".format, PLAIN),
    st.builds("SELECT sum(n) AS n, m FROM ({}) GROUP BY m".format, PLAIN),
    st.builds("SELECT count(*) AS n, 1 AS m FROM ({}) GROUP BY n HAVING min(m) > 1".format, PLAIN),
    st.builds("WITH r AS ({}) SELECT m AS n, n AS m FROM r QUALIFY rank() OVER (ORDER BY m) < 3".format, PLAIN),
    st.builds("{} UNION ALL {}".format, PLAIN, PLAIN),
    st.builds("SELECT n, 0 AS m FROM ({} UNION {})".format, PLAIN, PLAIN),
    st.builds("SELECT m AS n, m FROM ({} EXCEPT {})".format, PLAIN, PLAIN),
)
SMALL = st.integers(0, 4)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE TABLE shop.orders (id INT, a INT, big INT)")
        connection.execute("CREATE TABLE shop.items (id INT, c INT)")
        yield connection


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERY, st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=3, max_size=4), st.lists(SMALL, min_size=4, max_size=4))
def test_a_column_that_is_not_named_changes_nothing(
    engine: duckdb.DuckDBPyConnection, sql: str, rows: list[tuple[int, int, int]], other: list[int]
) -> None:
    found = lineage(product("made", {"n": INT, "m": INT}, sql), INPUTS)
    assert found.influences is not None
    deciding = {source for sources in found.influences.values() for source in sources}

    def fill(changed: SourceColumn | None) -> None:
        orders = [dict(zip(("id", "a", "Big"), row, strict=True)) for row in rows]
        items = [{"id": third, "c": first} for first, _, third in rows]
        for table, filled in (("shop.orders", orders), ("shop.items", items)):
            engine.execute(f"DELETE FROM {table}")
            for row, value in zip(filled, other, strict=False):
                if changed and changed.product == table:
                    row[changed.column] = value
                engine.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", list(row.values()))

    fill(None)
    before = {name: sorted(map(str, engine.execute(f"SELECT {name} FROM ({sql})").fetchall())) for name in "nm"}
    for table, columns in (("shop.orders", ("id", "a", "Big")), ("shop.items", ("id", "c"))):
        for column in columns:
            changed = SourceColumn(table, column)
            unmoved = [name for name in "nm" if changed not in {*(found.fields[name] or ()), *deciding}]
            if unmoved:
                fill(changed)
                for name in unmoved:
                    values = engine.execute(f"SELECT {name} FROM ({sql})").fetchall()
                    assert sorted(map(str, values)) == before[name], (sql, changed, name)


def test_influences_are_told_apart() -> None:
    found = lineage(
        product("made", {"a": INT}, "SELECT a FROM shop.orders JOIN shop.items USING (id) WHERE c = 1 ORDER BY big"),
        INPUTS,
    )
    assert found.influences is not None
    assert set(found.influences) == {Influence.FILTER, Influence.JOIN, Influence.SORT}
