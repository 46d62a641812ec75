"""A product made for the self-test: its contract, its topic and tables, and its producer."""

from __future__ import annotations

import random
import textwrap
import uuid
from dataclasses import dataclass, replace

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.plan.apply import apply_contracts
from mesh_pipelines.platform import Platform
from mesh_pipelines.selftest.ledger import Ledger, LedgerProducer
from mesh_pipelines.settings import Settings

PARTITIONS = 3
RULE = "amount.minimum"
# Small chunks make several commits of one landing, so that a kill has more places to hit.
CHUNK_ROWS = 50
# And bases are rewritten now and then, though the topics are short.
BASE_TAIL_ROWS = 300

_CONTRACT = """\
    apiVersion: v3.1.0
    kind: DataContract
    id: {domain}.{name}
    name: {name}
    domain: {domain}
    version: "1.{minor}.0"
    status: active
    description: {{purpose: Events that the self-test keeps a ledger of.}}
    team:
      members:
        - {{username: selftest@example.com, role: owner}}
    customProperties:
      - {{property: mesh.alignment, value: source-aligned}}
      - {{property: mesh.eventType, value: state}}
      - {{property: mesh.wireFormat, value: json}}
      - {{property: mesh.partitions, value: {partitions}}}
    schema:
      - name: {name}
        properties:
          - {{name: id, logicalType: string, primaryKey: true}}
          - {{name: number, logicalType: integer, required: true}}
          - {{name: amount, logicalType: integer, required: true, logicalTypeOptions: {{minimum: 0}}}}
          - {{name: note, logicalType: string}}
          - {{name: weight, logicalType: number, physicalType: "decimal({digits},1)"}}
          {more}
    """


@dataclass(frozen=True)
class Subject:
    """One product under test, with the producer of its topic and the ledger of what was acknowledged."""

    settings: Settings
    product: DataProduct
    producer: LedgerProducer
    ledger: Ledger

    @property
    def name(self) -> str:
        """``domain.product``."""
        return self.product.fqn

    def platform(self) -> Platform:
        """The product's platform, with doors of its own."""
        return Platform(self.settings, {self.name: self.product})


def create(settings: Settings, name: str, rng: random.Random, *, partitions: int = PARTITIONS) -> Subject:
    """Write the contract of a new product, whose domain no other run has used, and apply it."""
    domain = f"selftest_{uuid.uuid4().hex[:8]}"
    settings = settings.model_copy(update={"chunk_rows": CHUNK_ROWS, "base_tail_rows": BASE_TAIL_ROWS})
    product = _write(settings, domain, name, partitions=partitions, minor=0)
    assert product.topic is not None
    ledger = Ledger()
    producer = LedgerProducer(settings.client_config(), product.topic.name, ledger, rng)
    return _applied(Subject(settings, product, producer, ledger))


def evolve(subject: Subject, minor: int) -> Subject:
    """The product under the next version of its contract: a wider ``weight``, and one more field for each version."""
    product = subject.product
    assert product.topic is not None
    partitions = product.topic.initial_partitions
    product = _write(subject.settings, product.domain, product.name, partitions=partitions, minor=minor)
    return _applied(replace(subject, product=product))


def _write(settings: Settings, domain: str, name: str, *, partitions: int, minor: int) -> DataProduct:
    folder = settings.assets / domain / name
    folder.mkdir(parents=True, exist_ok=True)
    text = textwrap.dedent(_CONTRACT).format(
        domain=domain,
        name=name,
        partitions=partitions,
        minor=minor,
        digits=9 if minor else 3,
        more="\n      ".join(f"- {{name: added{number}, logicalType: string}}" for number in range(minor)),
    )
    (folder / "contract.yaml").write_text(text)
    return load_product(folder)


def _applied(subject: Subject) -> Subject:
    platform = subject.platform()
    apply_contracts(platform, [subject.product])
    return subject
