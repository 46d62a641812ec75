"""The portal in Chromium: for everybody, on every width, by the keyboard alone, and without a word to another host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.portal.serving import BROKEN, UNSEEN, Mesh, axe, inspect, sideways, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLIGHTS = "/products/operations/flights"
PAGES = (
    *("/", "/?q=tailnmu", "/?q=nothing+fits+this", "/quality", "/quality?owner=nobody", "/incidents"),
    *("/incidents?state=all", "/incidents/1", "/sign-in", "/api", f"/products/{BROKEN.replace('.', '/')}"),
    *(
        FLIGHTS,
        f"{FLIGHTS}/schema",
        f"{FLIGHTS}/use",
        f"{FLIGHTS}/quality",
        f"{FLIGHTS}/lineage",
        f"{FLIGHTS}/contract",
    ),
    *(f"/products/{UNSEEN.replace('.', '/')}{part}" for part in ("", "/data", "/versions", "/quality", "/quarantine")),
    "/products/insights/delay_causes/lineage",
)


@pytest.mark.slow
def test_pages_are_for_everybody_and_every_width(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        found = [one for path in PAGES for one in inspect(visit, path)]
        found += inspect(visit, "/products/no/such", 404)
    assert found == []


def test_what_is_wrong_is_noticed(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        page = visit.open("/api")
        assert axe(visit) == []
        assert sideways(visit, 360) == []
        page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=/static/icon.svg>')")
        assert any("image-alt" in one for one in axe(visit))
        page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', `<svg width=2000></svg>`)")
        assert sideways(visit, 360)
        for statement in ("fetch('http://localhost:9/').catch(() => 1)", "setTimeout(() => pwned('x'))", "alert(1)"):
            visit.wrong.clear()
            page.evaluate(statement)
            page.wait_for_timeout(100)
            assert visit.wrong, statement
        visit.wrong.clear()
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p onclick=\"1\" style=\"color:red\">')")
        page.wait_for_timeout(100)
        assert any("against policy" in one for one in visit.wrong)
        visit.wrong.clear()


def test_the_theme_is_switched_and_kept(browser: Browser, address: str) -> None:
    with visiting(browser, address, color_scheme="light") as visit:
        page = visit.open("/")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark != light
        page = visit.open("/quality")
        assert page.locator("html").get_attribute("data-theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_by_the_keyboard_alone(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        page = visit.open("/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page = visit.open("/")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "find"
        page.keyboard.type("fligths/")
        assert page.input_value("#find") == "fligths/"
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=fligths")
        _tab_to(visit.page, f"a[href='{FLIGHTS}']")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{FLIGHTS}")
        _tab_to(page, "nav.tabs a[href$='/quality']")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{FLIGHTS}/quality")
        assert page.locator("nav.tabs [aria-current=page]").inner_text() == "Quality"


def test_what_has_the_focus_is_seen(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        page = visit.open(FLIGHTS)
        for _ in range(30):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                "() => { const one = document.activeElement, style = getComputedStyle(one); "
                "return one === document.body || style.outlineStyle !== 'none' || style.boxShadow !== 'none' }"
            )
            assert seen, page.evaluate("document.activeElement.outerHTML")


def test_filters_apply_when_they_are_chosen(browser: Browser, address: str) -> None:
    with visiting(browser, address) as visit:
        page = visit.open("/")
        page.select_option("#facet-domain", "weather")
        page.wait_for_url("**/?domain=weather*")
        assert page.locator("ol.cards li").count() == 1


def test_everything_works_without_scripts(browser: Browser, address: str) -> None:
    with visiting(browser, address, java_script_enabled=False) as visit:
        page = visit.open("/")
        page.fill("#find", "tailnmu")
        page.press("#find", "Enter")
        page.wait_for_url("**/?q=tailnmu")
        assert page.locator("ol.cards li").count() >= 1
        page.select_option("#facet-domain", "operations")
        page.click("form.facets button[type=submit]")
        page.wait_for_url("**domain=operations*")
        page.locator("ol.cards h2 a").first.click()
        assert page.locator("nav.tabs a").count() == 9


def test_an_incident_is_acknowledged(browser: Browser, mesh: Mesh, address: str) -> None:
    incident = mesh.history.incidents(open_only=True)[0]
    token = mesh.app.state.portal.sign_in.development.token()
    with visiting(browser, address) as visit:
        page = visit.open(f"/incidents/{incident.id}")
        assert page.locator("textarea").count() == 0
        page = visit.open(f"/sign-in?token={token}")
        page.click("text=Sign in as the development user")
        page.wait_for_url(f"{address}/")
        page.goto(f"{address}/incidents/{incident.id}")
        page.fill("#note", "The producer was told.")
        page.click("text=I look after it")
        page.wait_for_selector("blockquote")
        assert page.locator("blockquote").inner_text() == "The producer was told."
        assert "development" in page.locator("main").inner_text()
        page.click("text=Sign out")
        page.wait_for_selector("text=Sign in")


def _tab_to(page: object, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")  # type: ignore[attr-defined]
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):  # type: ignore[attr-defined]
            return
    raise AssertionError(f"{selector} is not reached by Tab")
