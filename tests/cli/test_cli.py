"""The command line as a user meets it: exit codes, errors, help, and the same records in every format."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mesh_pipelines.cli.main import app, invoke
from mesh_pipelines.cli.program import Group
from mesh_pipelines.local.supervisor import free_ports

MESH = [sys.executable, "-c", "from mesh_pipelines.cli.main import main; main()"]
HEAVY = [
    "dagster",
    "pandas",
    "great_expectations",
    "pyiceberg",
    "duckdb",
    "polars",
    "confluent_kafka",
    "pyarrow",
    "sqlalchemy",
]


def mesh(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NO_COLOR": "1", **environment}
    return subprocess.run([*MESH, *arguments], capture_output=True, text=True, env=variables, timeout=120, check=False)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mesh_pipelines.cli.main import invoke\n"
        "assert invoke(['--help']) == 0\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    assert "quarantine" in done.stdout


def test_status_loads_only_what_it_asks() -> None:
    [port] = free_ports(1)
    code = (
        "import sys\nfrom mesh_pipelines.cli.main import invoke\n"
        "assert invoke(['status']) == 1\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)\n"
    )
    variables = {**os.environ, "MESH_KAFKA_PORT": str(port), "MESH_TIMEOUT_S": "1"}
    with tempfile.TemporaryDirectory() as home:
        variables |= {"MESH_HOME": home, "MESH_ASSETS": str(Path(__file__).parents[2] / "assets")}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=variables
        )
    loaded = done.stderr.strip().splitlines()[-1]
    assert loaded == "['confluent_kafka', 'pyarrow', 'pyiceberg', 'sqlalchemy']"


ROOT: Any = typer.main.get_command(app)
COMMANDS = [
    f"{name} {inner}".split() for name, command in ROOT.commands.items() for inner in getattr(command, "commands", [""])
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_and_its_exit_codes(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*command, "--help"]) == 0
    help_text = capsys.readouterr().out
    [example] = re.findall(r"Example:\n +mesh (.+)", help_text)
    assert shlex.split(example)[: len(command)] == command
    _, _, codes = help_text.partition("Exit codes:\n")
    assert [line.split()[0] for line in codes.splitlines()] == ["0", "1", "2", "3", "130"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_example_parses(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Of `mesh import`, whose document has to be there.
    (tmp_path / "orders.odcs.yaml").touch()
    found: Any = ROOT
    for name in command:
        found = found.commands[name]
    [example] = re.findall(r"Example:\n +mesh (.+)", found.epilog)
    with found.make_context(command[-1], shlex.split(example)[len(command) :]):
        pass


def test_help_lists_every_command_under_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    groups: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            listed = groups.setdefault(line[:-1], [])
        elif groups and (found := re.match(r"  ([a-z]+) +[A-Z]", line)):
            listed.append(found[1])
    del groups["Options"]
    assert list(groups) == list(Group)
    assert sorted(name for names in groups.values() for name in names) == sorted(ROOT.commands)


def test_a_new_product_lints_and_is_not_overwritten(tmp_path: Path) -> None:
    assets = {"MESH_ASSETS": str(tmp_path / "assets"), "MESH_HOME": str(tmp_path / "home")}
    assert mesh("init", "operations/flights", **assets).returncode == 0
    assert mesh("init", "insights/busiest_routes", "--input", "operations.flights", **assets).returncode == 0
    linted = mesh("lint", **assets)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "2 contracts" in linted.stdout
    again = mesh("init", "operations/flights", **assets)
    assert (again.returncode, again.stderr.split()[0]) == (2, "M200")


def test_lint_names_every_fault_and_exits_1(tmp_path: Path) -> None:
    assets = {"MESH_ASSETS": str(tmp_path / "assets"), "MESH_HOME": str(tmp_path / "home")}
    mesh("init", "shop/orders", **assets)
    file = tmp_path / "assets/shop/orders/contract.yaml"
    file.write_text(file.read_text().replace("role: owner", "role: guest").replace("primaryKey: true", "unique: true"))
    done = mesh("lint", **assets)
    assert done.returncode == 1
    assert "owner" in done.stdout
    assert "key" in done.stdout
    records: list[dict[str, Any]] = json.loads(mesh("lint", "--output", "json", **assets).stdout)
    assert [len(record["faults"]) for record in records] == [2]


def test_lint_lists_what_is_not_checked(tmp_path: Path) -> None:
    assets = {"MESH_ASSETS": str(tmp_path / "assets"), "MESH_HOME": str(tmp_path / "home")}
    mesh("init", "shop/orders", **assets)
    file = tmp_path / "assets/shop/orders/contract.yaml"
    rule = "      - {type: sql, query: SELECT QUALIFY ME FROM t, mustBe: 0, name: theirs"
    mark = ", customProperties: [{property: mesh.notChecked, value: in Teradata}]"
    file.write_text(file.read_text().replace("    quality:\n", f"    quality:\n{rule}}}\n"))
    assert "if another engine runs it, write mesh.notChecked: true" in mesh("lint", **assets).stdout
    file.write_text(file.read_text().replace(rule, rule + mark))
    done = mesh("lint", **assets)
    assert done.returncode == 0, done.stdout
    assert "shop.orders: not checked here: theirs (in Teradata)" in done.stdout
    assert "1 contract with 4 rules is sound, 1 promise is not checked here" in done.stdout
    [record] = json.loads(mesh("lint", "--output", "json", **assets).stdout)
    assert (record["rules"], record["not_checked"]) == (4, ["theirs (in Teradata)"])


def test_finding_no_contract_is_a_failure_that_says_where_it_looked(tmp_path: Path) -> None:
    home = {"MESH_HOME": str(tmp_path / "home")}
    assets = tmp_path / "assets"
    mesh("init", "shop/orders", MESH_ASSETS=str(assets), **home)
    (assets / "shop/orders/contract.yaml").rename(assets / "shop/orders/orders.odcs.yaml")
    assert mesh("lint", MESH_ASSETS=str(assets), **home).returncode == 0
    for off, suggested in ((tmp_path, assets), (assets / "shop", assets), (tmp_path / "none", None)):
        for output in ("table", "json"):
            done = mesh("lint", "--output", output, MESH_ASSETS=str(off), **home)
            said = " ".join(done.stderr.split())
            assert done.returncode == 1, off
            assert "looked for DOMAIN/PRODUCT/ with contract.yaml, datacontract.yaml or *.odcs.yaml" in said
            assert suggested is None or f"set MESH_ASSETS={suggested}," in said
    (assets / "stray.odcs.yaml").write_text((assets / "shop/orders/orders.odcs.yaml").read_text())
    stray = mesh("lint", MESH_ASSETS=str(assets), **home)
    assert stray.returncode == 1
    assert "stray.odcs.yaml: is in no product's folder" in stray.stdout


def test_errors_are_a_code_a_message_and_a_next_step(tmp_path: Path) -> None:
    assets = {"MESH_ASSETS": str(tmp_path / "none"), "MESH_HOME": str(tmp_path / "home")}
    nothing = mesh("status", **assets)
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("M200 ")
    assert "next: mesh init" in nothing.stderr
    assert "Traceback" not in nothing.stderr
    wrong = mesh("status", MESH_KAFKA_PORT="many")
    assert wrong.returncode == 2
    assert "M205" in wrong.stderr
    assert "MESH_KAFKA_PORT" in wrong.stderr
    assert mesh("nonsense").returncode == 2


def test_a_silent_broker_is_an_environment_fault(tmp_path: Path) -> None:
    assets = {"MESH_ASSETS": str(tmp_path / "assets"), "MESH_HOME": str(tmp_path / "home"), "MESH_TIMEOUT_S": "2"}
    mesh("init", "shop/orders", **assets)
    done = mesh("apply", MESH_BOOTSTRAP_SERVERS="127.0.0.1:9", MESH_SCHEMA_REGISTRY_URL="http://127.0.0.1:9", **assets)
    assert done.returncode == 3
    assert done.stderr.startswith("M401 ")


@pytest.mark.services
def test_json_has_the_records_of_the_table(settings: Any, contract: Any) -> None:
    from confluent_kafka import Producer

    name = contract(
        "clicks",
        "- {name: page, logicalType: string, required: true}\n- {name: ms, logicalType: integer}",
        kind="measurement",
        more="- {property: mesh.wireFormat, value: json}",
    )
    environment = {
        "MESH_ASSETS": str(settings.assets),
        "MESH_HOME": str(settings.home),
        "MESH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "MESH_SCHEMA_REGISTRY_URL": settings.registry_url.reveal(),
    }
    planned = mesh("plan", **environment)
    assert (planned.returncode, planned.stdout) == (0, mesh("apply", "--dry-run", **environment).stdout)
    assert planned.stdout.splitlines()[-1] == "3 changes; next: mesh apply"
    assert mesh("apply", **environment).returncode == 0
    assert "nothing to do" in mesh("apply", **environment).stdout
    assert "nothing to do" in mesh("plan", **environment).stdout
    file = settings.assets / name.replace(".", "/") / "contract.yaml"
    sound = file.read_text()
    file.write_text(sound.replace("logicalType: integer}", "logicalType: integer, required: true}"))
    for command in ("plan", "apply"):
        refused = mesh(command, **environment)
        assert refused.returncode == 1
        assert "require ms: earlier events may have null" in refused.stderr
        assert refused.stdout.splitlines()[-1] == f"nothing was changed for {name}"
    file.write_text(sound)
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number in range(10):
        producer.produce(name, value=json.dumps({"page": f"/{number}", "ms": number}))
    producer.flush()
    assert mesh("run", **environment).returncode == 0
    [record] = json.loads(mesh("status", "--output", "json", **environment).stdout)
    assert (record["product"], record["version"], record["rows"], record["lag"]) == (name, 1, 10, 0)
    table = mesh("status", **environment).stdout
    assert name in table
    sql = f"SELECT page, ms FROM {name} WHERE ms < 2 ORDER BY ms"
    rows = json.loads(mesh("query", sql, "--output", "json", **environment).stdout)
    assert rows == [{"page": "/0", "ms": 0}, {"page": "/1", "ms": 1}]
    assert mesh("query", sql, "--output", "csv", **environment).stdout == "page,ms\n/0,0\n/1,1\n"
    assert mesh("query", "SELECT 1; SELECT 2", **environment).returncode == 2
    assert mesh("versions", name, **environment).returncode == 0
    assert "nothing is in quarantine" in mesh("quarantine", "list", name, **environment).stdout
    rebuilt = mesh("rebuild", name, "--from", "topic", **environment)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "10 events are the same in log and topic" in rebuilt.stdout
    [done] = json.loads(mesh("rebuild", name, "--output", "json", **environment).stdout)
    assert (done["version"], done["identical"], done["published_as"]) == (1, True, None)
    assert mesh("rebuild", name, "--from", "topic", "--version", "1", **environment).returncode == 2
    back = mesh("rollback", name, "--to", "9", **environment)
    assert (back.returncode, back.stderr.split()[0]) == (2, "M202")
    assert mesh("quarantine", "show", name, "here", **environment).returncode == 2
    assert "nothing came back" in mesh("quarantine", "redrive", name, **environment).stdout


@pytest.mark.parametrize(("choice", "how"), [("auto", "native extension"), ("off", "switched off")])
def test_doctor_says_how_landing_is_done_and_what_does_not_answer(choice: str, how: str, tmp_path: Path) -> None:
    kafka, registry = map(str, free_ports(2))
    found = mesh(
        *("doctor", "--output", "json"),
        MESH_HOME=str(tmp_path),
        MESH_NATIVE=choice,
        MESH_KAFKA_PORT=kafka,
        MESH_REGISTRY_PORT=registry,
        MESH_TIMEOUT_S="1",
    )
    assert found.returncode == 3
    assert how in found.stdout
    steps = {one["what"]: one["next_step"] for one in json.loads(found.stdout)}
    assert steps["broker"] == steps["schema registry"] == "mesh up --services"
    assert not steps["catalog"]
