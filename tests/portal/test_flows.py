"""What people do with the portal, in Chromium, over a mesh on real services: find, use, be alarmed, mend."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings
from tests.portal.serving import Mesh, inspect, payloads, served, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.services, pytest.mark.slow]

ORDERS, COUNTRIES = 300, ("AT", "CH", "DE")
PAYLOADS = payloads()
COLUMNS = 12
HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{name}
name: {name}
domain: {domain}
version: "1.0.0"
status: active
description: {{purpose: "The {name} of a shop."}}
team: {{members: [{{username: ann@example.com, role: owner}}]}}
slaProperties:
  - {{property: freshness, value: 24, unit: h}}
customProperties:
  - {{property: mesh.alignment, value: {alignment}}}
  - {{property: mesh.eventType, value: {kind}}}
"""
BODIES = {
    "orders": """\
schema:
  - name: orders
    quality:
      - {metric: rowCount, mustBeGreaterThan: 0}
    properties:
      - {name: order_id, logicalType: string, primaryKey: true}
      - {name: customer_email, logicalType: string, classification: confidential}
      - {name: country, logicalType: string, required: true}
      - {name: amount, logicalType: number, physicalType: double, logicalTypeOptions: {minimum: 0}}
""",
    "clicks": """\
  - {property: mesh.wireFormat, value: json}
schema:
  - name: clicks
    properties:
      - {name: page, logicalType: string, required: true}
      - name: ms
        logicalType: integer
        quality:
          - {id: taken, metric: nullValues, mustBe: 0, customProperties: [{property: mesh.onFailure, value: divert}]}
""",
    "by_country": """\
  - {property: mesh.inputs, value: [DOMAIN.orders]}
schema:
  - name: by_country
    properties:
      - {name: country, logicalType: string, primaryKey: true}
      - {name: orders, logicalType: integer, physicalType: bigint, required: true}
""",
    "evil": """\
  - {property: mesh.wireFormat, value: json}
  - {property: mesh.maxUndecodableShare, value: 1}
schema:
  - name: evil
    properties:
      - name: c0
        logicalType: string
        quality:
          - {id: plain, metric: invalidValues, arguments: {validValues: [plain]}, mustBe: 0, severity: warning}
"""
    + "".join(f"      - {{name: c{number}, logicalType: string}}\n" for number in range(1, COLUMNS)),
}
KINDS = {"clicks": "measurement", "evil": "measurement"}


@dataclass
class Shop:
    """A mesh of four products on real services, observed and served."""

    mesh: Mesh
    domain: str
    address: str

    @property
    def settings(self) -> Settings:
        return self.mesh.settings

    def path(self, name: str, page: str = "") -> str:
        return f"/products/{self.domain}/{name}{page}"

    def round(self, *names: str) -> None:
        """Run these products or all, observe, and show what was found."""
        platform = Platform.open(self.settings)
        run(platform, [f"{self.domain}.{name}" for name in names])
        self.observe()

    def observe(self) -> None:
        observed = observe(Platform.open(self.settings), self.mesh.history)
        assert observed.problems == ()
        self.mesh.app.state.portal.watcher.refresh(anew=True)

    def order(self, *rows: dict[str, Any]) -> None:
        topic = f"{self.domain}.orders"
        registry = SchemaRegistryClient({"url": self.settings.registry_url.reveal(), "timeout": 20})
        schema = registry.get_latest_version(f"{topic}-value").schema.schema_str
        # Not the default, which asks for associations: the local registry knows none, and may not answer.
        config = {
            "auto.register.schemas": False,
            "use.latest.version": True,
            "subject.name.strategy": topic_subject_name_strategy,
        }
        serialize = AvroSerializer(registry, schema, conf=config)
        context = SerializationContext(topic, MessageField.VALUE)
        self.produce("orders", *((row["order_id"].encode(), serialize(row, context)) for row in rows))

    def produce(self, name: str, *events: tuple[bytes | None, bytes | None]) -> None:
        producer = Producer({"bootstrap.servers": self.settings.brokers})
        for key, value in events:
            producer.produce(f"{self.domain}.{name}", value, key)
            producer.poll(0)
        assert producer.flush(60) == 0


def order(number: int, amount: float) -> dict[str, Any]:
    country = COUNTRIES[number % len(COUNTRIES)]
    return {"order_id": f"o{number}", "customer_email": f"secret{number}@x.example", "country": country} | {
        "amount": amount
    }


def write_contracts(assets: Path, domain: str) -> None:
    for name, body in BODIES.items():
        alignment = "aggregate-aligned" if name == "by_country" else "source-aligned"
        head = HEAD.format(domain=domain, name=name, alignment=alignment, kind=KINDS.get(name, "state"))
        file = assets / domain / name / "contract.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(head + body.replace("DOMAIN", domain))
    sql = f"SELECT country, count(*) AS orders FROM {domain}.orders GROUP BY country"
    (assets / domain / "by_country" / "transform.sql").write_text(sql)


