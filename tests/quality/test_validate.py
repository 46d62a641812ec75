"""Great Expectations must come to the same outcome as our own pass, rule by rule."""

from __future__ import annotations

from mesh_pipelines.quality.run import audit
from mesh_pipelines.quality.validate import validate_with_gx


def test_great_expectations_agrees_with_the_audit(case, connection):
    connection.register("candidate", case.rows)
    ours = audit(connection, "candidate", case.product, candidate_id="c1").results
    theirs = validate_with_gx(connection, case.product)
    assert [(one.rule, one.state, one.message) for one in theirs] == [
        (one.rule, one.state, one.message) for one in ours
    ]
