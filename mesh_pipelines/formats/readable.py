"""Whether a writer's types can be read as the contract's: Avro's rules for a reader's schema, and what goes beyond.

The rules are those of "Schema Resolution" in Avro's specification: a field is found by its name or one of its aliases,
numbers widen, strings and bytes read as one another. Where Avro has no rule, the contract's type decides, and each
value is held against it when it is read (``resolve``): decimals of another precision or scale, numbers and text that
stand for times, 0 and 1 for a boolean, unions of several types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh_pipelines.contract.model import Field, FieldType, Kind

TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LOCAL)

_PROMOTIONS = {
    (Kind.INT, Kind.LONG),
    (Kind.INT, Kind.FLOAT),
    (Kind.INT, Kind.DOUBLE),
    (Kind.LONG, Kind.FLOAT),
    (Kind.LONG, Kind.DOUBLE),
    (Kind.FLOAT, Kind.DOUBLE),
    (Kind.STRING, Kind.BYTES),
    (Kind.BYTES, Kind.STRING),
    (Kind.STRING, Kind.UUID),
    (Kind.UUID, Kind.STRING),
    (Kind.UUID, Kind.BYTES),
    (Kind.INT, Kind.BOOLEAN),
    *((Kind.STRING, kind) for kind in TIMES),
}


class Irreconcilable(ValueError):
    """Events of this writer's schema cannot be brought to the contract."""


@dataclass(frozen=True)
class OneOf(FieldType):
    """A union of several types: ``fields`` are the branches that are read, by their numbers.

    Its column is a struct of them with a further field "", the number of the branch that each value is of.
    """


def check(names: Sequence[str], type_of: Callable[[str], FieldType], fields: Sequence[Field]) -> None:
    """Check that a writer's fields, by name, can be read as these fields; ``type_of`` gives the type of one by name.

    Raises:
        Irreconcilable: a required field is missing without a default, or a type does not promote.
    """
    for field in fields:
        found = find(names, field)
        if found is None:
            if field.required and not field.has_default:
                raise Irreconcilable(f"the writer's schema has no field {field.event_name}, which is required")
            continue
        _check_type(type_of(found), field.type, field.event_name)


def counts(have: FieldType, want: FieldType) -> str:
    """The unit of whole numbers that stand for a time, as the contract or the writer says; "" where they do not."""
    if want.kind not in TIMES or have.kind not in (Kind.INT, Kind.LONG):
        return ""
    return want.epoch or have.epoch


def is_readable(have: FieldType, want: FieldType, *, is_branch: bool = False) -> bool:
    """Whether values of a writer's type can be read as the contract's, those of a union's branch as text, too."""
    if is_branch and want.kind is Kind.STRING:
        return True
    if is_branch and have.kind is want.kind is Kind.STRUCT and want.fields:
        names = [field.name for field in have.fields]
        if not any(find(names, field) for field in want.fields):
            return False
    try:
        _check_type(have, want, "")
    except Irreconcilable:
        return False
    return True


def _check_type(have: FieldType, want: FieldType, path: str) -> None:
    if isinstance(have, OneOf):
        if not any(is_readable(branch.type, want, is_branch=True) for branch in have.fields):
            raise Irreconcilable(
                f"field {path} must be {want.kind} as in the contract, got a union of which no type is read as that"
            )
        return
    if counts(have, want):
        return
    if have.kind is not want.kind:
        if (have.kind, want.kind) not in _PROMOTIONS:
            raise Irreconcilable(f"field {path} must be {want.kind} as in the contract, got {have.kind}")
        return
    match want.kind:
        case Kind.LIST | Kind.MAP:
            assert have.items is not None
            assert want.items is not None
            _check_type(have.items, want.items, f"{path}[]")
        case Kind.STRUCT:
            names = [field.name for field in have.fields]
            for field in want.fields:
                found = find(names, field)
                if found is not None:
                    _check_type(have.fields[names.index(found)].type, field.type, f"{path}.{field.event_name}")
                elif field.required and not field.has_default:
                    raise Irreconcilable(f"field {path}.{field.event_name}, which is required, is missing")
        case _:
            pass


def find(names: Sequence[str], field: Field) -> str | None:
    """The name under which a writer has a field: its own or a former one; None where it has none."""
    return next((name for name in field.event_names if name in names), None)
