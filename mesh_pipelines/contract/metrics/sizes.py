"""How long a value is, and whether a list holds an item twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.metrics import literals
from mesh_pipelines.contract.metrics.metric import Expectation, Fields, Metric, Place, register
from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import Field, FieldType, Kind, Rule

_SIZED = "text in characters (code points), bytes in bytes"


class _Size(Metric):
    """A comparison of a length: characters of a text, bytes of a binary, items of a list."""

    places = (Place.OPTION,)
    types = literals.TEXTS | {Kind.BYTES}
    broken: str
    # The library's name for the limit, where it has an expectation with the same meaning.
    limit: str = ""

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose value is shorter, or longer, than the option's value."""
        size = arguments[self.name]
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise Uncompilable(f"must be a whole number from 0, got {size!r}", "write a length such as 10")
        function = "octet_length" if field_type.kind is Kind.BYTES else "length"
        return f"{function}({column}) {self.broken} {size}"

    def expectation(self, rule: Rule, fields: Fields) -> Expectation | None:
        """A range of lengths that is open at one end."""
        if not self.limit or fields[rule.fields[0]].type.kind is not Kind.STRING:
            return None
        kwargs = {"column": rule.fields[0], self.limit: rule.arguments[self.name]}
        return "expect_column_value_lengths_to_be_between", kwargs


@register
class MinLength(_Size):
    """``minLength``."""

    name, broken, limit = "minLength", "<", "min_value"
    measures = (("`minLength`", "is shorter", _SIZED),)


@register
class MaxLength(_Size):
    """``maxLength``."""

    name, broken, limit = "maxLength", ">", "max_value"
    measures = (("`maxLength`", "is longer", _SIZED),)


@register
class MinItems(_Size):
    """``minItems``."""

    name, broken, types = "minItems", "<", frozenset({Kind.LIST})
    measures = (("`minItems`", "has fewer items; null items count", "lists"),)


@register
class MaxItems(_Size):
    """``maxItems``."""

    name, broken, types = "maxItems", ">", frozenset({Kind.LIST})
    measures = (("`maxItems`", "has more items; null items count", "lists"),)


@register
class UniqueItems(Metric):
    """``uniqueItems``."""

    name = "uniqueItems"
    places = (Place.OPTION,)
    types = frozenset({Kind.LIST})
    measures = (("`uniqueItems`", "holds an item twice; null items do not count", "lists"),)

    def of_option(self, rule: Rule, value: Any, field: Field) -> Rule | None:
        """The rule; ``false`` promises nothing."""
        return None if value is False else super().of_option(rule, value, field)

    def predicate(self, column: str, field_type: FieldType, arguments: Mapping[str, Any]) -> str:
        """Rows whose list holds an item twice."""
        if arguments["uniqueItems"] is not True:
            raise Uncompilable(f"must be true, got {arguments['uniqueItems']!r}", "set it to true or remove it")
        return f"list_count({column}) <> list_unique({column})"
