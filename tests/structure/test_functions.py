"""How long a function's list of parameters may be: what is passed around again and again belongs in a class."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mesh_pipelines

ROOT = Path(mesh_pipelines.__file__).parent
MOST = 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            yield node


def parameters(function: Function) -> int:
    """The number of parameters, keyword-only ones, ``*args`` and ``**kwargs`` included, ``self`` and ``cls`` not."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args)]
    of_class = names[:1] in (["self"], ["cls"])
    return len(names) - of_class + len(given.kwonlyargs) + bool(given.vararg) + bool(given.kwarg)


def is_free(function: Function) -> bool:
    """Whether it may have as many as it needs: a constructor, or a verb of the command line."""
    return function.name == "__init__" or any(ast.unparse(one).startswith("verb(") for one in function.decorator_list)


def long_functions() -> set[str]:
    return {
        f"{file.relative_to(ROOT)}:{function.name}"
        for file in ROOT.rglob("*.py")
        for function in functions(file.read_text(encoding="utf-8"))
        if parameters(function) > MOST and not is_free(function)
    }


def test_no_function_takes_more_than_five_parameters():
    assert long_functions() == set()


@pytest.mark.parametrize(
    ("source", "count", "free"),
    [
        ("def f(a, b, /, c, *, d): pass", 4, False),
        ("def f(self, a, *args, b, **kwargs): pass", 4, False),
        ("async def f(cls): pass", 0, False),
        ("def __init__(self, a, b, c, d, e, f): pass", 6, True),
        ("@verb(Group.RUN)\ndef land(a, b, c, d, e, f): pass", 6, True),
        ("@lru_cache\ndef f(a): pass", 1, False),
    ],
)
def test_what_counts_as_a_parameter(source: str, count: int, free: bool):
    [function] = functions(source)
    assert (parameters(function), is_free(function)) == (count, free)
