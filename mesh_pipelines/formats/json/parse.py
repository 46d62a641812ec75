"""JSON texts to rows of a contract's fields, with the types checked while they are parsed.

Two decoders of msgspec's read them. The first takes the usual forms of each type at the speed of C; what it refuses is
looked at again by the second, which takes all forms (``forms``) and says what is wrong. The first one rounds times of
more than six digits, so texts that may have one are for the second from the start. One decoder for all was ruled out:
it calls Python for each time and whole number, which costs as much as all the rest of reading an event.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.decoded import buffers
from mesh_pipelines.formats.json.forms import form, hook

# A byte order mark, which RFC 8259 forbids to write and allows to pass over.
_MARK = b"\xef\xbb\xbf"
_SPACES = b" \t\n\r"
# A fraction of more than six digits that is not that of a number: as it is, or with digits as escapes.
_FINE = re.compile(rb'\.[0-9]{7,}["Zz+ -]')
_ESCAPED = re.compile(rb"\\u00(?:2[eE]|3[0-9])")
_INT = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_LONG = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.INT: _INT,
    Kind.LONG: _LONG,
    Kind.FLOAT: float,
    Kind.DOUBLE: float,
    Kind.DECIMAL: decimal.Decimal,
    Kind.STRING: str,
    Kind.UUID: str,
    Kind.BYTES: bytes,
    Kind.DATE: dt.date,
    Kind.TIME: Annotated[dt.time, msgspec.Meta(tz=False)],
    Kind.TIMESTAMP: Annotated[dt.datetime, msgspec.Meta(tz=True)],
    Kind.TIMESTAMP_LOCAL: Annotated[dt.datetime, msgspec.Meta(tz=False)],
}
_TypeOf = Callable[[FieldType], Any]


class Unreadable(ValueError):
    """A text that is not the contract's JSON; the message says what is wrong, without its values."""


class Parser:
    """Reads JSON objects as rows: structs with a member for each name that events may call a field by (``member``)."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = fields

    def of(self, values: pa.LargeBinaryArray) -> Callable[[bytes], Any]:
        """What reads one of these values: gives its row, or None for one that says that there is nothing.

        It raises Unreadable.
        """
        data, bounds = buffers(values)
        return self._with_care if _is_fine(data[bounds[0] : bounds[-1]]) else self._parse

    def _parse(self, text: bytes) -> Any:
        try:
            return self._usual.decode(text)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
            return self._again(text)

    def _with_care(self, text: bytes) -> Any:
        return self._again(text) if _is_fine(text) else self._parse(text)

    def _again(self, text: bytes) -> Any:
        text = unmarked(text)
        bare = text.strip(_SPACES)
        if bare == b"null":
            return None
        if not bare:
            raise Unreadable("it is empty, and a deletion is a null value")
        try:
            return self._careful.decode(text)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
            raise Unreadable(_why(error)) from None

    @cached_property
    def _usual(self) -> msgspec.json.Decoder[Any]:
        return _decoder(self._fields, lambda kind: (kind.epoch and form(kind)) or _TYPES[kind.kind])

    @cached_property
    def _careful(self) -> msgspec.json.Decoder[Any]:
        return _decoder(self._fields, lambda kind: form(kind) or _TYPES[kind.kind])


def unmarked(text: bytes) -> bytes:
    """A text without a byte order mark in front."""
    return text.removeprefix(_MARK)


def member(number: int) -> str:
    """The member of a row for the name of this number, of all that events may call the fields by."""
    return f"f{number}"


def names(fields: Sequence[Field]) -> Iterator[str]:
    """All names that events may call the fields by, in the order of their members."""
    return (name for field in fields for name in field.event_names)


def _is_fine(text: Any) -> bool:
    """Whether a text may have a time that is finer than a microsecond."""
    return bool(_FINE.search(text) or _ESCAPED.search(text))


def _why(error: Exception) -> str:
    """What is wrong with a text: msgspec names places and types, and no values; the others' words are not its own."""
    match error:
        case msgspec.MsgspecError():
            return str(error).splitlines()[0][:200]
        case UnicodeDecodeError():
            return "it must be UTF-8"
        case RecursionError():
            return "it nests too deeply"
        case _:
            return "it has a number that cannot be read"


def _decoder(fields: Sequence[Field], type_of: _TypeOf) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_struct("value", fields, type_of), dec_hook=hook, float_hook=decimal.Decimal)


def _struct(name: str, fields: Sequence[Field], type_of: _TypeOf) -> type[msgspec.Struct]:
    """A class with a member for each name that events may call one of the fields by; the names may be any text."""
    members: list[tuple[str, Any, Any]] = []
    for field in fields:
        read = _type(f"{name}_{field.name}", field.type, type_of) | None
        *others, _ = field.event_names
        members += [(member(len(members) + at), read | msgspec.UnsetType, msgspec.UNSET) for at in range(len(others))]
        members.append((member(len(members)), read, _default(field)))
    return msgspec.defstruct(name, members, rename={member(at): known for at, known in enumerate(names(fields))})


def _type(name: str, field_type: FieldType, type_of: _TypeOf) -> Any:
    match field_type.kind:
        case Kind.LIST:
            assert field_type.items is not None
            return list[_type(f"{name}_item", field_type.items, type_of) | None]
        case Kind.MAP:
            assert field_type.items is not None
            return dict[str, _type(f"{name}_value", field_type.items, type_of) | None]
        case Kind.STRUCT:
            return _struct(name, field_type.fields, type_of)
        case _:
            return type_of(field_type)


def _default(field: Field) -> Any:
    if not field.has_default or field.default is None:
        return None
    value = msgspec.convert(field.default, _type(field.name, field.type, lambda kind: _TYPES[kind.kind]), strict=False)
    return msgspec.field(default_factory=lambda: value) if isinstance(value, list | dict) else value
