"""Data Docs of a product that was audited, by the command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh_pipelines.cli.main import invoke
from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.contract.types import log_schema
from mesh_pipelines.errors import UnknownVersion
from mesh_pipelines.observe.audit_docs import docs
from mesh_pipelines.pipeline.snapshot import snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import PartitionOffset, Position
from mesh_pipelines.settings import Settings


def test_the_command_builds_the_pages_of_what_was_audited(
    local_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MESH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESH_HOME", str(local_settings.home))
    monkeypatch.setenv("MESH_ASSETS", str(local_settings.assets))
    scaffold(local_settings.assets, "shop/orders")
    platform = Platform.open(local_settings)
    orders = platform.product("shop.orders")
    platform.tables_of(orders).create()
    with pytest.raises(UnknownVersion):
        docs(platform, orders)
    end = Position("cluster", "shop.orders", "topic").advance({0: PartitionOffset(1)})
    platform.tables_of(orders).log.append(log_schema(orders).empty_table(), None, end)
    taken = snapshot(platform, orders)
    assert taken.candidate
    assert invoke(["docs", "shop.orders", "--out", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "index.html").exists()
    assert list((tmp_path / "site").rglob(f"{taken.candidate.candidate_id}.html"))
    assert invoke(["docs", "shop.orders", "--version", "7"]) == 2
