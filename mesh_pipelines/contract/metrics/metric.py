"""What a metric is: everything that one word of a contract means, in one class.

A class says where the word may stand, which arguments it takes and what can be wrong with them, what is computed, which
Great Expectations expectation means the same, and its rows in the documentation. The reader of contracts, the compiler,
the suite and the tables of ``docs`` ask the class and know no word by themselves, so a new metric is one new file here.
The metrics lie in ``contract``, below the reader that needs them, and are as pure as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from mesh_pipelines.contract.model import Field, FieldType, Kind, Rule, RuleKind
from mesh_pipelines.contract.values import parse

Expectation: TypeAlias = tuple[str, dict[str, Any]]
Fields: TypeAlias = Mapping[str, Field]
EVERY_TYPE = frozenset(Kind)
_registered: dict[str, Metric] = {}
_M = TypeVar("_M", bound="Metric")


class Place(StrEnum):
    """Where a contract writes a metric.

    FIELD and OBJECT: under ``quality``, of a property or of the schema object. OPTION: a key of ``logicalTypeOptions``.
    MARK: a key of the property itself, such as ``required``.
    """

    FIELD = "field"
    OBJECT = "object"
    OPTION = "option"
    MARK = "mark"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a use of a metric, ``at`` a path below it, and how to fix it.

    Where a name ``got`` is not among those ``known``, the nearest of them is the fix, if any is near.
    """

    problem: str
    fix: str
    at: tuple[str | int, ...] = ()
    got: str = ""
    known: tuple[str, ...] = ()


class Metric:
    """One word for a check. A subclass with ``@register`` in this folder is all that a new metric needs.

    ``arguments`` are the names of its arguments, of which ``needs_argument`` wants one; ``takes`` is what the
    documentation says of them, by the place where they are given. ``types`` are those of the fields that it can judge.
    ``in_percent`` says whether it counts rows of the product, which can be told as a share. ``summary`` says in the
    reference of contracts what is counted; ``measures`` has a row of the reference of rules for each form: the word,
    what breaks it, and the types in words.

    A metric of kind ROW has a ``predicate``, one of kind SQL a ``query``; UNIQUE and ROW_COUNT are known to the audit.
    """

    name: str
    kind: RuleKind = RuleKind.ROW
    places: tuple[Place, ...] = (Place.FIELD,)
    arguments: tuple[str, ...] = ()
    needs_argument: bool = False
    types: frozenset[Kind] = EVERY_TYPE
    in_percent: bool = True
    takes: Mapping[Place, str] = {}
    summary: str = ""
    measures: tuple[tuple[str, str, str], ...] = ()

    def problems(self, rule: Rule, fields: Fields) -> Iterator[Problem]:
        """What is wrong with the arguments of a rule under ``quality``, whose names are known to be right."""
        yield from ()

    def completed(self, rule: Rule) -> Rule:
        """A sound rule under ``quality`` with what follows from its arguments."""
        return rule

    def option_problems(self, value: Any, field: Field) -> Iterator[Problem]:
        """What is wrong with a value of ``logicalTypeOptions``."""
        yield from ()

    def of_option(self, rule: Rule, value: Any, field: Field) -> Rule | None:
        """The rule that a sound value of ``logicalTypeOptions`` is; None where it promises nothing."""
        return replace(rule, arguments={self.name: value})

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """SQL that is true where a row breaks the rule, and false or null elsewhere; ``column`` is quoted.

        Raises:
            Uncompilable: the arguments mean nothing for a column of this type.
        """
        raise NotImplementedError(f"the metric {self.name} does not judge single rows")

    def query(self, rule: Rule) -> str:
        """One SELECT over ``{object}`` that gives the number to compare.

        Raises:
            Uncompilable: the arguments mean nothing.
        """
        raise NotImplementedError(f"the metric {self.name} is not a query")

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """The type and kwargs of the expectation that means exactly the same; None if there is none.

        Of a metric that counts rows, asked only for rules that allow none.
        """
        return None


def register(metric: type[_M]) -> type[_M]:
    """Make a metric known under its name.

    Raises:
        ValueError: another one has the name.
    """
    if metric.name in _registered:
        raise ValueError(f"the metric {metric.name} is registered twice")
    _registered[metric.name] = metric()
    return metric


def registered() -> Mapping[str, Metric]:
    """The metrics registered so far; ``registry.metrics`` gives all."""
    return _registered


def not_of_type(values: Iterable[Any], field: Field, *at: str) -> Iterator[Problem]:
    """The first value, if any, that is not of the field's type; null is of every type."""
    for value in values:
        try:
            if value is not None:
                parse(value, field.type)
        except ValueError as error:
            wanted = str(error) if str(error) != "null" else "a rule of type sql instead"
            yield Problem(f"must be of type {field.type.kind}, got {value!r}", f"write {wanted}", at)
            return
