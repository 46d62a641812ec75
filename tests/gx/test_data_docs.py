"""Data Docs that need no network: what they say, and that they refer to nothing outside their folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh_pipelines.audit import history
from mesh_pipelines.audit.audit import audit
from mesh_pipelines.errors import UsageError
from mesh_pipelines.gx.data_docs import build, offline

SECRET = "ann@example.com"
FIELDS = {
    "properties": [
        {"name": "mail", "logicalType": "string", "required": True, "classification": "restricted"},
        {"name": "ms", "logicalType": "integer", "logicalTypeOptions": {"minimum": 0}},
        {
            "name": "site",
            "logicalType": "string",
            "logicalTypeOptions": {"pattern": "^https?://[a-z]+$"},
        },
    ],
}
REFERENCES = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|@import\s+([^;]+)""")


@pytest.fixture
def site(make_product, connection, tmp_path: Path) -> Path:
    product = make_product(FIELDS)
    connection.execute(f"CREATE VIEW good AS SELECT '{SECRET}' AS mail, 1 AS ms, 'http://a' AS site")
    connection.execute(f"CREATE VIEW bad AS SELECT '{SECRET}' AS mail, -7 AS ms, 'http://a' AS site")
    tables = [
        history.rows(product, number, audit(connection, view, product, candidate_id=f"c{number}"))
        for number, view in ((1, "good"), (2, "bad"))
    ]
    audits = [one for table in reversed(tables) for one in history.audits(table)]
    return build(product, audits, tmp_path / "site").parent


def test_they_refer_to_nothing_outside_and_run_nothing(site: Path) -> None:
    files = [file for file in site.rglob("*") if file.is_file()]
    assert len([file for file in files if file.suffix == ".html"]) == 4
    for file in files:
        text = file.read_text()
        assert not re.search(r"<script|\son[a-z]+\s*=\s*[\"']|javascript:", text), file
        for found in REFERENCES.finditer(text):
            target = next(group for group in found.groups() if group)
            assert not re.match(r"[a-z]+:|//", target), (file, target)
            if not target.startswith("#"):
                assert (file.parent / target.split("#")[0]).exists(), (file, target)
        assert "newsletter" not in text


def test_they_say_in_words_what_passed_and_what_failed(site: Path) -> None:
    pages = {file.stem: file.read_text() for file in site.rglob("*.html")}
    assert "✔ passed" in pages["index"]
    assert "✘ failed: 1 of 3 rules" in pages["index"]
    assert pages["c1"].count("✔ passed") >= 3
    assert "✘ failed" not in pages["c1"]
    assert "✘ failed" in pages["c2"]
    assert "✔ passed" in pages["c2"]


def test_they_say_what_is_not_checked(make_product, connection, tmp_path: Path) -> None:
    mark = [{"property": "mesh.notChecked", "value": "soda <nightly>"}]
    quality = [{"type": "custom", "engine": "soda", "implementation": "x", "customProperties": mark}]
    product = make_product({**FIELDS, "quality": quality})
    connection.execute("CREATE VIEW good AS SELECT 'a' AS mail, 1 AS ms, 'http://a' AS site")
    done = audit(connection, "good", product, candidate_id="c1")
    assert [one.rule for one in done.results] == ["mail.required", "ms.minimum", "site.pattern"]
    assert done.verdict.rules == 3
    page = build(product, history.audits(history.rows(product, 1, done)), tmp_path / "site").read_text()
    assert "not checked here</strong> custom (soda &lt;nightly&gt;)" in page


def test_they_show_no_rows(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert SECRET not in page.read_text()


def test_a_folder_of_other_things_is_left_alone_and_its_own_is_replaced(
    site: Path, make_product, tmp_path: Path
) -> None:
    product = make_product(FIELDS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError):
        build(product, [], tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    build(product, [], site)
    assert not list(site.rglob("c1.html"))


def test_text_is_kept_and_what_leads_away_is_not() -> None:
    page = (
        '<head></head><a href="https://elsewhere/">a &lt; b &#38; c</a><a href="../x.html" onclick="go()">x</a>'
        '<a href="javascript:go()">y</a><script>if (1 < 2) {}</script><img src="//elsewhere/i.png"><p style="x">z</p>'
    )
    assert offline(page, "style.css") == (
        '<head><link rel="stylesheet" href="style.css"></head><a>a &lt; b &#38; c</a><a href="../x.html">x</a>'
        "<a>y</a><p>z</p>"
    )
