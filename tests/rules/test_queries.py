from __future__ import annotations

import pytest

from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.rules.queries import parse_query

REFUSED = {
    "another product": ("SELECT count(*) FROM weather.observations", "the query reads weather.observations"),
    "another table": ("SELECT count(*) FROM t", "the query reads t"),
    "a file": ("SELECT count(*) FROM 'secret.csv'", "the query reads"),
    "a file by its quoted name": ('SELECT count(*) FROM "/etc/passwd"', 'the query reads "/etc/passwd"'),
    "a table function": ("SELECT count(*) FROM read_csv('secret.csv')", "the query reads READ_CSV"),
    "a query in a string": ("SELECT count(*) FROM query('SELECT 1')", "the query reads QUERY"),
    "a file in a subquery": ("SELECT 1 WHERE EXISTS (FROM 'secret.csv')", "the query reads"),
    "a file in a common table expression": (
        "WITH x AS (SELECT * FROM read_text('x')) SELECT count(*) FROM x",
        "the query reads READ_TEXT",
    ),
    "a file by the name of a common table expression elsewhere": (
        """SELECT (WITH "x.csv" AS (SELECT 1) SELECT count(*) FROM "x.csv") + (SELECT count(*) FROM "x.csv")""",
        "the query reads",
    ),
    "a schema by the name of a common table expression": (
        'WITH "main.t" AS (SELECT 1) SELECT count(*) FROM main.t',
        "the query reads main.t",
    ),
    "another database": ("SELECT count(*) FROM other.test.things", "the query reads other.test.things"),
    "a described table": ("SELECT count(*) FROM (DESCRIBE secret)", "must be exactly one SELECT"),
    "two statements": ("SELECT 1; SELECT 2", "must be exactly one SELECT"),
    "a statement after it": ("SELECT 1; DROP TABLE t", "must be exactly one SELECT"),
    "a drop": ("DROP TABLE t", "must be exactly one SELECT"),
    "an attach": ("ATTACH 'x.db'", "must be exactly one SELECT"),
    "a copy": ("COPY t TO 'x.csv'", "must be exactly one SELECT"),
    "an insert": ("INSERT INTO t VALUES (1) RETURNING 1", "must be exactly one SELECT"),
    "a setting": ("SET memory_limit = '1GB'", "must be exactly one SELECT"),
    "nothing": ("-- nothing", "must be exactly one SELECT"),
    "no SQL": ("SELECT count(* FROM {object}", "the query does not parse"),
    "an open quote": ("SELECT 'a FROM {object}", "the query does not parse"),
}

BOUND = {
    "the placeholder": ("SELECT count(*) FROM {object}", 'SELECT count(*) FROM OWN AS "things"'),
    "the standard's placeholder": ("SELECT 1 FROM ${table} t", "SELECT 1 FROM OWN t"),
    "the name": ("SELECT things.a FROM things", 'SELECT things.a FROM OWN AS "things"'),
    "the full name": (
        'SELECT test.things.a, "things".b FROM "test"."things"',
        'SELECT "things".a, "things".b FROM OWN AS "things"',
    ),
    "columns of the placeholder": (
        "SELECT {object}.a FROM {object}",
        'SELECT "things".a FROM OWN AS "things"',
    ),
    "an input": (
        "SELECT letters.a, other.letters.b FROM other.letters",
        'SELECT letters.a, "letters".b FROM INPUT AS "letters"',
    ),
    "an input under another name": ("SELECT x.a FROM other.letters AS x", "SELECT x.a FROM INPUT AS x"),
    "an input that was not given": ("FROM other.digits", 'FROM "other"."digits" AS "digits"'),
    "a property": ("SELECT {property}, ${column} FROM {object} x", 'SELECT "a""b", "a""b" FROM OWN x'),
    "a common table expression of the product's name": (
        "WITH things AS (SELECT 1) SELECT * FROM things",
        "WITH things AS (SELECT 1) SELECT * FROM things",
    ),
    "a common table expression over the product": (
        "WITH x AS (FROM {object}) SELECT * FROM x",
        'WITH x AS (FROM OWN AS "things") SELECT * FROM x',
    ),
    "comments, functions and quotes as they are": (
        "SELECT count_if(a = 'FROM things') -- FROM things\nFROM things; ;",
        "SELECT count_if(a = 'FROM things') -- FROM things\nFROM OWN AS \"things\"",
    ),
    "series and lists": (
        "SELECT * FROM range(3) r(i), generate_series(1, 2), unnest([1]), things",
        'SELECT * FROM range(3) r(i), generate_series(1, 2), unnest([1]), OWN AS "things"',
    ),
    "a sample": ("SELECT 1 FROM things TABLESAMPLE 1%", 'SELECT 1 FROM OWN AS "things" TABLESAMPLE 1%'),
}


@pytest.fixture(scope="module")
def product(make_product):
    return make_product(
        {"properties": [{"name": "a", "logicalType": "string"}], "inputs": ["other.letters", "other.digits"]}
    )


@pytest.mark.parametrize(("query", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_a_query_that_does_more_than_read_what_is_declared_is_refused(product, query, problem):
    with pytest.raises(Uncompilable) as caught:
        parse_query(query, product)
    assert problem in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("query", "bound"), BOUND.values(), ids=BOUND.keys())
def test_only_the_names_of_tables_are_replaced(product, query, bound):
    assert parse_query(query, product, 'a"b').bound("OWN", {"other.letters": "INPUT"}) == bound
