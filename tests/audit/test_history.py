from __future__ import annotations

from dataclasses import replace

from mesh_pipelines.audit import history
from mesh_pipelines.audit.audit import audit


def test_a_row_per_rule_that_tells_the_audit_again(case, connection):
    connection.register("candidate", case.rows)
    done = audit(connection, "candidate", case.product, candidate_id="c7")
    table = history.rows(case.product, 7, done)
    assert table.schema == history.RESULT_SCHEMA
    assert set(table["version"].to_pylist()) == {7}
    assert set(table["candidate_id"].to_pylist()) == {"c7"}
    assert {at.isoformat(timespec="microseconds") for at in table["at"].to_pylist()} == {done.verdict.at}
    # Samples show data and so are never stored.
    [(row, results)] = history.audits(table)
    assert row["candidate_id"] == "c7"
    assert results == tuple(replace(one, sample=()) for one in done.results)


def test_no_rows_tell_of_no_audit(case, connection):
    connection.register("candidate", case.rows)
    done = audit(connection, "candidate", case.product, candidate_id="c7")
    assert history.audits(history.rows(case.product, 7, done).slice(0, 0)) == []
