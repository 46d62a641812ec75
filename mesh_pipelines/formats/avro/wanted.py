"""What a contract wants of a writer's schema: the same tree, in which all else is passed over by its form on the wire.

A field that no contract asks for may be of any type at all, at any depth: it takes no part in what is read. A union of
several types is read by what the contract has in its place. An object whose fields are named by the union's branches
(``long``, ``string``, the name of a record) gets each value in the field of its branch. Any other type gets the values
of the branches that can be read as it; text gets every branch, what is no text as JSON. Avro's rules for a reader's
schema ("Schema Resolution") are the same but for text and objects by branch, which they do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mesh_pipelines.contract.model import Field, FieldType, Kind
from mesh_pipelines.formats.avro.schema import Node, Unreadable
from mesh_pipelines.formats.avro.to_fields import field_type
from mesh_pipelines.formats.readable import find, is_readable


def wanted(record: Node, fields: Sequence[Field]) -> Node:
    """The record of a writer's schema with what these fields want; other types than records are given back."""
    if record.kind != "record":
        return record
    found = {find(record.names, field): field for field in fields}
    children = [
        _wanted(child, found[name].type) if name in found else _skip(child)
        for name, child in zip(record.names, record.children, strict=True)
    ]
    return replace(record, children=tuple(children), origin=record)


def _wanted(node: Node, want: FieldType) -> Node:
    match node.kind, want.kind:
        case (("record" | "again"), Kind.STRUCT):
            return wanted(node.whole, want.fields)
        case ("array", Kind.LIST) | ("map", Kind.MAP):
            assert want.items is not None
            return replace(node, children=(_wanted(node.children[0], want.items),), origin=node)
        case "union", _:
            return _union(node, want)
        case _:
            return node


def _union(node: Node, want: FieldType) -> Node:
    if node.optional:
        return replace(node, children=tuple(_wanted(child, want) for child in node.children), origin=node)
    if by_branch := _by_branch(node, want):
        names = tuple(field.event_name if field else str(at) for at, field in enumerate(by_branch))
        children = [
            _wanted(child, field.type) if field else child if child.kind == "null" else _skip(child)
            for child, field in zip(node.children, by_branch, strict=True)
        ]
    else:
        names, children = (), [_branch(child, want) for child in node.children]
    return replace(node, children=tuple(children), names=names, origin=node)


def _by_branch(node: Node, want: FieldType) -> list[Field | None] | None:
    """For each branch the field that is named by it; None where a field is not named by one."""
    if want.kind is not Kind.STRUCT:
        return None
    fields = [
        next((field for field in want.fields if field.event_name in _names(child)), None) for child in node.children
    ]
    return fields if {field.name for field in fields if field} == {field.name for field in want.fields} else None


def _names(branch: Node) -> tuple[str, ...]:
    return (branch.name, branch.name.rpartition(".")[2]) if branch.name else (branch.kind,)


def _branch(child: Node, want: FieldType) -> Node:
    """The branch as it is read in place of this type; passed over where it cannot be."""
    if child.kind == "null":
        return child
    found = _wanted(child, want)
    try:
        return found if is_readable(field_type(found), want, is_branch=True) else _skip(child)
    except Unreadable:
        return _skip(child)


def _skip(node: Node) -> Node:
    return Node("skip", (node,))
