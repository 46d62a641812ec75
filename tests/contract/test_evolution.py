from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.compare import Change, ChangeKind, changes
from mesh_pipelines.contract.model import Field, FieldType, Kind

KEY = Field("id", FieldType(Kind.STRING), required=True, key_position=1)
POINT = FieldType(Kind.STRUCT, fields=(Field("lat", FieldType(Kind.FLOAT)), Field("lon", FieldType(Kind.FLOAT))))


def field(name: str = "a", kind: Kind = Kind.INT, **more: object) -> Field:
    return replace(Field(name, FieldType(kind)), **more)


def decimal(precision: int, scale: int) -> FieldType:
    return FieldType(Kind.DECIMAL, precision, scale)


@pytest.mark.parametrize(
    ("old", "new", "change", "safe"),
    [
        (None, field(), "add a (int)", True),
        (None, field(required=True, has_default=True, default=0), "add a (int)", True),
        (
            None,
            field(required=True),
            "add a (int), required and without a default: earlier events do not have it",
            False,
        ),
        (field(), None, "drop a (int): readers would lose it", False),
        (field(), field("b", aliases=("a",)), "rename a to b", True),
        (field(), field(kind=Kind.LONG), "widen a from int to long", True),
        (field(kind=Kind.FLOAT), field(kind=Kind.DOUBLE), "widen a from float to double", True),
        (field(kind=Kind.UUID), field(kind=Kind.STRING), "widen a from uuid to string", True),
        (field(type=decimal(9, 2)), field(type=decimal(12, 2)), "widen a from decimal(9, 2) to decimal(12, 2)", True),
        (field(kind=Kind.LONG), field(), "change a from long to int: earlier values do not fit", False),
        (field(), field(kind=Kind.DOUBLE), "change a from int to double: earlier values do not fit", False),
        (
            field(kind=Kind.STRING),
            field(kind=Kind.UUID),
            "change a from string to uuid: earlier values do not fit",
            False,
        ),
        (
            field(type=decimal(9, 2)),
            field(type=decimal(12, 3)),
            "change a from decimal(9, 2) to decimal(12, 3): earlier values do not fit",
            False,
        ),
        (field(required=True), field(), "let a be null", True),
        (
            field(),
            field(physical_name="A"),
            "read a from A and no more from a, which earlier events have",
            False,
        ),
        (
            field(physical_name="B"),
            field(physical_name="A", aliases=("B",)),
            "read a from A, and in earlier events from B",
            True,
        ),
        (field(), field("b", physical_name="a", aliases=("a",)), "rename a to b", True),
        (field(), field(required=True), "require a: earlier events may have null", False),
        (
            field(kind=Kind.DATE),
            field(kind=Kind.TIMESTAMP),
            "change a from date to timestamp: earlier values do not fit",
            False,
        ),
    ],
)
def test_one_change(old: Field | None, new: Field | None, change: str, safe: bool) -> None:
    found = changes([KEY, *([old] if old else [])], [KEY, *([new] if new else [])])
    assert [(str(one), one.is_safe) for one in found] == [(change, safe)]


def test_what_is_no_change() -> None:
    before = [KEY, field(), field("b")]
    after = [field("b", description="new", tags=("t",)), KEY, field(default=1, has_default=True, aliases=("z",))]
    assert changes(before, after) == ()


def test_changes_inside_structs_lists_and_maps() -> None:
    wide = FieldType(Kind.STRUCT, fields=(Field("lat", FieldType(Kind.DOUBLE)), Field("height", FieldType(Kind.INT))))
    renamed = FieldType(
        Kind.STRUCT, fields=(Field("lat", FieldType(Kind.FLOAT)), field("x", Kind.FLOAT, aliases=("lon",)))
    )
    before = [KEY, field(type=POINT), field("b", type=FieldType(Kind.LIST, items=POINT)), field("c", type=POINT)]
    after = [KEY, field(type=wide), field("b", type=FieldType(Kind.LIST, items=wide)), field("c", type=renamed)]
    assert changes(before, after) == (
        Change(ChangeKind.WIDEN, "a.lat", "float", "double"),
        Change(ChangeKind.ADD, "a.height", after="int"),
        Change(ChangeKind.DROP, "a.lon", before="float"),
        Change(ChangeKind.WIDEN, "b[].lat", "float", "double"),
        Change(ChangeKind.ADD, "b[].height", after="int"),
        Change(ChangeKind.DROP, "b[].lon", before="float"),
        Change(ChangeKind.RENAME_NESTED, "c.x", "c.lon", "c.x"),
    )
    assert not Change(ChangeKind.RENAME_NESTED, "c.x").is_safe
    numbers = [field(type=FieldType(Kind.MAP, items=FieldType(kind))) for kind in (Kind.INT, Kind.STRING)]
    (change,) = changes(numbers[:1], numbers[1:])
    assert (change.field, change.kind) == ("a[]", ChangeKind.RETYPE)


def test_a_name_taken_again_is_no_rename() -> None:
    before = [KEY, field("old")]
    after = [KEY, field("new", aliases=("old",)), field("old")]
    assert changes(before, after) == (Change(ChangeKind.ADD, "new", after="int"),)


def test_a_field_is_renamed_and_widened_at_once() -> None:
    found = changes([KEY, field("old")], [KEY, field("new", Kind.LONG, aliases=("older", "old"))])
    assert [change.kind for change in found] == [ChangeKind.RENAME, ChangeKind.WIDEN]


def test_another_key_is_breaking_and_a_renamed_one_is_not() -> None:
    renamed = replace(KEY, name="key", aliases=("id",))
    assert [change.kind for change in changes([KEY], [renamed])] == [ChangeKind.RENAME]
    wider = [KEY, field(required=True, key_position=2)]
    (change,) = changes([KEY, field(required=True)], wider)
    assert str(change) == "change the key from (id) to (id, a): existing rows would change"
    assert not change.is_safe


@given(st.permutations([KEY, field(), field("b", type=POINT), field("c", Kind.DATE)]))
def test_fields_are_unchanged_in_any_order(fields: list[Field]) -> None:
    assert changes([KEY, field(), field("b", type=POINT), field("c", Kind.DATE)], fields) == ()


def test_a_former_name_in_events_is_no_former_column() -> None:
    called = field(aliases=("_key", "oldName", "old"))
    assert called.former_columns == ("oldName", "old")
    (found,) = changes([KEY, field("old")], [KEY, called])
    assert str(found) == "rename old to a"
    assert [str(one) for one in changes([KEY], [KEY, called])] == ["add a (int)"]
