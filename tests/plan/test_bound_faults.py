"""SQL against its inputs' contracts: each fault at its line and column, with the name that was meant."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from mesh_pipelines.engine import isolated
from mesh_pipelines.errors import ContractInvalid, TransformInvalid
from mesh_pipelines.plan.draft import plan
from mesh_pipelines.plan.lint import lint
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings

FLIGHTS = """
- {name: id, logicalType: string, primaryKey: true}
- {name: carrier, logicalType: string}
- {name: dep_delay, logicalType: integer}
- {name: day, logicalType: date}
- name: departed
  logicalType: timestamp
  customProperties: [{property: mesh.aliases, value: [dep_time]}]
- name: plane
  logicalType: object
  properties: [{name: seats, logicalType: integer}]
"""
WEATHER = """
- {name: id, logicalType: string, primaryKey: true}
- {name: wind, logicalType: number}
"""
DAILY = """
- {name: carrier, logicalType: string, primaryKey: true}
- {name: n, logicalType: integer}
"""
DERIVED = """
- property: mesh.inputs
  value: [FLIGHTS, WEATHER]
"""


class Mesh:
    """Two sources and a product derived from both, made of a transform and rules that a test gives."""

    def __init__(self, settings: Settings, contract: Callable[..., str]) -> None:
        self.settings = settings
        self._contract = contract
        self.flights = contract("flights", FLIGHTS, version="1.2.0")
        self.weather = contract("weather", WEATHER)
        self.name = ""

    def write(self, sql: str, quality: str = "[]") -> None:
        names = {"FLIGHTS": self.flights, "WEATHER": self.weather}
        more = DERIVED
        for mark, name in names.items():
            more, sql, quality = (text.replace(mark, name) for text in (more, sql, quality))
        self.name = self._contract(
            "daily",
            DAILY,
            alignment="aggregate-aligned",
            kind="measurement",
            more=more,
            quality=quality,
            transform=sql,
        )

    @property
    def folder(self) -> Path:
        return self.settings.assets.joinpath(*self.name.split("."))

    def said(self) -> list[str]:
        [linted] = lint(Platform.open(self.settings), [self.name])
        texts = [str(fault).removeprefix(f"{self.folder}/") for fault in linted.faults]
        return [text.replace(self.flights, "FLIGHTS").replace(self.weather, "WEATHER") for text in texts]


@pytest.fixture
def mesh(local_settings: Settings, contract: Callable[..., str]) -> Mesh:
    return Mesh(local_settings, contract)


SOUND = "SELECT carrier, count(*) AS n FROM FLIGHTS GROUP BY carrier"
TRANSFORMS = {
    "a column that does not exist": (
        "SELECT\n  carrier,\n  sum(dep_dealy) AS n\nFROM FLIGHTS GROUP BY carrier",
        "transform.sql:3:7: column dep_dealy: FLIGHTS does not have this column (did you mean dep_delay?)",
    ),
    "a column of an aliased table": (
        "SELECT f.carrier, f.seats AS n\nFROM WEATHER AS w JOIN FLIGHTS AS f\nON f.id = w.idd",
        "transform.sql:1:21: column seats: FLIGHTS does not have this column (fix the SQL)",
        "transform.sql:3:13: column idd: WEATHER does not have this column (did you mean id?)",
    ),
    "a column by its product's full name": (
        "SELECT FLIGHTS.carier AS carrier, 1 AS n FROM FLIGHTS",
        "column carier: FLIGHTS does not have this column (did you mean carrier?)",
    ),
    "a renamed column": (
        "SELECT carrier, year(dep_time) AS n FROM FLIGHTS",
        "transform.sql:1:22: column dep_time: FLIGHTS renamed it, version 1.2.0 names it departed (write departed)",
    ),
    "a column after letters of several bytes": (
        "SELECT carrier, -- é€\n length('é€') + dep_dealy AS n FROM FLIGHTS",
        "transform.sql:2:17: column dep_dealy",
    ),
    "a column of none of two tables": (
        "SELECT carrier, zzz AS n FROM FLIGHTS, WEATHER",
        "transform.sql:1:17: column zzz: none of FLIGHTS, WEATHER has this column (fix the SQL)",
    ),
    "a column of a subquery": (
        "WITH f AS (SELECT carrier, dep_delay AS late FROM FLIGHTS) SELECT carrier, lat AS n FROM f",
        'Referenced column "lat" not found in FROM clause! (did you mean late?)',
    ),
    "a column to leave out": (
        "SELECT carrier, n FROM (SELECT * EXCLUDE (carier), 1 AS n FROM FLIGHTS)",
        "transform.sql:1:43: column carier: FLIGHTS does not have this column (did you mean carrier?)",
    ),
    "a part of a struct": ("SELECT carrier, plane.seat AS n FROM FLIGHTS", 'Could not find key "seat" in struct'),
    "a function that does not exist": (
        "SELECT carrier,\n  medain(dep_delay) AS n FROM FLIGHTS GROUP BY ALL",
        "transform.sql:2:3: Scalar Function with name medain does not exist!",
    ),
    "types that do not go together": (
        "SELECT carrier, day + departed AS n FROM FLIGHTS",
        "No function matches the given name and argument types '+(DATE, TIMESTAMP WITH TIME ZONE)'",
    ),
    "a comparison of types": (
        "SELECT carrier, 1 AS n FROM FLIGHTS WHERE carrier > day",
        "Cannot compare values of type VARCHAR and type DATE",
    ),
    "a column beside an aggregate": (
        "SELECT carrier, count(*) AS n FROM FLIGHTS",
        'transform.sql:1:8: column "carrier" must appear in the GROUP BY clause',
    ),
    "a result that lacks a column": ("SELECT carrier FROM FLIGHTS", "its result lacks n"),
    "a result with a column more": (
        "SELECT carrier, 1 AS n, day FROM FLIGHTS",
        "its result has day, which the contract does not",
    ),
    "a result of another type": (
        "SELECT carrier, plane AS n FROM FLIGHTS",
        "column n of its result: Unimplemented type for cast (STRUCT(seats BIGINT) -> BIGINT)",
    ),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_a_transform_that_cannot_run_is_named(mesh: Mesh, case: str) -> None:
    sql, *problems = TRANSFORMS[case]
    mesh.write(sql)
    said = mesh.said()
    assert len(said) == len(problems)
    for one, problem in zip(said, problems, strict=True):
        assert problem in one
    with pytest.raises(TransformInvalid, match="its transform cannot run") as refused:
        plan(platform := Platform.open(mesh.settings), [platform.proposed[mesh.name]])
    assert "transform.sql" in refused.value.message


# Rules in YAML; then what the fault is at, to the column or (after a ~) to the line; then the fault.
RULES = {
    "a literal block": (
        """
        - type: sql
          mustBe: 0
          query: |
            SELECT count(*)
            FROM {object} AS d JOIN FLIGHTS AS f
              ON d.carrier = f.carier
        """,
        "carier\n",
        "rule sql: column carier: FLIGHTS does not have this column (did you mean carrier?)",
    ),
    "a folded block": (
        """
        - name: joined
          type: sql
          mustBe: 0
          query: >-
            SELECT count(*) FROM {table} AS d
            JOIN FLIGHTS AS f
            ON d.n = year(f.dep_time)
        """,
        "dep_time)",
        "rule joined: column dep_time: FLIGHTS renamed it, version 1.2.0 names it departed (write departed)",
    ),
    "a query in quotes": (
        """
        - {name: late, type: sql, mustBe: 0, query: "SELECT count(*) FROM ${object} WHERE ${object}.carier = ''"}
        """,
        "carier",
        "rule late: column carier: OWN does not have this column (did you mean carrier?)",
    ),
    "a table that is not there": (
        "- {name: late, type: sql, mustBe: 0, query: 'SELECT count(*) FROM {object} WHERE x.n = 1'}",
        "x.n",
        'rule late: Referenced table "x" not found! (did you mean daily?)',
    ),
    "a text and no number": (
        "- {name: most, type: sql, mustBe: 0, query: 'SELECT max(carrier) FROM {object}'}",
        "~name: most",
        "rule most: the query must give a number, got a VARCHAR (select one number or boolean)",
    ),
    "a number and no boolean": (
        "- {name: any, type: sql, mustBe: true, query: 'SELECT count(*) FROM {object}'}",
        "~name: any",
        "rule any: the query must give a boolean like the threshold, got a BIGINT "
        "(select a boolean, or compare with a number)",
    ),
    "two columns": (
        "- {name: two, type: sql, mustBe: 0, query: 'SELECT 1, 2'}",
        "~name: two",
        "rule two: the query must give one value, got 2 columns (select one number or boolean)",
    ),
    "a query of an expectation": (
        """
        - name: own
          type: custom
          engine: greatExpectations
          implementation:
            {type: unexpected_rows_expectation, kwargs: {unexpected_rows_query: "SELECT carier FROM {batch}"}}
        """,
        "~name: own",
        "rule own: column carier: OWN does not have this column (did you mean carrier?)",
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_a_query_of_a_rule_that_cannot_run_is_named_at_its_place_in_the_contract(mesh: Mesh, case: str) -> None:
    rules, marker, problem = RULES[case]
    mesh.write(SOUND, "\n" + textwrap.indent(textwrap.dedent(rules).strip(), "      "))
    text = (mesh.folder / "contract.yaml").read_text()
    lines = text[: text.index(marker.removeprefix("~"))].split("\n")
    at = f"{len(lines)}" if marker.startswith("~") else f"{len(lines)}:{len(lines[-1]) + 1}"
    assert [one.replace(mesh.name, "OWN") for one in mesh.said()] == [f"contract.yaml:{at}: {problem}"]
    with pytest.raises(ContractInvalid, match="1 fault"):
        plan(platform := Platform.open(mesh.settings), [platform.proposed[mesh.name]])


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        (SOUND, "SELECT NULL"),
        ("SELECT DISTINCT ON (carrier) carrier, plane.seats AS n FROM FLIGHTS ORDER BY departed", "SELECT 0.5"),
        ("SELECT carrier, 1::HUGEINT AS n FROM FLIGHTS AS f WHERE EXISTS (FROM WEATHER WHERE id = f.id)", "SELECT 1e3"),
        ("SELECT carrier, CAST(round(wind) AS VARCHAR) AS n FROM FLIGHTS JOIN WEATHER USING (id)", "SELECT 1 = 1"),
        ("SELECT carrier, n FROM FLIGHTS, LATERAL (SELECT dep_delay + 1 AS n)", "SELECT {object}.n FROM {object}"),
        (
            "SELECT c AS carrier, n FROM FLIGHTS AS f(i, c, n)",
            "SELECT 1 FROM FLIGHTS AS f JOIN {object} USING (carrier)",
        ),
        ("SELECT carrier, unnest(range(3)) AS n FROM FLIGHTS", "SELECT count(*) FROM OWN; -- the end"),
    ],
)
def test_sound_sql_has_no_faults(mesh: Mesh, sql: str, rule: str) -> None:
    mesh.write(sql, "[{type: sql, mustBe: 0, query: '" + rule.replace("OWN", "daily") + "'}]")
    assert mesh.said() == []


def test_an_input_with_faults_is_no_fault_of_what_reads_it(mesh: Mesh) -> None:
    query = "[{type: sql, mustBe: 0, query: 'SELECT count(*) FROM WEATHER WHERE nothing'}]"
    mesh.write(SOUND.replace("carrier,", "nothing AS carrier,"), query)
    assert len(mesh.said()) == 2
    broken = mesh.settings.assets.joinpath(*mesh.flights.split("."), "contract.yaml")
    broken.write_text(broken.read_text().replace("version:", "varsion:"))
    linted = {one.product: one for one in lint(Platform.open(mesh.settings))}
    assert linted[mesh.flights].faults
    assert linted[mesh.name].unbound == (mesh.flights,)
    # The rule reads the other input alone.
    assert [fault.field for fault in linted[mesh.name].faults] == ["rule sql"]


def test_binding_reads_nothing_and_leaves_nothing(mesh: Mesh) -> None:
    mesh.write(SOUND)
    assert mesh.said() == []
    assert not mesh.settings.home.exists()
    with closing(isolated()) as engine:
        for statement in ("FROM read_text('/etc/hostname')", "COPY (SELECT 1) TO 'x.csv'", "SET home_directory = 'x'"):
            with pytest.raises(duckdb.Error, match="(?i)disabled|locked"):
                engine.execute(statement)
