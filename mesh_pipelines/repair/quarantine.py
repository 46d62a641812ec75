"""The events a product did not take over: where they are on the stream, why, their bytes; and bringing them back.

A redrive decodes the kept bytes again, under the contract and the schemas as they are now, and asks the diverting rules
again. What passes is taken over at the offset it always had, so a key's later events still win over it; what does not
stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mesh_pipelines.audit.divert import Diverter
from mesh_pipelines.contract import envelope
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import UsageError
from mesh_pipelines.formats.decode import Decoder
from mesh_pipelines.lake.storage import over_storage
from mesh_pipelines.platform import Platform, by_applied_contract
from mesh_pipelines.serve.door import held_at, log_of


@dataclass(frozen=True)
class Redriven:
    """What one redrive did: events that came back, and those still held, by fate."""

    product: str
    came_back: int
    undecodable: int
    diverted: int
    seconds: float


@by_applied_contract
def show(
    platform: Platform, product: DataProduct, partition: int, offset: int, generation: int | None = None
) -> dict[str, Any]:
    """All that is known of one quarantined event: the log's columns, and ``decoded`` where its bytes decode now.

    ``generation`` defaults to the one the stream is in.

    Raises:
        UsageError: no quarantined event lies there.
    """
    if generation is None:
        position = log_of(platform, product).position()
        generation = position.generation if position else 0
    found = held_at(platform, product, (generation, partition, offset))
    if not found.num_rows:
        raise UsageError(
            f"{product.fqn} has no quarantined event at {partition}:{offset}",
            next_step=f"mesh quarantine list {product.fqn}",
        )
    with _again(platform, product) as again:
        [anew] = again(found).to_pylist()
    [event] = found.select(envelope.ENVELOPE.names).to_pylist()
    readable = anew[envelope.FATE] != envelope.Fate.UNDECODABLE
    now = {"fate": anew[envelope.FATE], "rule": anew[envelope.RULE], "reason": anew[envelope.REASON]}
    decoded = {field.name: anew[field.name] for field in product.fields} if readable else None
    return {**event, "now": now, "decoded": decoded}


@by_applied_contract
@over_storage
def redrive(
    platform: Platform, product: DataProduct, on_progress: Callable[[int, int], None] | None = None
) -> Redriven:
    """Bring back the quarantined events that decode and pass the diverting rules now, at their original offsets.

    The next run publishes them. ``on_progress`` gets (files looked at, files).

    Raises:
        UsageError: the product is derived.
        ConcurrentWriter: a landing committed meanwhile; nothing was changed. Transient.
        RegistryUnreachable: transient; nothing was changed.
    """
    started = time.monotonic()
    held = log_of(platform, product)
    with _again(platform, product) as again:
        came_back = held.redrive(again, on_progress)
    fates = held.fates()
    return Redriven(
        product.fqn,
        came_back,
        fates.get(envelope.Fate.UNDECODABLE, 0),
        fates.get(envelope.Fate.DIVERTED, 0),
        time.monotonic() - started,
    )


@contextmanager
def _again(platform: Platform, product: DataProduct) -> Generator[Callable[[pa.Table], pa.Table]]:
    """Decode quarantined rows of the log as if they had just been read."""
    from mesh_pipelines.kafka.source import SCHEMA

    decoder = Decoder.of(product, platform.registry, platform.settings)

    def again(rows: pa.Table) -> pa.Table:
        columns = [
            rows[name] for name in (envelope.PARTITION, envelope.OFFSET, envelope.TIMESTAMP, envelope.KEY, envelope.RAW)
        ]
        raw = pa.Table.from_arrays(columns, names=SCHEMA.names).cast(SCHEMA)
        decoded = diverter.divert(decoder.decode(raw, 0))
        number = decoded.schema.get_field_index(envelope.GENERATION)
        return decoded.set_column(number, decoded.schema.field(number), rows[envelope.GENERATION])

    with closing(Diverter(product)) as diverter:
        yield again
