"""What contracts, histories and addresses say stays text: nothing of it runs, calls another host or is interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.store.records import (
    ContractRevision,
    Current,
    Health,
    ObjectiveState,
    Publication,
    RuleState,
)
from mesh_pipelines.observe.store.writer import Finding
from mesh_pipelines.settings import Settings
from tests.portal.serving import Mesh, mesh_of, payloads, served, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAYLOADS = payloads()
# So many share a product: a page of each product is looked at, and one that escapes one text escapes all.
TOGETHER = 12
GROUPS = [PAYLOADS[at : at + TOGETHER] for at in range(0, len(PAYLOADS), TOGETHER)]
NAMES = [f"evil.p{number:02}" for number in range(len(GROUPS))]
BROKEN = "evil.broken"
# Those that the browser is sent to; the others say nothing that these do not.
SAYING = ("", "/schema", "/quality", "/contract")
PAGES = (*SAYING, "/use", "/data", "/versions", "/lineage", "/quarantine")
# All that the portal's own templates are made of.
TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "span", "form", "label"),
    *("input", "kbd", "div", "button", "svg", "circle", "path", "rect", "text", "g", "line", "polyline", "img"),
    *("main", "footer", "time", "code", "section", "h1", "h2", "h3", "h4", "h5", "h6", "p", "ol", "ul", "li", "dl"),
    *("dt", "dd", "small", "strong", "em", "s", "br", "hr", "pre", "blockquote", "table", "caption", "thead"),
    *("tbody", "tr", "th", "td", "details", "summary", "select", "option", "aside", "wbr", "textarea"),
}
# Addresses that a link from elsewhere may lead to.
ASKING = (
    *(f"/?{name}={{}}" for name in ("q", "domain", "tag", "owner", "quality", "sort")),
    *("/quality?owner={}", "/quality?days={}", "/incidents?owner={}&state={}", "/sign-in?token={}"),
    *("/sign-in/callback?error={}&error_description={}&state={}", "/products/{}/x", "/products/evil/{}/quality", "/{}"),
    *("/products/evil/p00/quarantine?back={}&held={}", "/products/evil/p00/rule?id={}"),
)


def contract(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """A contract that says these texts wherever it may say anything."""
    one, all_ = " ".join(texts), "\n\n".join(texts)
    literal = one.replace("'", "''").replace("{", "").replace("}", "")
    kind = {"mesh.alignment": "source-aligned", "mesh.eventType": "state", "mesh.wireFormat": "json"}
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": one,
        "name": name,
        "domain": "evil",
        "version": one,
        "status": "active",
        "tags": list(texts),
        "tenant": one,
        "authoritativeDefinitions": _each("type", "url", "description", of=texts),
        "description": {
            "purpose": all_,
            "usage": all_,
            "limitations": all_,
            "authoritativeDefinitions": _each("type", "url", "description", of=texts),
        },
        "team": {
            "name": one,
            "members": [{"username": text, "role": text if number else "owner"} for number, text in enumerate(texts)],
        },
        "support": [dict.fromkeys(("channel", "url", "tool", "scope", "description"), text) for text in texts],
        "roles": [dict.fromkeys(("role", "access", "description", "firstLevelApprovers"), text) for text in texts],
        "price": {"priceAmount": 1, "priceCurrency": one, "priceUnit": one},
        "customProperties": [{"property": key, "value": value} for key, value in kind.items()],
        "schema": [
            {
                "name": name,
                "description": one,
                "quality": [
                    {"type": "sql", "id": "sql", "query": f"SELECT count(*) FROM {{table}} WHERE id = '{literal}'"}
                    | {"mustBe": 0, "description": all_},
                    {"metric": "rowCount", "mustBeGreaterThan": 0, "name": one, "description": all_},
                ],
                "properties": [
                    {"name": "id", "logicalType": "string", "primaryKey": True, "tags": list(texts)},
                    *(
                        {"name": f"f{number}", "logicalType": "string", "classification": text, "description": text}
                        for number, text in enumerate(texts)
                    ),
                ],
            }
        ],
    }


def _each(*keys: str, of: Sequence[str]) -> list[dict[str, str]]:
    """For each text a mapping that has it under every key."""
    return [dict.fromkeys(keys, text) for text in of]


def write_history(mesh: Mesh, fqn: str, texts: Sequence[str]) -> None:
    """A past that says these texts wherever it may say anything."""
    now, one, lines = datetime.now(UTC), " ".join(texts), "\n".join(texts)
    rules = [rule.id for rule in mesh.products[fqn].product.rules]
    with mesh.history.writing() as writer:
        writer.current(Current(*(fqn, Health.BAD, tuple(texts), now, 1, 1, now, 1, 1.0, 1, 1, 1, 1, 1, one)))
        states = [
            RuleState(*(fqn, rule, one, one, one, "fail", 1, 1, 1.0, one, one, 1, one, one, now, one, True, now))
            for rule in [*rules, *texts]
        ]
        writer.audit(states, now, one)
        writer.objectives(
            fqn, [ObjectiveState(fqn, text, text, text, 1, text, 1, False, 0.5, 1, 0, 1, 1, now) for text in texts]
        )
        writer.publication(Publication(fqn, 1, now, 1, 1, 1.0, 0, one, False))
        for number, text in enumerate(("first: 1", one)):
            writer.revision(ContractRevision(fqn, one, f"{number}{one}", now, f"{text}\n"))
        number = writer.open(fqn, Finding("blocked", lines, lines, lines, "bad", now, 1, one), now)
        writer.acknowledge(number, one, lines, now)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("evil")
    for fqn, texts in zip([*NAMES, BROKEN], [*GROUPS, PAYLOADS], strict=True):
        document = contract(fqn.split(".")[1], texts)
        if fqn == BROKEN:
            document |= {"status": PAYLOADS[0], "slaProperties": [{"property": one, "value": one} for one in PAYLOADS]}
        file = folder / "assets" / fqn.replace(".", "/") / "contract.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(document, allow_unicode=True))
    settings = Settings(home=folder / "home", assets=folder / "assets", portal_port=free_ports(1)[0])
    with mesh_of(settings, unseen=frozenset(NAMES)) as found:
        for fqn, texts in zip(NAMES, GROUPS, strict=True):
            write_history(found, fqn, texts)
        found.app.state.portal.watcher.refresh(anew=True)
        assert {fqn for fqn, one in found.products.items() if one.product is None} == {BROKEN}
        yield found


class Harmless(HTMLParser):
    """A page that has only tags of the portal's own, and leads only where it may."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, (tag, attrs)
        for name, value in attrs:
            assert name != "style", (tag, attrs)
            assert not name.startswith("on"), (tag, attrs)
            if name in ("href", "src", "action"):
                place = value or ""
                local = place.startswith(("/", "#")) and not place.startswith("//")
                assert local or re.match(r"(https?://|mailto:)", place, re.IGNORECASE), (tag, attrs)
        if tag in ("script", "img", "link"):
            assert str(dict(attrs).get("src") or dict(attrs).get("href")).startswith("/static/"), (tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def addresses(mesh: Mesh, pages: Sequence[str]) -> Iterator[str]:
    """Every page that says anything of these products, of the products' own those named."""
    yield from ("/", "/quality", "/incidents", "/incidents?state=all", "/api")
    for fqn, entry in mesh.products.items():
        path = f"/products/{fqn.replace('.', '/')}"
        yield from (f"{path}{page}" for page in pages)
        rules = entry.product.rules if entry.product else ()
        yield from (f"{path}/rule?id={quote(rule.id, safe='')}" for rule in rules)
    yield from (f"/incidents/{one.id}" for one in mesh.history.incidents(limit=1000))


def asking(text: str, number: int, many: int) -> list[str]:
    """So many of the addresses with a text in them, others for every number."""
    said = quote(text, safe="")
    return [ASKING[(number * many + one) % len(ASKING)].replace("{}", said) for one in range(many)]


def test_no_text_becomes_anything_else(evil: Mesh) -> None:
    client = evil.client()
    for path in addresses(evil, PAGES):
        answer = client.get(path)
        assert answer.status_code == 200, path
        Harmless(answer.text)


def test_texts_are_shown_as_they_were_written(evil: Mesh) -> None:
    client = evil.client()
    for fqn, texts in zip(NAMES, GROUPS, strict=True):
        found = "".join(Harmless(client.get(f"/products/{fqn.replace('.', '/')}/schema").text).text)
        for text in texts:
            assert text.strip().replace("\r", "") in found, text


@pytest.mark.parametrize("text", ["{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>"])
def test_no_template_is_interpreted(evil: Mesh, text: str) -> None:
    client = evil.client()
    for path in ("/", f"/?q={quote(text)}", f"/products/{quote(text)}/x", f"/quality?owner={quote(text)}"):
        assert "49" not in re.sub(r'="[^"]*"|\d{3,}', "", client.get(path).text)


def test_nothing_in_an_address_becomes_anything_else(evil: Mesh) -> None:
    client = evil.client(follow_redirects=False)
    for number, text in enumerate(PAYLOADS):
        for path in asking(text, number, 3):
            answer = client.get(path)
            assert answer.status_code < 500, path
            if answer.headers.get("content-type", "").startswith("text/html"):
                Harmless(answer.text)


@pytest.mark.slow
def test_nothing_runs_in_a_browser(evil: Mesh, browser: Browser) -> None:
    with served(evil.app, evil.settings.portal_port) as address, visiting(browser, address) as visit:
        for path in addresses(evil, SAYING):
            visit.open(path)
        visit.console = False
        for number, text in enumerate(PAYLOADS[::2]):
            visit.page.goto(f"{address}{asking(text, number, 1)[0]}")
        visit.page.wait_for_timeout(200)
