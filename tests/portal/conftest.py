"""The demo's products with a past, and products in every unhappy state; a client and a browser to read them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from mesh_pipelines.local.supervisor import free_ports
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract
from tests.portal.serving import (
    ASSETS,
    BROKEN,
    NEVER,
    ORPHAN,
    UNSEEN,
    Mesh,
    chromium,
    mesh_of,
    place,
    served,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The demo's products with a past but without tables, and products that are broken, unseen or not in order."""
    folder = tmp_path_factory.mktemp("portal")
    assets = folder / "assets"
    shutil.copytree(ASSETS, assets)
    for name in (NEVER, UNSEEN):
        place(assets, name)
    place(assets, BROKEN).write_text("name: broken\n")
    inputs = "- {property: mesh.inputs, value: [shop.broken]}"
    text = contract_text(ORPHAN, alignment="aggregate-aligned", settings=inputs)
    write_contract(assets, text, "SELECT * FROM shop.broken")
    settings = Settings(home=folder / "home", assets=assets, portal_port=free_ports(1)[0])
    with mesh_of(settings, unseen=frozenset({UNSEEN})) as found:
        yield found


@pytest.fixture(scope="module")
def client(mesh: Mesh) -> TestClient:
    """A visitor who has not signed in."""
    return mesh.client()


@pytest.fixture(scope="module")
def address(mesh: Mesh) -> Iterator[str]:
    """The address of the mesh's portal, served."""
    with served(mesh.app, mesh.settings.portal_port) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from chromium()
