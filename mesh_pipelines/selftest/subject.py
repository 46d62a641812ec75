"""A product made for the self-test: its contract, its topic and tables, and its producer."""

from __future__ import annotations

import random
import textwrap
import uuid
from dataclasses import dataclass

from mesh_pipelines.contract.load import load_product
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.selftest.ledger import Ledger, LedgerProducer
from mesh_pipelines.settings import Settings
from mesh_pipelines.steps import apply
from mesh_pipelines.steps.platform import Platform

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
    version: "1.0.0"
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
    folder = settings.assets / domain / name
    folder.mkdir(parents=True)
    text = textwrap.dedent(_CONTRACT).format(domain=domain, name=name, partitions=partitions)
    (folder / "contract.yaml").write_text(text)
    settings = settings.model_copy(update={"chunk_rows": CHUNK_ROWS, "base_tail_rows": BASE_TAIL_ROWS})
    ledger = Ledger()
    product = load_product(folder)
    assert product.stream is not None
    producer = LedgerProducer(settings.client_config(), product.stream.name, ledger, rng)
    subject = Subject(settings, product, producer, ledger)
    platform = subject.platform()
    apply.execute(platform, apply.plan(platform, [product]))
    return subject
