"""Lists of values among a metric's arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh_pipelines.contract.metrics import literals
from mesh_pipelines.contract.metrics.metric import Problem
from mesh_pipelines.contract.metrics.refusal import Uncompilable
from mesh_pipelines.contract.model import FieldType, Kind


def faults_in_list(arguments: Mapping[str, Any], name: str) -> Iterator[Problem]:
    """What is wrong with an argument that lists values, where it is given."""
    values = arguments.get(name, [None])
    if not isinstance(values, list) or not values:
        yield Problem("must be a list with at least one value", "list the values", ("arguments", name))


def listed(arguments: Mapping[str, Any], name: str) -> list[Any]:
    """The values of an argument.

    Raises:
        Uncompilable: they are not a list.
    """
    values = arguments.get(name)
    if not isinstance(values, list):
        raise Uncompilable(f"{name} must be a list", "list the values under arguments")
    return values


def among(column: str, field_type: FieldType, values: list[Any]) -> str:
    """Whether a column is among the values but null, compared in its own type; "" for no values.

    Raises:
        Uncompilable: the column's type has no values that could be listed, or cannot hold one of these.
    """
    if field_type.kind not in literals.LISTABLE:
        raise Uncompilable(f"the values of a {field_type.kind} cannot be listed", "state it as a rule of type sql")
    members = ", ".join(literals.member(value, field_type) for value in values if value is not None)
    # UUIDs are kept as the text that producers write, which may have capitals; members have none.
    compared = f"lower({column})" if field_type.kind is Kind.UUID else column
    return f"{compared} IN ({members})" if members else ""
