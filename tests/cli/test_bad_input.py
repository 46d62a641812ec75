"""What a person gets for a file or an argument that is wrong or hostile: an exit code and a line that says what."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.building import contract_text

MESH = [sys.executable, "-c", "from mesh_pipelines.cli.main import main; main()"]
ORDERS = contract_text("shop.orders")


@dataclass(frozen=True)
class Done:
    """How a command ended, what it said, and what it took: processor seconds and megabytes at the peak."""

    code: int
    text: str
    seconds: float
    megabytes: float


@pytest.fixture
def mesh(tmp_path: Path) -> Callable[..., Done]:
    environment = {
        "MESH_ASSETS": str(tmp_path / "assets"),
        "MESH_HOME": str(tmp_path / "home"),
        "NO_COLOR": "1",
        # Nobody listens there: what got as far as a service would say so, and change none that happens to run.
        "MESH_BOOTSTRAP_SERVERS": "127.0.0.1:9",
        "MESH_SCHEMA_REGISTRY_URL": "http://127.0.0.1:9",
    }

    def run(*arguments: str | bytes) -> Done:
        before = {path for path in tmp_path.rglob("*") if tmp_path / "home" not in path.parents}
        output = tmp_path / "output"
        with output.open("wb") as out:
            process = subprocess.Popen([*MESH, *arguments], stdout=out, stderr=out, env={**os.environ, **environment})
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        text = output.read_text(errors="replace")
        output.unlink()
        assert "Traceback" not in text
        assert "M000" not in text
        assert {path for path in tmp_path.rglob("*") if tmp_path / "home" not in path.parents} - before <= {
            tmp_path / "home"
        }
        return Done(process.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    return run


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "assets" / "shop" / "orders"
    folder.mkdir(parents=True)
    file = folder / "contract.yaml"
    file.write_text(ORDERS)
    return file


def test_the_contract_that_the_others_are_made_of_is_sound(mesh: Callable[..., Done], orders: Path) -> None:
    assert mesh("lint").code == 0


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(20)
)
DEEP = 5000
HUGE = {
    "an alias bomb": (BOMB, "defines the anchor &a"),
    "an alias bomb behind the contract": (ORDERS + BOMB, "defines the anchor &a"),
    "merge keys": (ORDERS + "x: &a {b: 1}\ny: {<<: *a}\n", "defines the anchor &a"),
    "flow nesting": (ORDERS + "x: " + "[" * DEEP + "]" * DEEP, "nests deeper than"),
    "open flow nesting": (ORDERS + "x: " + "{a: " * DEEP, "nests deeper than"),
    "block nesting": (ORDERS + "".join(" " * n + "x:\n" for n in range(1200)), "nests deeper than"),
    "sequence nesting": (ORDERS + "x:\n" + "- " * DEEP + "1\n", "nests deeper than"),
    "nested fields": (
        ORDERS + "      - " + "{name: x, logicalType: object, properties: [" * 200 + "]}" * 200,
        "nests deeper than",
    ),
    "a huge file": ("x" * 50_000_000, "must be at most 1,048,576 bytes, got 50,000,000"),
    "many values": (ORDERS + "x: [" + "1," * 400_000 + "]", "holds more than"),
    "one long key": (ORDERS + "? " + "x" * 900_000 + "\n: 1\n", ""),
    "one long name": (ORDERS.replace("name: id", "name: " + "i" * 900_000), "use up to 63 lower-case letters"),
    "a long number": (ORDERS + "x: " + "9" * 900_000 + "\n", "YAML readers disagree"),
    "many equal keys": (ORDERS + "x: 1\n" * 10_000, "appears twice"),
}


@pytest.mark.parametrize("case", sorted(HUGE))
def test_a_file_out_of_measure_costs_next_to_nothing(mesh: Callable[..., Done], orders: Path, case: str) -> None:
    sound = mesh("lint")
    text, problem = HUGE[case]
    orders.write_text(text)
    done = mesh("lint")
    assert done.code == 1
    assert problem in done.text
    assert done.seconds < 3 * sound.seconds
    assert done.megabytes - sound.megabytes < 100


def _with(old: str, new: str) -> str:
    assert old in ORDERS
    return ORDERS.replace(old, new)


def _setting(name: str, value: str) -> str:
    return _with("schema:\n", f"  - {{property: {name}, value: {value}}}\nschema:\n")


FIELD = "{name: id, logicalType: string, primaryKey: true}"
WRONG = {
    "a duplicate key": (ORDERS + "name: other\n", "name: appears twice"),
    "a duplicate key inside": (_with(FIELD, "{name: id, name: id, logicalType: string}"), "appears twice"),
    "a key in another composition": (ORDERS + '"n\\u0061me": other\n', "name: appears twice"),
    "two documents": (ORDERS + "---\n" + ORDERS, "starts a second document"),
    "a tag": (ORDERS + "x: !!python/object/apply:os.system [true]\n", "has the tag"),
    "nothing": ("", "is empty"),
    "a list": ("- 1\n", ""),
    "bytes": ("\x00\x01\x02", "is not valid YAML"),
    "a name that climbs": (_with("name: orders\ndomain", "name: ../orders\ndomain"), "must be a valid name"),
    "a domain that climbs": (_with("domain: shop", "domain: ../../etc"), "must be a valid name"),
    "a look-alike letter": (_with("domain: shop", "domain: sh\u043ep"), "must be a valid name"),
    "full-width letters": (_with("domain: shop", "domain: \uff53\uff48\uff4f\uff50"), "must be a valid name"),
    "a letter that turns the line": (_with("domain: shop", 'domain: "sh\\u202eop"'), "must be a valid name"),
    "a combining letter": (_with("name: id", 'name: "i\\u0301d"'), "must be a valid field name"),
    "a NUL in a field": (_with("name: id", 'name: "i\\0d"'), "contains control characters"),
    "a quote in a field": (_with("name: id", "name: 'i\"; DROP TABLE x; --'"), "must be a valid field name"),
    "an underscore first": (_with("name: id", "name: _offset"), "must be a valid field name"),
    "a dunder": (_with("name: id", "name: __class__"), "must be a valid field name"),
    "300 letters": (_with("name: id", "name: " + "i" * 300), "must be a valid field name"),
    "capital letters": (_with("name: id", "name: ID"), "must be a valid field name"),
    "a number for a name": (_with("name: id", "name: 1"), ""),
    "an alias with a quote": (
        _with(
            FIELD,
            "{name: id, logicalType: string, primaryKey: true, customProperties: "
            "[{property: mesh.aliases, value: ['a\"b']}]}",
        ),
        "must be a list of former names",
    ),
    "a topic that climbs": (
        _setting("mesh.topic", "../x"),
        "mesh.topic must be a topic name",
    ),
    "a topic of 300 letters": (
        _setting("mesh.topic", "x" * 300),
        "mesh.topic must be a topic name",
    ),
    "an input that climbs": (
        _setting("mesh.inputs", "[../a.b]"),
        "mesh.inputs must be a list of products",
    ),
    "a look-behind": (
        _with(FIELD, FIELD[:-1] + ", logicalTypeOptions: {pattern: '(?<=a)b'}}"),
        "is not RE2",
    ),
    "a back-reference": (
        _with(FIELD, FIELD[:-1] + ", logicalTypeOptions: {pattern: '(a)\\1'}}"),
        "is not RE2",
    ),
    "a pattern out of measure": (
        _with(FIELD, FIELD[:-1] + ", logicalTypeOptions: {pattern: '((a{1000}){1000}){1000}'}}"),
        "is not RE2",
    ),
    "an open pattern": (_with(FIELD, FIELD[:-1] + ", logicalTypeOptions: {pattern: '(a'}}"), "is not RE2"),
    "a rule that reads a file": (
        ORDERS + "    quality: [{type: sql, query: \"SELECT count(*) FROM '/etc/passwd'\", mustBe: 0}]\n",
        "the query reads",
    ),
    "a rule that asks the engine": (
        ORDERS + "    quality: [{type: sql, query: \"SELECT current_setting('threads') FROM {object}\", mustBe: 0}]\n",
        "the query calls current_setting",
    ),
    "a rule that writes": (
        ORDERS + "    quality: [{type: sql, query: \"COPY (SELECT 1) TO '/tmp/x'\", mustBe: 0}]\n",
        "the query must be exactly one SELECT",
    ),
    "an expectation that formats": (
        ORDERS
        + "    quality: [{type: custom, engine: greatExpectations, implementation: {type: unexpected_rows_expectation,"
        " kwargs: {unexpected_rows_query: \"SELECT '{batch.__class__}' FROM {batch}\"}}}]\n",
        "a placeholder other than {batch}",
    ),
    "an expectation about another table": (
        ORDERS + "    quality: [{type: custom, engine: greatExpectations, implementation: "
        "{type: expect_table_row_count_to_equal_other_table, kwargs: {other_table_name: hr.salaries}}}]\n",
        "may read other data, which cannot be checked",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_in_a_contract_is_named(mesh: Callable[..., Done], orders: Path, case: str) -> None:
    text, problem = WRONG[case]
    orders.write_text(text)
    done = mesh("lint")
    assert done.code == 1
    assert problem in done.text
    assert str(orders) in done.text
    assert all(line.isprintable() for line in done.text.splitlines())
    # Nothing of it runs either.
    refused = mesh("apply")
    assert (refused.code, refused.text.split()[0]) == (1, "M101")


@pytest.mark.parametrize("domain", ["main", "temp", "system", "memory", "information_schema", "pg_catalog", "serving"])
def test_a_domain_of_the_engines_own_is_refused(mesh: Callable[..., Done], tmp_path: Path, domain: str) -> None:
    made = mesh("init", f"{domain}/orders")
    assert (made.code, made.text.split()[0]) == (2, "M200")
    folder = tmp_path / "assets" / domain / "orders"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(_with("domain: shop", f"domain: {domain}"))
    done = mesh("lint")
    assert done.code == 1
    assert "is reserved by the SQL engine" in done.text


@pytest.mark.parametrize("linked", ["shop", "shop/orders", "shop/orders/contract.yaml", "shop/orders/transform.sql"])
def test_a_link_out_of_the_assets_is_refused(
    mesh: Callable[..., Done], tmp_path: Path, orders: Path, linked: str
) -> None:
    outside, path = tmp_path / "outside", tmp_path / "assets" / linked
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("SELECT 'secret'")
    path.symlink_to(outside)
    done = mesh("lint")
    assert done.code == 1
    assert "must not be a link" in done.text
    assert "secret" not in done.text


def test_words_of_sql_are_names_like_any_other(mesh: Callable[..., Done], tmp_path: Path) -> None:
    folder = tmp_path / "assets" / "group" / "select"
    folder.mkdir(parents=True)
    text = ORDERS.replace("orders", "select").replace("shop", "group").replace("name: id", "name: order")
    (folder / "contract.yaml").write_text(text)
    assert mesh("lint").code == 0


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "../../etc/passwd", "/etc/passwd", "shop", "shop/orders/x", "shop..orders", "", ".", "shop/"),
        *("sh\u043ep/orders", "Shop/orders", "_shop/orders", "shop/" + "x" * 300, "shop/or ders", "shop/or\nders"),
        *("-x/y", "shop/\u202eorders", b"shop/\xff\xfe"),
    ],
)
def test_a_name_that_is_none_makes_no_folder(mesh: Callable[..., Done], name: str | bytes) -> None:
    for command in ("init", "versions"):
        done = mesh(command, "--", name)
        assert done.code == 2
        assert done.text.startswith(("M200 ", "M201 "))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO 'written.csv'",
        "ATTACH 'written.db'",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "SELECT current_setting('threads')",
        "SELECT id FROM shop.ordres",
        "SELECT " + "(" * 5000,
        "SELECT 'a",
        "",
        b"SELECT '\xff\xfe'",
        "SELECT 'x'::INTEGER",
        "SELECT CASE WHEN range > 200000 THEN 'x' ELSE '1' END::INTEGER FROM range(1000000)",
    ],
)
def test_sql_that_may_not_or_cannot_run_is_one_error(mesh: Callable[..., Done], orders: Path, sql: str | bytes) -> None:
    done = mesh("query", sql)
    assert done.code == 2
    assert done.text.split()[0] in ("M204", "M201")
    assert "next: " in done.text
    assert "root:" not in done.text


@pytest.mark.parametrize("command", ["up", "demo"])
def test_nothing_is_started_that_others_could_reach_without_signing_in(
    mesh: Callable[..., Done], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_HOST", "0.0.0.0")
    monkeypatch.delenv("MESH_OIDC_ISSUER", raising=False)
    done = mesh(command)
    assert done.code == 2
    assert "M205" in done.text
    assert "MESH_OIDC_ISSUER" in done.text
    assert "starting" not in done.text
