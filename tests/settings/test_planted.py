"""A secret planted in every setting that can hold one, and a search of all that the mesh writes for it."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

SECRETS = {
    name: f"{name}-s3cr3t@{number}/a:b%c-é"
    for number, name in enumerate(
        ("registry", "catalog", "smtp", "lineage", "kafka", "basic", "rest", "key", "oidc", "jaas", "query")
    )
}
# The most telling part of each, by which it is found however the rest was encoded.
CORES = {name: f"{name}-s3cr3t" for name in SECRETS}

UNREACHABLE = {
    "MESH_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "MESH_SCHEMA_REGISTRY_URL": f"http://reg:{SECRETS['registry']}@127.0.0.1:9/api?token={quote(SECRETS['query'])}",
    "MESH_SMTP_URL": f"smtp://mail:{quote(SECRETS['smtp'], safe='')}@127.0.0.1:9",
    "MESH_OPENLINEAGE_URL": f"http://lin:{SECRETS['lineage']}@127.0.0.1:9",
    "MESH_OPENLINEAGE_API_KEY": SECRETS["key"],
    "MESH_OIDC_CLIENT_SECRET": SECRETS["oidc"],
    "MESH_KAFKA_CONFIG": f'{{"sasl.username": "me", "sasl.password": "{SECRETS["kafka"]}"}}',
    "MESH_TIMEOUT_S": "1",
    "NO_COLOR": "1",
}

PORTAL = """
from starlette.testclient import TestClient
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings

settings = Settings.load()
print(settings, repr(settings), settings.model_dump_json())
history = History.open(settings)
app = create_app(settings, history)
app.state.portal.watcher.refresh(anew=True)
client = TestClient(app, base_url=settings.portal_address)
token = app.state.portal.sign_in.development.token()
headers = {"Origin": settings.portal_address}
assert client.post("/sign-in", data={"token": token}, headers=headers, follow_redirects=False).status_code == 303
for path in ["/", "/quality", "/incidents", "/api", "/api/products", "/api/incidents", "/api/objectives", "/metrics"]:
    print(path, client.get(path).text)
for page in ["", "/schema", "/use", "/data", "/versions", "/quality", "/lineage", "/quarantine", "/contract"]:
    answer = client.get("/products/shop/orders" + page)
    assert answer.status_code == 200, (page, answer.status_code)
    print(page, answer.text)
    if page == "/use":
        assert "reg:***@127.0.0.1:9" in answer.text
history.close()
"""

DAGSTER = """
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.settings import Settings

for child in children(Settings.load()):
    print(child.name, child.argv)
