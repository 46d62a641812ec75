"""What changed between two contracts' fields, and whether readers and stored data survive it.

Safe is what Avro's schema resolution and Iceberg's schema evolution both allow without rewriting data; either alone
allows more (Avro int to double, Iceberg nested renames), which the other would then refuse in the middle of an apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mesh_pipelines.contract.model import Field, FieldType, Kind


class ChangeKind(StrEnum):
    """What happened to one field."""

    ADD = "add"
    ADD_REQUIRED = "add-required"
    RENAME = "rename"
    RENAME_NESTED = "rename-nested"
    RENAME_EVENT = "rename-event"
    LOSE_EVENT = "lose-event"
    DROP = "drop"
    WIDEN = "widen"
    RETYPE = "retype"
    RELAX = "relax"
    REQUIRE = "require"
    REKEY = "rekey"


_SAFE = frozenset({ChangeKind.ADD, ChangeKind.RENAME, ChangeKind.RENAME_EVENT, ChangeKind.WIDEN, ChangeKind.RELAX})
_WIDENS = {(Kind.INT, Kind.LONG), (Kind.FLOAT, Kind.DOUBLE), (Kind.UUID, Kind.STRING)}


@dataclass(frozen=True)
class Change:
    """One change of one field: ``field`` is its dotted path now (before, for a dropped one).

    ``before`` and ``after`` are what changed as text: types, names, or key positions; empty where there is nothing.
    """

    kind: ChangeKind
    field: str
    before: str = ""
    after: str = ""

    @property
    def is_safe(self) -> bool:
        """Whether earlier data and readers still work after it."""
        return self.kind in _SAFE

    def __str__(self) -> str:
        return _SENTENCES[self.kind].format(field=self.field, before=self.before, after=self.after)


_SENTENCES = {
    ChangeKind.ADD: "add {field} ({after})",
    ChangeKind.ADD_REQUIRED: "add {field} ({after}), required and without a default: earlier events do not have it",
    ChangeKind.RENAME: "rename {before} to {field}",
    ChangeKind.RENAME_NESTED: "rename {before} to {field}: only top-level fields can be renamed",
    ChangeKind.RENAME_EVENT: "read {field} from {after}, and in earlier events from {before}",
    ChangeKind.LOSE_EVENT: "read {field} from {after} and no more from {before}, which earlier events have",
    ChangeKind.DROP: "drop {field} ({before}): readers would lose it",
    ChangeKind.WIDEN: "widen {field} from {before} to {after}",
    ChangeKind.RETYPE: "change {field} from {before} to {after}: earlier values do not fit",
    ChangeKind.RELAX: "let {field} be null",
    ChangeKind.REQUIRE: "require {field}: earlier events may have null",
    ChangeKind.REKEY: "change the key from ({before}) to ({after}): existing rows would change",
}


def changes(old: Sequence[Field], new: Sequence[Field]) -> tuple[Change, ...]:
    """What has to happen for data of the old fields to become data of the new, in the order of the new.

    A field found by none of its names counts as added, an old one that no new field takes over as dropped. The order
    of fields, descriptions, defaults and rules are not changes.
    """
    found = list(_changes(old, new, ""))
    renamed = {change.before: change.field for change in found if change.kind is ChangeKind.RENAME}
    before, after = _key(old), _key(new)
    if [renamed.get(name, name) for name in before] != after:
        found.append(Change(ChangeKind.REKEY, "", ", ".join(before), ", ".join(after)))
    return tuple(found)


def type_text(field_type: FieldType) -> str:
    """A type as a person writes it: ``decimal(12, 2)``, ``list of long``."""
    match field_type.kind:
        case Kind.DECIMAL:
            return f"decimal({field_type.precision}, {field_type.scale})"
        case Kind.LIST | Kind.MAP:
            assert field_type.items is not None, f"{field_type.kind} without an item type"
            return f"{field_type.kind} of {type_text(field_type.items)}"
        case kind:
            return str(kind)


def _changes(old: Sequence[Field], new: Sequence[Field], path: str) -> Iterator[Change]:
    former = {field.name: field for field in old}
    names = {field.name for field in new}
    taken: set[str] = set()
    for field in new:
        source = _source(field, former, names)
        if source is None:
            missing = field.required and not field.has_default
            kind = ChangeKind.ADD_REQUIRED if missing else ChangeKind.ADD
            yield Change(kind, f"{path}{field.name}", after=type_text(field.type))
            continue
        taken.add(source.name)
        if source.name != field.name:
            kind = ChangeKind.RENAME_NESTED if path else ChangeKind.RENAME
            yield Change(kind, f"{path}{field.name}", f"{path}{source.name}", f"{path}{field.name}")
        yield from _field_changes(source, field, f"{path}{field.name}")
    for field in old:
        if field.name not in taken:
            yield Change(ChangeKind.DROP, f"{path}{field.name}", before=type_text(field.type))


def _source(field: Field, former: dict[str, Field], names: set[str]) -> Field | None:
    """The old field that a new one goes on from: of its name, else of a former name that nobody has now."""
    candidates = (field.name, *(alias for alias in field.former_columns if alias not in names))
    return next((former[name] for name in candidates if name in former), None)


def _field_changes(old: Field, new: Field, path: str) -> Iterator[Change]:
    if old.event_name not in new.event_names:
        yield Change(ChangeKind.LOSE_EVENT, path, old.event_name, new.event_name)
    elif old.event_name != new.event_name and old.name == new.name:
        yield Change(ChangeKind.RENAME_EVENT, path, old.event_name, new.event_name)
    yield from _type_changes(old.type, new.type, path)
    if old.required and not new.required:
        yield Change(ChangeKind.RELAX, path)
    elif new.required and not old.required:
        yield Change(ChangeKind.REQUIRE, path)


def _type_changes(old: FieldType, new: FieldType, path: str) -> Iterator[Change]:
    if old.kind is new.kind is Kind.STRUCT:
        yield from _changes(old.fields, new.fields, f"{path}.")
    elif old.kind is new.kind and old.items and new.items:
        yield from _type_changes(old.items, new.items, f"{path}[]")
    elif old != new:
        kind = ChangeKind.WIDEN if _widens(old, new) else ChangeKind.RETYPE
        yield Change(kind, path, type_text(old), type_text(new))


def _widens(old: FieldType, new: FieldType) -> bool:
    if old.kind is new.kind is Kind.DECIMAL:
        return old.scale == new.scale and old.precision < new.precision
    return (old.kind, new.kind) in _WIDENS


def _key(fields: Sequence[Field]) -> list[str]:
    return [field.name for field in sorted(fields, key=lambda field: field.key_position) if field.key_position]
