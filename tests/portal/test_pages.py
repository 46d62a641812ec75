"""Every page and every path of the API, of products in every state; what the API says is what it says it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from starlette.testclient import TestClient

from mesh_pipelines.observe.store.records import MEASURES
from tests.portal.serving import BROKEN, NEVER, ORPHAN, UNSEEN, Mesh, mesh_of, place

PRODUCT_PAGES = (
    *("", "/schema", "/use", "/data", "/versions", "/quality", "/quality?days=400", "/lineage", "/quarantine"),
    "/contract",
)
STATES = ("operations.flights", "insights.punctuality", NEVER, UNSEEN, ORPHAN, BROKEN)
MESH_PAGES = (
    *("/", "/?q=tailnmu", "/?quality=bad&sort=health", "/?q=nothing+fits+this", "/?at=1000000", "/?sort=odd&q=a"),
    *("/?domain=none", "/quality", "/quality?days=365", "/quality?owner=nobody", "/quality?domain=operations"),
    *(
        "/incidents",
        "/incidents?state=all",
        "/incidents?owner=nobody&state=odd",
        "/sign-in",
        "/sign-in?token=x",
        "/api",
    ),
)


def path_of(fqn: str) -> str:
    return f"/products/{fqn.replace('.', '/')}"


class Links(HTMLParser):
    """All addresses that a page names, and what is wrong with its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.found.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "style" or name.startswith("on"):
                self.wrong.append(f"{tag} {name}")


def sound(html: str) -> Links:
    """A page's links; nothing in it is against the policy of the headers."""
    found = Links(html)
    assert found.wrong == []
    assert len(found.ids) == len(set(found.ids))
    assert "<style" not in html
    assert re.findall(r"<script(?! src=\"/static/portal.js\" defer></script>)", html) == []
    assert "{{" not in html
    assert "Undefined" not in html
    assert html.count("<h1") == 1
    return found


