from __future__ import annotations

from dataclasses import replace

from mesh_pipelines.audit import history
from mesh_pipelines.audit.audit import audit
from mesh_pipelines.positions import Version


def version(product, done) -> Version:
    return Version(
        product=product.fqn,
        number=7,
        candidate_id=done.verdict.candidate_id,
        contract_version=product.contract_version,
        contract_hash=product.contract_hash,
        created_at=done.verdict.at,
        rows=done.rows,
        verdict=done.verdict,
    )


def test_a_row_per_rule_that_tells_the_audit_again(case, connection):
    connection.register("candidate", case.rows)
    done = audit(connection, "candidate", case.product, candidate_id="c7")
    table = history.rows(case.product, 7, done)
    assert table.schema == history.RESULT_SCHEMA
    assert set(table["version"].to_pylist()) == {7}
    assert set(table["candidate_id"].to_pylist()) == {"c7"}
    assert {at.isoformat(timespec="microseconds") for at in table["at"].to_pylist()} == {done.verdict.at}
    # Samples show data and so are never stored.
    kept = replace(done, results=tuple(replace(one, sample=()) for one in done.results))
    assert history.audit(table, version(case.product, done)) == kept


def test_no_rows_tell_of_no_audit(case, connection):
    connection.register("candidate", case.rows)
    done = audit(connection, "candidate", case.product, candidate_id="c7")
    table = history.rows(case.product, 7, done)
    assert history.audit(table.slice(0, 0), version(case.product, done)) is None
    assert history.audit(table, replace(version(case.product, done), verdict=None)) is None
