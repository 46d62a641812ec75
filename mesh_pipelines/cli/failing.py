"""What breaks the rules of a candidate: a line for each row under a blocked run, tables when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mesh_pipelines.cli.output import Format, Output, cell
from mesh_pipelines.counted import counted

if TYPE_CHECKING:
    from mesh_pipelines.contract.model import DataProduct
    from mesh_pipelines.platform import Platform
    from mesh_pipelines.positions import Version
    from mesh_pipelines.serve.broken_rules import Failing

# Rows, or groups, of each rule under a blocked run.
_FEW = 5


def say_blocked(output: Output, platform: Platform, names: Sequence[str]) -> None:
    """Of each blocked product, what broke the rules that blocked it: up to five rows, or groups, of each."""
    if output.form is Format.JSON:
        return
    for name in names:
        product = platform.product(name)
        version, found = _found(platform, product, Asked())
        for one in found:
            if one.result.blocks:
                output.say(_headline(product, version, one))
                output.say("\n".join(f"  {line}" for line in _lines(product, one)))


class Asked(NamedTuple):
    """What is asked of a product: a version (None: the newest candidate), a rule (None: all), rows of each at most."""

    version: int | None = None
    rule: str | None = None
    limit: int = _FEW


def list_failing(output: Output, platform: Platform, product: DataProduct, asked: Asked) -> None:
    """Print what breaks the rules of a version, or of the newest candidate."""
    version, found = _found(platform, product, asked)
    if output.form is Format.JSON:
        output.records([_record(product, version, one) for one in found])
        return
    for one in found:
        output.say(_headline(product, version, one))
        if one.rows:
            output.records([dict(zip(one.rows.columns, row, strict=True)) for row in one.rows.rows], one.rows.columns)
            if one.rows.more:
                output.say(f"there are more than {asked.limit:,}; raise --limit to see them")
        if one.cause:
            output.say(one.cause)
    broken = [one for one in found if one.result.state not in ("pass", "vacuous")]
    if broken:
        are = counted(len(broken), "rule is", "rules are")
        output.say(f"{are} broken; next: fix the data at its source, then mesh run {product.fqn}")
    else:
        output.say(
            f"version {version.number} of {product.fqn} keeps {'its rules' if asked.rule is None else 'this rule'}"
        )


def _found(platform: Platform, product: DataProduct, asked: Asked) -> tuple[Version, list[Failing]]:
    from mesh_pipelines.serve.broken_rules import failing, judged
    from mesh_pipelines.serve.door import Reader, Shelf

    version = judged(platform, product, asked.version)
    return version, failing(Shelf(platform, product, version, Reader.OWNER), asked.rule, asked.limit)


def _headline(product: DataProduct, version: Version, one: Failing) -> str:
    """Which rule, what it measured and what was promised, or why it could not be computed."""
    result = one.result
    said = f"{result.state}: {product.fqn} version {version.number} {result.rule} ({result.check})"
    if result.message:
        return f"{said}: {result.message}"
    bad = f"{result.bad:,} of {counted(result.rows, 'row')}, " if result.bad is not None else ""
    return f"{said}: {bad}measured {cell(result.measured)}, promised {result.threshold}"


def _lines(product: DataProduct, one: Failing) -> Iterator[str]:
    """A line for each row or group, then the cause."""
    for row in one.rows.rows if one.rows else ():
        values = dict(zip(one.rows.columns, row, strict=True)) if one.rows else {}
        yield _group_line(one, values) if one.is_grouped else _row_line(product, one, values)
    if one.cause:
        yield one.cause


def _row_line(product: DataProduct, one: Failing, values: dict[str, Any]) -> str:
    """Where the row's event lies, its key and the rule's fields."""
    fields = one.rule.fields if one.rule else ()
    shown = dict.fromkeys([*(field.name for field in product.key), *fields] or [field.name for field in product.fields])
    said = ", ".join(f"{name}={values[name]}" for name in shown)
    return f"{values['_partition']}:{values['_offset']}  {said}" if product.has_log else said


def _group_line(one: Failing, values: dict[str, Any]) -> str:
    from mesh_pipelines.serve.broken_rules import COPIES, EVENTS

    shared = ", ".join(f"{name}={values[name]}" for name in (one.rule.fields if one.rule else ()))
    places = f": {', '.join(values[EVENTS])}" if EVENTS in values else ""
    return f"{counted(values[COPIES], 'row has', 'rows have')} {shared}{places}"


def _record(product: DataProduct, version: Version, one: Failing) -> dict[str, Any]:
    result = one.result
    return {
        "product": product.fqn,
        "version": version.number,
        "published": version.published_at is not None,
        "rule": result.rule,
        "check": result.check,
        "state": str(result.state),
        "blocks": result.blocks,
        "rows_judged": result.rows,
        "bad": result.bad,
        "measured": result.measured,
        "promised": result.threshold,
        "message": result.message,
        "cause": one.cause,
        "rows": [dict(zip(one.rows.columns, row, strict=True)) for row in one.rows.rows] if one.rows else [],
        "more": bool(one.rows and one.rows.more),
    }