@pytest.mark.parametrize("path", MESH_PAGES)
def test_pages_of_the_mesh(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    sound(answer.text)


@pytest.mark.parametrize("page", PRODUCT_PAGES)
@pytest.mark.parametrize("fqn", STATES)
def test_pages_of_a_product(client: TestClient, fqn: str, page: str) -> None:
    answer = client.get(path_of(fqn) + page)
    assert answer.status_code == 200
    sound(answer.text)
    assert fqn.split(".")[1] in answer.text


def test_every_link_leads_somewhere(mesh: Mesh, client: TestClient) -> None:
    todo, seen = ["/"], {"/"}
    while todo:
        html = client.get(todo.pop()).text
        for link in sound(html).found:
            place = urlsplit(link)
            if place.netloc or place.scheme in ("mailto", "http", "https") or not place.path:
                assert place.scheme in ("", "http", "https", "mailto"), link
                continue
            # Of pages that differ by their values only, one of a kind.
            kind = place.path if place.query.count("=") else link
            if kind in seen:
                continue
            seen.add(kind)
            status = client.get(link).status_code
            # A past that was drawn has rules that its contracts have not.
            assert status == 200 or (status == 404 and "/rule?" in link), link
            if not place.path.startswith(("/static", "/api/", "/metrics")) and not place.path.endswith(".yaml"):
                todo.append(link)
    assert len(seen) > 50


def test_anchors_are_there(client: TestClient) -> None:
    html = client.get("/products/operations/flights/contract").text
    lines = sound(html).ids
    assert "L1" in lines
    assert "objectives" in sound(client.get("/products/operations/flights/quality").text).ids


def test_an_unknown_product_is_not_there_and_near_ones_are_named(client: TestClient) -> None:
    for page in PRODUCT_PAGES:
        assert client.get(f"/products/operations/nothing{page}").status_code == 404
    answer = client.get("/products/operations/fligths")
    assert answer.status_code == 404
    assert "operations.flights" in answer.text


def test_a_rule_that_is_not_there(client: TestClient) -> None:
    assert client.get(f"{path_of(NEVER)}/rule?id=none").status_code == 404
    assert client.get(f"{path_of(NEVER)}/rule").status_code == 422
    assert client.get(f"{path_of(BROKEN)}/rule?id=none").status_code == 200


def test_every_rule_has_a_page(mesh: Mesh, client: TestClient) -> None:
    for rule in mesh.products["operations.flights"].product.rules:
        answer = client.get("/products/operations/flights/rule", params={"id": rule.id})
        assert answer.status_code == 200
        sound(answer.text)


@pytest.mark.parametrize("fqn", [one for one in STATES if one != BROKEN])
def test_the_contract_is_downloaded_as_it_is(mesh: Mesh, client: TestClient, fqn: str) -> None:
    file = mesh.settings.assets / fqn.replace(".", "/") / "contract.yaml"
    for path in (f"{path_of(fqn)}/contract.yaml", f"/api/v1{path_of(fqn)}/contract"):
        answer = client.get(path)
        assert answer.content == file.read_bytes()
        assert answer.headers["content-disposition"] == f'attachment; filename="{fqn}.yaml"'
        assert yaml.safe_load(answer.content)["kind"] == "DataContract"


def test_what_cannot_be_read_says_so(client: TestClient) -> None:
    assert client.get(f"{path_of(BROKEN)}/contract.yaml").status_code == 400
    page = client.get(path_of(BROKEN)).text
    assert "Its contract cannot be read" in page
    assert "apiVersion" in page


def test_what_was_never_applied_says_so(client: TestClient) -> None:
    assert "No data yet" in client.get(f"{path_of(UNSEEN)}/data").text
    assert "No version yet" in client.get(f"{path_of(UNSEEN)}/versions").text
    assert "None: no event is held back" in client.get(f"{path_of(UNSEEN)}/quarantine").text
    assert "No audit yet" in client.get(f"{path_of(UNSEEN)}/quality").text
    assert "Nothing known" in client.get(path_of(UNSEEN)).text


def test_pages_are_compressed_and_static_files_are_kept(client: TestClient) -> None:
    assert client.get("/").headers["content-encoding"] == "gzip"
    assert "max-age" in client.get("/static/portal.css").headers["cache-control"]


class Api:
    """The API's paths and the schemas of its answers."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.document = client.get("/api/openapi.json").json()

    def get(self, template: str, path: str) -> tuple[int, Any]:
        """Ask, and hold the answer against its schema."""
        answer = self._client.get(path)
        responses = self.document["paths"][template]["get"]["responses"]
        content = responses.get(str(answer.status_code), responses["default"]).get("content", {})
        if "schema" not in content.get("application/json", {}):
            return answer.status_code, answer.text
        schema = {**content["application/json"]["schema"], "components": self.document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        return answer.status_code, answer.json()

    def filled(self, **values: str) -> Iterator[tuple[str, str]]:
        """Every path with its parameters filled in."""
        for template in self.document["paths"]:
            yield template, template.format(**values)


@pytest.fixture(scope="module")
def api(client: TestClient) -> Api:
    return Api(client)


@pytest.mark.parametrize("fqn", [*STATES, "shop.nothing"])
def test_every_answer_of_the_api_fits_its_description(api: Api, fqn: str) -> None:
    domain, name = fqn.split(".")
    for template, path in api.filled(domain=domain, name=name, measure="lag"):
        status, _ = api.get(template, path)
        about_it = "{name}" in template
        expected = 404 if about_it and name == "nothing" else 400 if fqn == BROKEN and "contract" in path else 200
        assert status == expected, path


def test_refusals_fit_their_description_too(api: Api) -> None:
    for template, path in (
        ("/api/v1/products", "/api/v1/products?limit=0"),
        ("/api/v1/products", f"/api/v1/products?q={'x' * 201}"),
        ("/api/v1/quality", "/api/v1/quality?days=x"),
        ("/api/v1/products/{domain}/{name}/measures/{measure}", "/api/v1/products/operations/flights/measures/none"),
    ):
        status, body = api.get(template, path)
        assert status in (404, 422)
        assert body["message"]


def test_the_api_gives_what_the_history_has(mesh: Mesh, api: Api) -> None:
    _, listed = api.get("/api/v1/products", "/api/v1/products")
    assert [one["product"] for one in listed] == sorted(mesh.products)
    _, one = api.get("/api/v1/products/{domain}/{name}", "/api/v1/products/operations/flights")
    assert [field["path"] for field in one["fields"]][:2] == ["carrier", "flight"]
    assert one["current"]["rows"] == mesh.history.current("operations.flights")[0].rows
    _, found = api.get("/api/v1/products", "/api/v1/products?q=tailnmu&limit=1")
    assert len(found) == 1
    assert found[0]["found_in"]
    _, incidents = api.get("/api/v1/incidents", "/api/v1/incidents?open_only=true")
    assert [one["id"] for one in incidents] == [one.id for one in mesh.history.incidents(open_only=True)]
    for measure in MEASURES:
        status, samples = api.get(
            "/api/v1/products/{domain}/{name}/measures/{measure}",
            f"/api/v1/products/operations/flights/measures/{measure}?hours=720",
        )
        assert status == 200
        assert bool(samples) == (measure in ("lag", "freshness"))


def test_lineage_reaches_what_is_not_readable(api: Api, client: TestClient) -> None:
    _, found = api.get("/api/v1/products/{domain}/{name}/lineage", f"/api/v1{path_of(ORPHAN)}/lineage")
    assert found["inputs"] == [BROKEN]
    page = client.get(f"{path_of(ORPHAN)}/lineage").text
    assert "not readable" in page
    assert "cannot be traced in its SQL" in page
    _, found = api.get("/api/v1/products/{domain}/{name}/lineage", "/api/v1/products/operations/flights/lineage")
    assert found["consumers"] == ["insights.delay_causes", "insights.punctuality"]


def test_metrics_name_every_product(mesh: Mesh, client: TestClient) -> None:
    text = client.get("/metrics").text
    assert all(f'product="{fqn.split(".")[1]}"' in text for fqn in ("operations.flights", NEVER))


def test_a_changed_contract_is_seen_at_the_next_look(tmp_path_factory: pytest.TempPathFactory, mesh: Mesh) -> None:
    folder = tmp_path_factory.mktemp("changing")
    settings = mesh.settings.model_copy(update={"home": folder / "home", "assets": folder / "assets"})
    file = place(settings.assets, NEVER)
    with mesh_of(settings, 1) as changing:
        client = changing.client()
        assert "A product of a test." in client.get("/").text
        file.write_text(file.read_text().replace("A product of a test.", "Something else."))
        changing.app.state.portal.watcher.refresh()
        assert "Something else." in client.get("/").text
        file.write_text("broken: yes\n")
        changing.app.state.portal.watcher.refresh()
        assert "cannot be read" in client.get(path_of(NEVER)).text
        file.unlink()
        changing.app.state.portal.watcher.refresh()
        assert "No product yet" in client.get("/").text


def test_what_is_not_checked_is_shown_as_such(tmp_path_factory: pytest.TempPathFactory, mesh: Mesh) -> None:
    folder = tmp_path_factory.mktemp("unchecked")
    settings = mesh.settings.model_copy(update={"home": folder / "home", "assets": folder / "assets"})
    file = place(settings.assets, NEVER)
    mark = "customProperties:\n  - {property: mesh.notChecked, value: by soda}\n"
    promise = "slaProperties: [{property: frequency, value: 0 20 * * *}]\n"
    file.write_text(file.read_text().replace("customProperties:\n", promise + mark, 1))
    with mesh_of(settings, 1) as opened:
        client = opened.client()
        page = client.get(f"{path_of(NEVER)}/quality").text
        sound(page)
        assert "Not checked here" in page
        assert "frequency 0 20 * * *" in page
        assert "1 more promises are" in client.get(path_of(NEVER)).text


def test_an_incident_is_acknowledged_by_who_signed_in(mesh: Mesh) -> None:
    incident = mesh.history.incidents(open_only=False)[0]
    client = mesh.signed_in()
    note = "<b>on it</b> & more"
    done = client.post(f"/incidents/{incident.id}/acknowledge", data={"note": note}, headers=mesh.own)
    assert done.status_code == 200
    assert "&lt;b&gt;on it&lt;/b&gt; &amp; more" in done.text
    found = mesh.history.incident(incident.id)
    assert found
    assert (found.acknowledged_by, found.note) == ("development", note)
    assert client.post("/incidents/999999/acknowledge", headers=mesh.own).status_code == 404
    too_long = client.post(f"/incidents/{incident.id}/acknowledge", data={"note": "x" * 2001}, headers=mesh.own)
    assert too_long.status_code == 422


@pytest.mark.parametrize("scope", ["", "?domain=operations", "?owner=operations@example.com"])
def test_the_dashboard_shows_volume_and_quarantine_over_days(client: TestClient, scope: str) -> None:
    html = client.get(f"/quality{scope}").text
    assert "Volume by day" in html
    assert "events landed" in html
    assert "Quarantine by day" in html
    assert "events held back" in html
