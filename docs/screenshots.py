"""Pictures of the portal for the README, of the demo mesh as it really runs: ``make screenshots``.

Starts Kafka and a registry of its own, replays two weeks of 2013 day by day, and publishes and observes every day. What
the pictures show is what was measured meanwhile.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

from playwright.sync_api import sync_playwright

from mesh_pipelines.demo.replay import replay
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import Supervisor, free_ports
from mesh_pipelines.observe.observe import observe
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.pipeline.run import run
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.process import child
from mesh_pipelines.settings import Settings

IMAGES = Path(__file__).parent / "images"
PAGES: Mapping[str, str] = {
    "catalog": "/",
    "product": "/products/operations/flights",
    "quality": "/quality",
}
SIZE = {"width": 1280, "height": 860}
FIRST, DAYS = date(2013, 1, 1), 14


def live(settings: Settings) -> None:
    """Two weeks of the demo mesh."""
    platform = Platform.open(settings)
    apply_contracts(platform, platform.in_order)
    history = History.open(settings)
    for number in range(1, DAYS + 1):
        replay(platform, until=FIRST + timedelta(days=number))
        run(platform)
        observe(platform, history)
        print(f"day {number} of {DAYS}", flush=True)
    history.close()


def shoot(address: str, browser: str) -> None:
    """Take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport=SIZE, color_scheme="light")
        for name, path in PAGES.items():
            page.goto(address + path)
            file = IMAGES / f"portal-{name}.png"
            page.screenshot(path=file)
            print(f"{file.relative_to(IMAGES.parent.parent)}: {file.stat().st_size / 1000:.0f} kB", flush=True)
        opened.close()


def main() -> None:
    """Live and shoot."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no Chromium on the PATH; on Debian: apt-get install chromium")
    kafka, controller, registry, portal = free_ports(4)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            home=Path(folder), kafka_port=kafka, controller_port=controller, registry_port=registry, portal_port=portal
        )
        with Services(settings), Supervisor() as supervisor:
            live(settings)
            supervisor.start([child(settings)])
            shoot(settings.portal_address, browser)


if __name__ == "__main__":
    main()