@pytest.fixture(scope="module")
def shop(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder, domain = tmp_path_factory.mktemp("shop"), f"shop_{uuid.uuid4().hex[:8]}"
    write_contracts(folder / "assets", domain)
    settings = services.model_copy(
        update={"home": folder / "home", "assets": folder / "assets", "portal_port": free_ports(1)[0]}
    )
    platform = Platform.open(settings)
    assert not platform.broken, platform.broken
    apply_contracts(platform, platform.in_order)
    history = History.open(settings)
    app = create_app(settings, history)
    with served(app, settings.portal_port) as address:
        found = Shop(Mesh(settings, history, app), domain, address)
        found.order(*(order(number, number + 0.5) for number in range(ORDERS)))
        click = json.dumps({"page": "/", "ms": 7}).encode()
        slow = json.dumps({"page": "/slow", "ms": None}).encode()
        found.produce("clicks", *[(None, click)] * 20, (None, slow), (None, b"no json"))
        rows = [PAYLOADS[at : at + COLUMNS] for at in range(0, len(PAYLOADS), COLUMNS)]
        values = [json.dumps({f"c{number}": text for number, text in enumerate(row)}).encode() for row in rows]
        texts = [text.encode() for text in PAYLOADS[-60:]]
        found.produce("evil", *((None, value) for value in [*values, *texts]))
        found.round()
        yield found
    history.close()


def sign_in(shop: Shop, page: Page) -> None:
    token = shop.mesh.app.state.portal.sign_in.development.token()
    page.goto(f"{shop.address}/sign-in?token={token}")
    page.click("text=Sign in as the development user")
    page.wait_for_url(f"{shop.address}/")


def environment(settings: Settings) -> dict[str, str]:
    """What a shell beside this portal has."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MESH_HOME": str(settings.home),
        "MESH_ASSETS": str(settings.assets),
        "MESH_BOOTSTRAP_SERVERS": settings.brokers,
        "MESH_SCHEMA_REGISTRY_URL": settings.registry_url.reveal(),
    }


def test_a_product_is_found_by_a_misspelt_field_and_read_by_every_snippet(shop: Shop, browser: Browser) -> None:
    running: list[tuple[str, subprocess.Popen[str]]] = []
    permissions = ["clipboard-read", "clipboard-write"]
    with visiting(browser, shop.address, permissions=permissions) as visit:
        page = visit.open("/")
        page.fill("#find", "custmer_emial")
        page.press("#find", "Enter")
        page.wait_for_url("**q=custmer_emial")
        assert page.locator("ol.cards li").count() == 1
        page.click(f"a[href='{shop.path('orders')}']")
        assert "freshness: " in page.locator("main").inner_text()
        for name in ("orders", "clicks", "by_country"):
            visit.open(shop.path(name, "/use"))
            for number, button in enumerate(page.locator("[data-copy]").all()):
                button.click()
                page.wait_for_selector("text=Copied")
                code = page.evaluate("navigator.clipboard.readText()")
                shown = page.locator(".snippet code").nth(number)
                assert code == shown.text_content()
                argv = ["bash", "-c"] if "shell" in str(shown.get_attribute("class")) else [sys.executable, "-c"]
                process = subprocess.Popen(
                    [*argv, code], env=environment(shop.settings), text=True, stdout=PIPE, stderr=PIPE
                )
                running.append((f"{name}: {code}", process))
                page.wait_for_selector("text=Copied", state="hidden")
    assert len(running) == 4 + 4 + 3
    expected = {"orders": r"\bo\d+\b", "clicks": "/", "by_country": "AT|CH|DE"}
    for code, process in running:
        output, said = process.communicate(timeout=120)
        assert process.returncode == 0, (code, said)
        rows = [line for line in output.splitlines() if re.search(expected[code.partition(":")[0]], line)]
        assert len(rows) >= 3, (code, output)


def test_a_bad_batch_turns_the_dashboard_red_until_it_is_mended(shop: Shop, browser: Browser) -> None:
    fqn = f"{shop.domain}.orders"
    with visiting(browser, shop.address) as visit:
        line = visit.open("/quality").locator("table.lines tr", has_text=fqn)
        assert "Healthy" in line.inner_text()
        shop.order(order(7, -1.0), order(8, -2.0))
        shop.round("orders")
        page = visit.open("/quality")
        assert "Broken promise" in line.inner_text()
        page.locator(".incidents a", has_text="amount").first.click()
        page.wait_for_url("**/incidents/*")
        page.locator("ul.steps a").first.click()
        page.wait_for_url("**/rule?id=*")
        rows = page.locator("#rows tbody tr")
        assert rows.count() == 2
        titles = page.locator("#rows thead th").all_inner_texts()
        assert titles[:3] == ["_partition", "_offset", "_timestamp"]
        found = {row.locator("td").nth(titles.index("amount")).inner_text() for row in rows.all()}
        assert found == {"-1.0", "-2.0"}
        assert all(row.locator("td").nth(1).inner_text().isdigit() for row in rows.all())
        assert "secret7@" not in page.content()
        assert "not published" in page.locator("#rows").inner_text()
        assert inspect(visit, page.url.removeprefix(shop.address)) == []
        assert inspect(visit, shop.path("orders", "/versions")) == []
        shop.order(order(7, 7.5), order(8, 8.5))
        shop.round("orders")
        visit.open("/quality")
        assert "Healthy" in line.inner_text()
        assert "over" in visit.open("/incidents?state=all").locator(".incidents").inner_text()


def test_what_is_not_public_is_masked(shop: Shop, browser: Browser) -> None:
    with visiting(browser, shop.address) as visit:
        page = visit.open(shop.path("orders", "/data"))
        assert page.locator("td.masked").count() == 20
        assert "secret" not in page.content()
        assert "customer_email" in page.locator("main").inner_text()
        assert inspect(visit, shop.path("orders", "/data")) == []
        versions = shop.mesh.client().get(f"/api/v1{shop.path('orders', '/versions')}").json()
        assert versions[0]["number"] >= 1
        visit.open(shop.path("orders", "/data?version=1"))
        visit.console = False
        visit.open(shop.path("orders", "/data?version=99"), 404)


def test_the_api_gives_the_rows_and_events_that_the_pages_show(shop: Shop) -> None:
    def ask(product: str, path: str) -> Any:
        answer = shop.mesh.client().get(f"/api/v1{shop.path(product, path)}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    shown = ask("orders", "/rows?limit=3")
    assert shown["version"] >= 1
    assert len(shown["sample"]["rows"]) == 3
    assert shown["sample"]["more"]
    assert shown["sample"]["masked"] == ["customer_email"]
    hidden = shown["sample"]["columns"].index("customer_email")
    assert {row[hidden] for row in shown["sample"]["rows"]} == {None}
    assert ask("orders", "/rows?version=1")["version"] == 1
    events = ask("clicks", "/quarantine")
    assert len(events) == 2
    assert any(b"no json" in base64.b64decode(one["raw"]) and one["reason"] for one in events)
    assert ask("by_country", "/quarantine") == []
    [rule] = [one for one in shop.mesh.products[f"{shop.domain}.evil"].product.rules if one.fields == ("c0",)]
    [broken] = ask("evil", f"/failing?rule={quote(rule.id)}")
    assert broken["bad"] == len(broken["rows"]["rows"]) > 0
    assert broken["rule"] in {one["rule"] for one in ask("evil", "/failing")}
    [revision] = ask("orders", "/revisions")
    assert (revision["version"], revision["changes"]) == ("1.0.0", [])
    assert "customer_email" in revision["document"]


def test_held_events_come_back_by_who_may_redrive(shop: Shop, browser: Browser) -> None:
    path = shop.path("clicks", "/quarantine")
    with visiting(browser, shop.address) as visit:
        page = visit.open(path)
        assert page.locator("table.lines tbody tr").count() == 2
        assert "no json" in page.content()
        assert page.locator("main button").count() == 0
        assert inspect(visit, path) == []
        refused = shop.mesh.client().post(f"{path}/redrive", headers=shop.mesh.own)
        assert refused.status_code == 401
        file = shop.settings.assets / shop.domain / "clicks" / "contract.yaml"
        mended = file.read_text().replace("mesh.onFailure, value: divert", "mesh.onFailure, value: warn")
        file.write_text(mended.replace('version: "1.0.0"', 'version: "1.1.0"'))
        platform = Platform.open(shop.settings)
        apply_contracts(platform, [platform.product(f"{shop.domain}.clicks")])
        shop.observe()
        sign_in(shop, page)
        visit.open(path)
        page.click("text=Redrive with the current contract")
        page.wait_for_selector("[role=status]")
        assert "1 event came back; still held: 1" in page.locator("[role=status]").inner_text()
        shop.round("clicks")
        assert "21 rows" in visit.open(shop.path("clicks", "/data")).locator("h2").first.inner_text()
        assert "1.1.0" in visit.open(shop.path("clicks", "/contract")).locator("ol.changes").inner_text()


def test_nothing_in_the_data_runs(shop: Shop, browser: Browser) -> None:
    with visiting(browser, shop.address) as visit:
        page = visit.open(shop.path("evil", "/data"))
        text = page.locator("main").text_content() or ""
        assert "<script>pwned()</script>" in text
        assert "{{7*7}}" in text
        held = visit.open(shop.path("evil", "/quarantine")).locator("tbody tr")
        assert held.count() == 60
        [rule] = [one for one in shop.mesh.products[f"{shop.domain}.evil"].product.rules if one.fields == ("c0",)]
        shown = visit.open(shop.path("evil", f"/rule?id={quote(rule.id)}")).locator("#rows tbody tr")
        assert shown.count() == len(range(0, len(PAYLOADS), COLUMNS))
        for part in ("/quality", "/schema", "/versions", ""):
            visit.open(shop.path("evil", part))
        visit.page.wait_for_timeout(200)
