"""Great Expectations' Data Docs of audits that were made, as pages that need no network.

The library builds the pages from our stored results; no rule is computed again. As they come they load styles, scripts,
fonts and images from six hosts, and without those a broken rule looks like one that held. So each page is rewritten:
whatever runs, or refers to another host, is taken out, a status is a word, and one small stylesheet stands beside them.
Keeping copies of those hosts' files was ruled out: megabytes of others' scripts for a page that is read. Stored results
hold no rows, so none are shown.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import UsageError
from mesh_pipelines.gx.suite import suite
from mesh_pipelines.gx.validate import quiet
from mesh_pipelines.rules.results import RuleResult, State

MARK = ".mesh-docs"
STYLE = "style.css"
_SITE = Path("gx/uncommitted/data_docs/local_site")
_GOOD = (State.PASS, State.VACUOUS)
_UNKNOWN = (State.ERROR, State.NOT_EXECUTED)
_CSS = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; }
body { max-width: 75rem; margin: 0 auto; padding: 1.5rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100%; }
th, td { border: 1px solid #c9d1d9; padding: .3rem .6rem; text-align: left; vertical-align: top; }
ul, ol { padding-left: 1.2rem; }
a { color: #0550ae; }
.passed { color: #116329; white-space: nowrap; }
.failed { color: #a40e26; white-space: nowrap; }
.unsure { color: #7d4e00; white-space: nowrap; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; } th, td { border-color: #3d444d; } a { color: #79c0ff; }
  .passed { color: #56d364; } .failed { color: #ff7b72; } .unsure { color: #e3b341; }
}
"""


def build(product: DataProduct, audits: Sequence[tuple[Mapping[str, Any], Sequence[RuleResult]]], folder: Path) -> Path:
    """Build the pages of these audits, each with its ``version``, ``candidate_id`` and ``at``; gives the first page.

    Raises:
        UsageError: the folder holds other things.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(f"{folder} contains files other than Data Docs", next_step="mesh docs --out ANOTHER_FOLDER")
    with tempfile.TemporaryDirectory() as scratch, quiet():
        site = _library_site(product, audits, Path(scratch))
        pages = sorted(site.rglob("*.html"))
        for page in pages:
            depth = len(page.relative_to(site).parts) - 1
            page.write_text(offline(page.read_text(encoding="utf-8"), "../" * depth + STYLE), encoding="utf-8")
        shutil.rmtree(site / "static", ignore_errors=True)
        (site / STYLE).write_text(_CSS, encoding="utf-8")
        (site / MARK).touch()
        (site / "index.html").write_text(_index(product, audits, site), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(site, folder)
    return folder / "index.html"


def _library_site(
    product: DataProduct, audits: Sequence[tuple[Mapping[str, Any], Sequence[RuleResult]]], root: Path
) -> Path:
    """The site as the library builds it."""
    import great_expectations as gx
    from great_expectations.core import ExpectationSuite
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(mode="file", project_root_dir=root)
    promised = suite(product)
    context.suites.add(ExpectationSuite(**promised))
    by_rule = {one["meta"]["rule"]: one for one in promised["expectations"]}
    for audit, results in audits:
        run = RunIdentifier(run_name=f"version-{audit['version']}", run_time=audit["at"])
        judged = [
            ExpectationValidationResult(
                success=one.state in _GOOD,
                expectation_config=ExpectationConfiguration(**_configuration(one, by_rule)),
                result=_counts(one),
                exception_info=_exception(one),
            )
            for one in results
        ]
        held = sum(bool(one.success) for one in judged)
        outcome = ExpectationSuiteValidationResult(
            success=held == len(judged),
            results=judged,
            suite_name=product.fqn,
            statistics={
                "evaluated_expectations": len(judged),
                "successful_expectations": held,
                "unsuccessful_expectations": len(judged) - held,
                "success_percent": 100.0 * held / len(judged) if judged else None,
            },
            meta={"run_id": run, "great_expectations_version": gx.__version__, "active_batch_definition": {}},
        )
        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(product.fqn), run, audit["candidate_id"])
        context.validation_results_store.set(key=key, value=outcome)
    context.build_data_docs()
    return root / _SITE


def _configuration(result: RuleResult, by_rule: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The rule as an expectation; one that the contract no longer has is there by its name."""
    known = by_rule.get(result.rule)
    if known is None:
        gone = {"unexpected_rows_query": f"SELECT 1 FROM {{batch}} -- {result.check}"}
        return {
            "type": "unexpected_rows_expectation",
            "kwargs": gone,
            "description": f"{result.rule} (no longer promised)",
        }
    return {name: known[name] for name in ("type", "kwargs", "meta", "severity", "description") if name in known}


def _counts(result: RuleResult) -> dict[str, Any]:
    found: dict[str, Any] = {"element_count": result.rows}
    if result.bad is not None:
        found["unexpected_count"] = result.bad
        found["unexpected_percent"] = 100.0 * result.bad / result.rows if result.rows else 0.0
    if result.measured is not None:
        found["observed_value"] = result.measured
    return found


