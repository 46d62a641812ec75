"""Answers that a registry should not give: landing waits for a better one or sets the event aside, and goes on."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import EnvironmentFault, MeshError
from mesh_pipelines.formats.decode import Decoder
from mesh_pipelines.formats.format import BrokenReferences
from mesh_pipelines.kafka.registry import Registry
from mesh_pipelines.kafka.source import SCHEMA
from mesh_pipelines.settings import Settings
from tests.attacks.collected import Attempt, attempts, by_class, written_out
from tests.building import contract_text, written
from tests.hostile import Said, answering

CLASSES = by_class(attempts("registry.yaml"))
# However busy the machine is.
_MOST_S = 30.0
_MOST_BYTES = 300_000_000
_JSON = "HTTP/1.1 200 OK\nContent-Type: application/vnd.schemaregistry.v1+json\nContent-Length: "
STOPPED, SET_ASIDE, READ = "waited for or stopped", "set aside", "read"


@dataclass
class Elsewhere:
    """A server that nobody may be led to, and how often somebody was."""

    address: str = ""
    asked: int = 0


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    found = Elsewhere()

    def asked(client: Any) -> None:
        found.asked += 1
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"schema": "\\"string\\""}')

    with answering(asked) as address:
        found.address = address
        yield found


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> DataProduct:
    return written(tmp_path_factory.mktemp("assets"), contract_text("shop.orders"))


def answer_of(attempt: Attempt, elsewhere: Elsewhere) -> Said:
    """The answer of an attempt, as a server gives it."""
    said = attempt.said
    if attempt.stated["as"] == "schema":
        said = json.dumps({"schema": written_out(said)})
    if attempt.stated["as"] in ("schema", "body"):
        body = written_out(said).encode("utf-8", "surrogateescape")
        return Said(attempt.name, f"{_JSON}{len(body)}\n\n".replace("\n", "\r\n").encode() + body)
    return Said.of(attempt.name, said.replace("{canary}", elsewhere.address) if isinstance(said, str) else said)


def messages(*values: bytes) -> pa.Table:
    """Messages with these values, as they are read from a topic."""
    filled = {"key": [b"k"] * len(values), "value": list(values), "offset": list(range(len(values)))}
    columns = [
        pa.array(filled.get(one.name, [0] * len(values)), one.type)
        if one.name in filled or not one.nullable
        else pa.nulls(len(values), one.type)
        for one in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def become(orders: DataProduct, registry: Registry) -> str:
    """What becomes of an event whose schema has to be asked for, between two that say nothing of any."""
    framed = b"\x00" + (1).to_bytes(4, "big") + b"\x02a"
    decoder = Decoder(orders, registry, max_event_bytes=1_000_000)
    try:
        rows = decoder.decode(messages(b"x", framed, b"x"), 0).to_pylist()
    except EnvironmentFault as error:
        return STOPPED if is_helpful(error) else str(error)
    assert len(rows) == 3
    if rows[1]["_fate"] == "ok":
        return READ
    assert 0 < len(str(rows[1]["_reason"])) < 600
    return SET_ASIDE


def is_helpful(error: MeshError) -> bool:
    return bool(error.next_step) and "Traceback" not in str(error) and len(str(error)) < 2000


# All else that is asked of a registry ends in a value or in an error of ours.
ASKED: tuple[Callable[[Registry], object], ...] = (
    lambda one: one.latest("shop.orders-value"),
    lambda one: one.compatibility("shop.orders-value"),
    lambda one: one.registered_id("shop.orders-value", '"string"', "AVRO"),
)


def wrong(attempt: Attempt, orders: DataProduct, elsewhere: Elsewhere, home: Path) -> str:
    """What is not right of what an attempt leads to, or nothing."""
    began = time.monotonic()
    # Of an answer that does not end, the time is all that there is to see.
    seconds = 0.4 if isinstance(attempt.said, dict) else 3.0
    with answering(answer_of(attempt, elsewhere)) as address:
        registry = Registry(Settings(home=home, schema_registry_url=address, timeout_s=seconds))
        try:
            found = become(orders, registry)
            for ask in ASKED:
                with suppress(MeshError, BrokenReferences):
                    ask(registry)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:300]}"
    if found != attempt.stated["right"] and attempt.stated["right"] != "either":
        return f"it is {found}"
    took = time.monotonic() - began
    return f"it took {took:.0f} s" if took > _MOST_S else ""


@pytest.mark.parametrize("kind", CLASSES)
def test_a_hostile_answer_costs_no_more_than_an_event_or_a_wait(
    kind: str, orders: DataProduct, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(8) as together:
        found = together.map(lambda one: (one, wrong(one, orders, elsewhere, tmp_path)), CLASSES[kind])
        assert [f"{one}: {what}" for one, what in found if what] == []
    assert elsewhere.asked == 0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < _MOST_BYTES
    assert threading.active_count() < 200
