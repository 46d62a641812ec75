"""The row rules that a row breaks, as the bits of one number, so that counts can be added and subtracted.

A number is stored with each row of a base. When the row is replaced, what it counted for is known without reading any
other column of it. One more bit says that the message's key is not the text of the contract's key: while no row has
it, rows with the same key fields have the same message key, so the fold alone keeps the key unique.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mesh_pipelines.contract.envelope import KEY
from mesh_pipelines.contract.model import DataProduct, Kind, Rule
from mesh_pipelines.rules.compile import compile_product
from mesh_pipelines.sql.quote import quote

# A signed number of 64 bits has 63 to use, and one of them is about the key.
MOST_RULES = 62
MISKEYED = MOST_RULES
_TEXTUAL = frozenset({Kind.STRING, Kind.UUID, Kind.INT, Kind.LONG, Kind.DATE})


@dataclass(frozen=True)
class Mask:
    """``rules`` in the order of their bits; ``sql`` gives the number of a row, null where it cannot be computed.

    ``fingerprint`` says what the bits mean: numbers under different ones have nothing to do with each other.
    """

    rules: tuple[str, ...]
    sql: str
    fingerprint: str

    @property
    def bits(self) -> Mapping[str, int]:
        """The rules' bits, by rule."""
        return {rule: bit for bit, rule in enumerate(self.rules)}


@dataclass(frozen=True)
class Known:
    """What is known of a candidate before its audit: its rows, and by rule how many of them are bad.

    ``suspects`` gives the name of a relation with every row that breaks a row rule, and maybe others, once it is asked.
    ``miskeyed`` counts the rows whose message key is not the text of the contract's key.
    """

    rows: int
    bad: Mapping[str, int]
    miskeyed: int
    suspects: Callable[[], str]


def mask_of(product: DataProduct) -> Mask:
    """The product's mask; one with more rules than bits has none, and its rows' numbers are null."""
    compiled = compile_product(product).row_rules
    if len(compiled) > MOST_RULES:
        return Mask((), "NULL::BIGINT", _fingerprint(()))
    predicates = {bit: one.predicate for bit, one in enumerate(compiled)} | {MISKEYED: is_miskeyed(product)}
    terms = [f"CASE WHEN {predicate} THEN {1 << bit} ELSE 0 END" for bit, predicate in predicates.items()]
    return Mask(
        tuple(one.rule.id for one in compiled),
        f"TRY(({' | '.join(f'({term})::BIGINT' for term in terms)}))",
        _fingerprint(tuple(predicates.values())),
    )


def is_miskeyed(product: DataProduct) -> str:
    """Whether a message's key is another text than that of the contract's key fields, as SQL over an event.

    The text is a function of the fields: that of one field its own, of several a JSON array.
    """
    if not product.key or any(field.type.kind not in _TEXTUAL for field in product.key):
        return "TRUE"
    names = [quote(field.name) for field in product.key]
    text = f"{names[0]}::VARCHAR" if len(names) == 1 else _array(names)
    return f"{quote(KEY)} IS DISTINCT FROM encode({text})"


def keeps_unique(rule: Rule, product: DataProduct) -> bool:
    """Whether a uniqueness rule follows from the key's, so that it holds where no row is miskeyed."""
    return {field.name for field in product.key} <= set(rule.fields)


def _array(names: Sequence[str]) -> str:
    items = " || ',' || ".join(f"to_json({name})::VARCHAR" for name in names)
    return f"'[' || {items} || ']'"


def _fingerprint(predicates: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(predicates).encode()).hexdigest()[:16]
