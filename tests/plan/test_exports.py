"""Contracts given to other tools: by the standard's own schema, with what such tools look for.

``make exports`` asks datacontract-cli as well, whose dependencies weigh more than this project's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mesh_pipelines.cli.main import app
from mesh_pipelines.contract.read.load import load_products
from mesh_pipelines.contract.read.standard import is_sound
from mesh_pipelines.plan.exports import exported
from mesh_pipelines.plan.imports.bring import Wanted
from mesh_pipelines.plan.imports.step import import_files
from mesh_pipelines.settings import Settings
from tests.plan.test_importing import SEVERAL

ASSETS = Path(__file__).parents[2] / "assets"
DEMO = load_products(ASSETS).products


@pytest.mark.parametrize("name", DEMO)
def test_the_demos_contracts_keep_to_the_standard(name: str, tmp_path: Path) -> None:
    product, settings = DEMO[name], Settings(home=tmp_path, bootstrap_servers="broker.example.com:9092")
    text = exported(settings, product)
    document = yaml.safe_load(text)
    assert is_sound(document)
    [described] = document["schema"]
    if product.stream:
        assert (described["physicalName"], described["physicalType"]) == (product.stream.name, "topic")
        [server] = document["servers"]
        assert server == {
            "server": "stream",
            "type": "kafka",
            "host": "broker.example.com:9092",
            "format": product.stream.wire_format,
        }
    written = (product.folder / "contract.yaml").read_text()
    assert [line.strip() for line in written.splitlines() if line.strip().startswith("#")] == [
        line.strip() for line in text.splitlines() if line.strip().startswith("#")
    ]


def test_what_was_imported_keeps_to_the_standard_of_today(tmp_path: Path) -> None:
    file = tmp_path / "given.odcs.yaml"
    file.write_text(SEVERAL.replace('"3.0.2"', "v3.2.0").replace("{rule: ", "{metric: "))
    done = list(import_files([file], tmp_path / "assets", Wanted()))
    assert all(one.written for one in done)
    for product in load_products(tmp_path / "assets").products.values():
        assert is_sound(yaml.safe_load(exported(Settings(home=tmp_path), product)))


def test_the_command_prints_or_writes_and_never_over_a_file(tmp_path: Path) -> None:
    env = {"MESH_ASSETS": str(ASSETS), "MESH_HOME": str(tmp_path / "home")}
    run, out = CliRunner(), tmp_path / "flights.odcs.yaml"
    printed = run.invoke(app, ["export", "operations.flights"], env=env)
    assert printed.exit_code == 0, printed.output
    asked = ["export", "operations.flights", "--out", str(out)]
    assert run.invoke(app, asked, env=env).exit_code == 0
    assert out.read_text() == printed.stdout
    assert run.invoke(app, asked, env=env).exit_code != 0
    assert run.invoke(app, [*asked, "--replace"], env=env).exit_code == 0
