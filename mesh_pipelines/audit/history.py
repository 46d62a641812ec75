"""Rule results as rows: what every view of quality (checks, verdicts, pages, objectives) is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.rules.results import Audit, RuleResult, State

RESULT_SCHEMA = pa.schema(
    [
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("product", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("candidate_id", pa.string(), nullable=False),
        pa.field("contract_version", pa.string(), nullable=False),
        pa.field("contract_hash", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("check", pa.string(), nullable=False),
        pa.field("dimension", pa.string()),
        pa.field("on_failure", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bad", pa.int64()),
        pa.field("measured", pa.float64()),
        pa.field("threshold", pa.string(), nullable=False),
        pa.field("milliseconds", pa.float64(), nullable=False),
        pa.field("message", pa.string()),
    ]
)


def rows(product: DataProduct, version: int, audit: Audit) -> pa.Table:
    """One row per rule of one audit, in ``RESULT_SCHEMA``."""
    common = {
        "at": datetime.fromisoformat(audit.verdict.at),
        "product": product.fqn,
        "version": version,
        "candidate_id": audit.verdict.candidate_id,
        "contract_version": product.contract_version,
        "contract_hash": product.contract_hash,
    }
    records = [
        {
            **common,
            "rule": result.rule,
            "check": result.check,
            "dimension": result.dimension,
            "on_failure": result.on_failure,
            "state": str(result.state),
            "rows": result.rows,
            "bad": result.bad,
            "measured": result.measured,
            "threshold": result.threshold,
            "milliseconds": result.milliseconds,
            "message": result.message,
        }
        for result in audit.results
    ]
    return pa.Table.from_pylist(records, schema=RESULT_SCHEMA)


def audits(table: pa.Table) -> list[tuple[dict[str, Any], tuple[RuleResult, ...]]]:
    """All audits that stored rows tell of, newest first: one of its rows, for what it was of, and its results.

    They are as they were stored; ``serve/stored_results.py`` gives them as far as they may be told.
    """
    found: dict[tuple[datetime, str], list[dict[str, Any]]] = {}
    for row in table.sort_by([("at", "descending")]).to_pylist():
        found.setdefault((row["at"], row["candidate_id"]), []).append(row)
    return [(rows[0], _results(rows)) for rows in found.values()]


def _results(rows: Sequence[Mapping[str, Any]]) -> tuple[RuleResult, ...]:
    return tuple(
        RuleResult(
            rule=row["rule"],
            check=row["check"],
            dimension=row["dimension"] or "",
            on_failure=row["on_failure"],
            state=State(row["state"]),
            rows=row["rows"],
            bad=row["bad"],
            measured=row["measured"],
            threshold=row["threshold"],
            milliseconds=row["milliseconds"],
            message=row["message"] or "",
        )
        for row in rows
    )
