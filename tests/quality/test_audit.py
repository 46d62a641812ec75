from __future__ import annotations

import duckdb
import pyarrow as pa

from mesh_pipelines.quality.results import Audit
from mesh_pipelines.quality.run import audit


def run(connection: duckdb.DuckDBPyConnection, rows: pa.Table, product) -> Audit:
    connection.register("candidate", rows)
    return audit(connection, "candidate", product, candidate_id="c1")


def test_case(case, connection):
    done = run(connection, case.rows, case.product)
    found = {
        one.rule: (
            str(one.state),
            None
            if case.expected.get(one.rule, ("", None))[1] is None
            else float(one.bad if one.bad is not None else one.measured or 0),
        )
        for one in done.results
    }
    assert found == dict(case.expected)
