"""A contract's rules as a Great Expectations suite: reviewable JSON beside the contract, in which no rule is lost.

Where a library expectation means exactly what the rule means it is used; everything else is a query for unexpected
rows, which can say anything. "Exactly" leaves out all shares (``mostly`` divides by the rows without null, the standard
by all) and all comparisons but "none". The text is stable: it changes when, and only when, what is promised changes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.metrics.metric import Expectation
from mesh_pipelines.contract.metrics.registry import metric_of
from mesh_pipelines.contract.metrics.together import duplicates_query
from mesh_pipelines.contract.model import DataProduct, OnFailure, Operator, Rule, RuleKind, Unit
from mesh_pipelines.rules.compile import CompiledRule, compile_product, condition
from mesh_pipelines.sql.quote import quote

SUITE = "expectations.json"
BATCH = "{batch}"
_UNEXPECTED_ROWS = "unexpected_rows_expectation"
# Stands for the batch until the braces of the query are escaped; no SQL text can hold it.
_MARK = "\0"


def suite(product: DataProduct, inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The suite of a product: one expectation per rule, in the contract's order, each naming its rule in ``meta``.

    ``inputs`` names the views of a derived product's inputs where they are not called ``domain.name``.

    Raises:
        ContractInvalid: a rule compiles to nothing.
    """
    return {
        "name": product.fqn,
        "id": _id(product.fqn),
        "meta": {"contract_version": product.contract_version},
        "expectations": [expectation(compiled, product, inputs) for compiled in compile_product(product).rules],
    }


def suite_text(product: DataProduct) -> str:
    """The suite as the text of its file."""
    return json.dumps(suite(product), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def suite_file(product: DataProduct) -> Path:
    """Where the suite is kept: beside the contract."""
    return product.folder / SUITE


def expectation(
    compiled: CompiledRule, product: DataProduct, inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One rule as an expectation: type, kwargs, severity, and the rule in ``meta``."""
    rule = compiled.rule
    kind, kwargs = _exact(rule, product) or (
        _UNEXPECTED_ROWS,
        {"unexpected_rows_query": _unexpected(compiled, inputs or {})},
    )
    meta = {"rule": rule.id, "check": rule.check, "dimension": rule.dimension, "on_failure": str(rule.on_failure)}
    return {
        "id": _id(f"{product.fqn}/{rule.id}"),
        "type": kind,
        "kwargs": kwargs,
        "meta": meta,
        "severity": "warning" if rule.on_failure is OnFailure.WARN else "critical",
        **({"description": rule.description} if rule.description else {}),
    }


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mesh:{name}"))


def _exact(rule: Rule, product: DataProduct) -> Expectation | None:
    """The library expectation that means the same as the rule, if there is one."""
    if rule.kind is RuleKind.EXPECTATION:
        return str(rule.arguments["type"]), dict(rule.arguments["kwargs"])
    metric = metric_of(rule.check)
    if metric is None or (rule.kind in (RuleKind.ROW, RuleKind.UNIQUE) and not _means_none(rule)):
        return None
    return metric.expectation(rule, {field.name: field for field in product.fields})


def _means_none(rule: Rule) -> bool:
    """Whether the rule allows no bad row at all, which is the same in every unit."""
    return rule.operator in (Operator.MUST_BE, Operator.LESS_OR_EQUAL) and rule.threshold == 0


def _unexpected(compiled: CompiledRule, inputs: Mapping[str, str]) -> str:
    """A query that gives a row if, and only if, the rule is broken."""
    rule = compiled.rule
    match rule.kind:
        case RuleKind.ROW if _means_none(rule):
            return _escaped(f"SELECT * FROM {_MARK} WHERE {compiled.predicate}")
        case RuleKind.ROW:
            counted = f"SELECT count(*) FILTER (WHERE {compiled.predicate}) AS bad, count(*) AS total FROM {_MARK}"
        case RuleKind.UNIQUE:
            duplicates = duplicates_query(rule.fields, _MARK)
            counted = f"SELECT ({duplicates}) AS bad, (SELECT count(*) FROM {_MARK}) AS total"
        case RuleKind.ROW_COUNT:
            counted = f"SELECT count(*) AS bad, 1 AS total FROM {_MARK}"
        case _:
            return _escaped(_unexpected_value(compiled, inputs))
    value = "coalesce(100.0 * bad / nullif(total, 0), 0)" if rule.unit is Unit.PERCENT else "bad"
    kept = condition(value, rule.operator, rule.threshold)
    return _escaped(f"SELECT bad, total FROM ({counted}) AS counted WHERE NOT ({kept})")


def _unexpected_value(compiled: CompiledRule, inputs: Mapping[str, str]) -> str:
    """A rule's own query compared: null keeps no promise, but breaks none of no rows."""
    rule = compiled.rule
    query = compiled.query.bound(_MARK, {name: quote(view) for name, view in inputs.items()})
    value = "measured" if isinstance(rule.threshold, bool) else "CAST(measured AS DOUBLE)"
    kept = condition(value, rule.operator, rule.threshold)
    nothing = f"measured IS NULL AND NOT EXISTS (SELECT 1 FROM {_MARK})"
    return f"SELECT measured FROM (\n{query}\n) AS measurement(measured) WHERE ({kept}) IS NOT TRUE AND NOT ({nothing})"


def _escaped(query: str) -> str:
    """The query as the library wants it: it formats the text (braces) and then looks for parameters (colons)."""
    formatted = query.replace("{", "{{").replace("}", "}}")
    # SQLAlchemy takes ":name" for a parameter, and "\:" for a colon that is none.
    colons = re.sub(r"(?<![:\w\\]):(?=\w+(?![:\w]))|(?<=\\):", r"\\:", formatted)
    return colons.replace(_MARK, BATCH)