def _exception(result: RuleResult) -> dict[str, Any]:
    raised = result.state in _UNKNOWN
    message = f"{result.state}: {result.message}"
    # The library shows both as text wherever something was raised, and fails on one that is not.
    return {"raised_exception": raised, "exception_message": message, "exception_traceback": message}


def _index(product: DataProduct, audits: Sequence[tuple[Mapping[str, Any], Sequence[RuleResult]]], site: Path) -> str:
    """The first page; the library's draws its list by a script."""
    rows: list[str] = []
    for audit, results in audits:
        page = next(site.glob(f"validations/**/{audit['candidate_id']}.html")).relative_to(site).as_posix()
        said = _outcome(results)
        at: datetime = audit["at"]
        rows.append(
            f'<tr><td><a href="{escape(page)}">{audit["version"]}</a></td><td>{at:%Y-%m-%d %H:%M:%S} UTC</td>'
            f"<td>{said}</td></tr>"
        )
    promised = next(site.glob("expectations/**/*.html")).relative_to(site).as_posix()
    unchecked = "".join(
        f"<li>{_status('unsure', 'not checked here')} {escape(str(one))}</li>" for one in product.not_checked
    )
    beside = f"<h2>Not checked here</h2><ul>{unchecked}</ul>" if unchecked else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Audits of {escape(product.fqn)}</title>'
        f'<link rel="stylesheet" href="{STYLE}"></head><body><h1>Audits of {escape(product.fqn)}</h1>'
        f'<p><a href="{escape(promised)}">What is promised</a></p>'
        f"<table><tr><th>version</th><th>audited</th><th>outcome</th></tr>{''.join(rows)}</table>{beside}</body></html>\n"
    )


def _outcome(results: Sequence[RuleResult]) -> str:
    """What an audit came to: a rule that only warns keeps nothing from being published."""
    for rules, kind, words in (
        (sum(one.blocks for one in results), "failed", "failed: {} of {} rules"),
        (sum(one.state is State.WARN for one in results), "unsure", "passed, {} of {} rules warned"),
        (sum(one.state in _UNKNOWN for one in results), "unsure", "passed, {} of {} rules could not be computed"),
    ):
        if rules:
            return _status(kind, words.format(rules, len(results)))
    return _status("passed", "passed")


def offline(page: str, style: str) -> str:
    """A page of the library's without what runs or refers to another host, under our stylesheet."""
    rewriting = _Offline(style)
    rewriting.feed(page)
    rewriting.close()
    return "".join(rewriting.written)


_SYMBOLS = {"failed": "✘", "passed": "✔", "unsure": "⚠"}
_ICONS = {
    "fa-check-circle": ("passed", "passed"),
    "fa-times": ("failed", "failed"),
    "fa-exclamation-triangle": ("unsure", "could not be checked"),
}
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
# Elements that run, decorate, or are of no use without either; and, by class or id, what advertises or needs a script.
_GONE = frozenset({"script", "style", "link", "img", "footer", "button", "iframe", "object", "embed", "input", "base"})
_GONE_MARKS = frozenset({"modal", "ge-walkthrough-modal", "ge-cta-footer", "btn-group", "navbar-brand"})
_KEPT_ATTRIBUTES = frozenset({"id", "class", "href", "colspan", "rowspan", "charset", "name", "content"})


def _status(kind: str, words: str) -> str:
    return f'<strong class="{kind}">{_SYMBOLS[kind]} {escape(words)}</strong>'


class _Offline(HTMLParser):
    """Writes the page again; ``_skipping`` holds the open elements inside one that is left out."""

    def __init__(self, style: str) -> None:
        super().__init__(convert_charrefs=False)
        self.written: list[str] = []
        self._style = style
        self._skipping: list[str] = []

    def handle_decl(self, decl: str) -> None:
        self.written.append(f"<!{decl}>")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        marks = {*given.get("class", "").split(), given.get("id", "")}
        if self._skipping or tag in _GONE or marks & _GONE_MARKS:
            if tag not in _VOID:
                self._skipping.append(tag)
            return
        if tag == "i":
            self.written += [_status(*words) for icon, words in _ICONS.items() if icon in marks]
            self._skipping.append(tag)
            return
        kept = "".join(
            f' {name}="{escape(value)}"'
            for name, value in given.items()
            if name in _KEPT_ATTRIBUTES and not (name == "href" and _leads_away(value))
        )
        self.written.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag: str) -> None:
        if not self._skipping:
            if tag == "head":
                self.written.append(f'<link rel="stylesheet" href="{self._style}">')
            self.written.append(f"</{tag}>")
        elif tag in self._skipping:
            while self._skipping.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self.written.append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


def _leads_away(address: str) -> bool:
    """Whether an address is anything but a page beside this one."""
    return ":" in address.split("/", 1)[0] or address.startswith(("//", "\\"))