"""


@pytest.fixture
def said(tmp_path: Path) -> Callable[..., str]:
    """Runs Python in a folder with one product; gives all that it wrote."""

    def run(*arguments: str, **variables: str) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**environment, **UNREACHABLE, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}\n"

    assert "exit code 0" in run("-m", "mesh_pipelines", "init", "shop/orders")
    return run


def assert_hidden(text: str, where: object) -> None:
    """No secret, and no encoding of one, stands in a text."""
    for name, core in CORES.items():
        assert core not in text, (name, where)
        assert quote(core, safe="") not in text, (name, where)
    for user, name in (("me", "basic"), ("reg", "registry"), ("lin", "lineage")):
        assert b64encode(f"{user}:{SECRETS[name]}".encode()).decode() not in text, (name, where)


COMMANDS = [
    ("doctor",),
    ("doctor", "--output", "json"),
    ("status",),
    ("plan",),
    ("apply",),
    ("run",),
    ("land",),
    ("observe",),
    ("versions", "shop.orders"),
    ("quarantine", "list", "shop.orders"),
    ("query", "SELECT * FROM shop.orders"),
]


def test_no_command_page_or_file_shows_a_secret(said: Callable[..., str], tmp_path: Path) -> None:
    outputs = {command: said("-m", "mesh_pipelines", *command) for command in COMMANDS}
    outputs |= {
        ("debug", *command): said("-m", "mesh_pipelines", *command, MESH_DEBUG="1") for command in COMMANDS[3:5]
    }
    outputs |= {("portal",): said("-c", PORTAL), ("dagster",): said("-c", DAGSTER)}
    for where, text in outputs.items():
        assert_hidden(text, where)
    for where in (("portal",), ("dagster",)):
        assert "exit code 0" in outputs[where], outputs[where]
    # The addresses themselves are shown, without their secrets.
    assert "http://reg:***@127.0.0.1:9/api?token=***" in outputs["doctor", "--output", "json"]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "history.db" for file in files)
    assert any(file.name == "workspace.yaml" for file in files)
    for file in files:
        assert_hidden(file.read_bytes().decode(errors="replace"), file)


@pytest.mark.parametrize(
    "settings",
    [
        {"MESH_CATALOG_URI": f"http://cat:{SECRETS['catalog']}@127.0.0.1:9"},
        {
            "MESH_CATALOG_URI": f"postgresql+nodriver://cat:{SECRETS['catalog']}@127.0.0.1:9/db?password={SECRETS['rest']}"
        },
        {"MESH_CATALOG_URI": f"mysql://cat:{SECRETS['catalog']}@127.0.0.1:9/db"},
        {"MESH_CATALOG_URI": f"nonsense://cat:{SECRETS['catalog']}@["},
        {"MESH_CATALOG_URI": "http://127.0.0.1:9", "MESH_CATALOG_CONFIG": f'{{"token": "{SECRETS["rest"]}"}}'},
        {"MESH_KAFKA_CONFIG": f'{{"sasl.mechanisms": "PLAIN", "sasl.password": "{SECRETS["kafka"]}", "no.such": "x"}}'},
        {"MESH_KAFKA_CONFIG": f'{{"sasl.jaas.config": "x password=\'{SECRETS["jaas"]}\';"}}'},
        {"MESH_KAFKA_CONFIG": f'{{"sasl.password": "{SECRETS["kafka"]}"'},
        {"MESH_KAFKA_CONFIG": f'{{"sasl.password": ["{SECRETS["kafka"]}"]}}'},
        {"MESH_SCHEMA_REGISTRY_URL": f"reg:{SECRETS['registry']}@127.0.0.1"},
        {
            "MESH_SCHEMA_REGISTRY_URL": "http://127.0.0.1:9",
            "MESH_SCHEMA_REGISTRY_CONFIG": f'{{"basic.auth.user.info": "me:{SECRETS["basic"]}"}}',
        },
        {"MESH_SCHEMA_REGISTRY_CONFIG": f'{{"bogus.key": "{SECRETS["basic"]}"}}'},
        {"MESH_SMTP_URL": f"ftp://u:{SECRETS['smtp']}@host"},
        {"MESH_OPENLINEAGE_URL": f"u:{SECRETS['lineage']}@host"},
        {"MESH_WAREHOUSE": f"s3://me:{quote(SECRETS['key'], safe='')}@bucket/tables"},
        {"MESH_PORTAL_URL": f"https://me:{SECRETS['oidc']}@portal.example.com"},
        {"MESH_DAGSTER_URL": f"https://dagster.example.com/?token={quote(SECRETS['oidc'])}"},
        {"MESH_OIDC_ISSUER": f"https://me:{SECRETS['oidc']}@id.example.com"},
        {"MESH_BOOTSTRAP_SERVERS": f"kafka://me:{SECRETS['kafka']}@127.0.0.1:9"},
        {"HTTP_PROXY": f"http://me:{SECRETS['rest']}@127.0.0.1:9", "MESH_SCHEMA_REGISTRY_URL": "http://127.0.0.2:9"},
    ],
    ids=lambda settings: "-".join(settings).removeprefix("MESH_").lower(),
)
def test_no_error_about_a_setting_shows_its_secret(said: Callable[..., str], settings: dict[str, str]) -> None:
    for variables in (settings, {**settings, "MESH_DEBUG": "1"}):
        text = said("-m", "mesh_pipelines", "apply", **variables)
        assert "exit code 0" not in text
        assert_hidden(text, settings)
