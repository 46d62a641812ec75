"""A producer that remembers every event the broker acknowledged: where it lies, its key and what was in it.

It shares nothing with the platform but the client library, so that nothing is compared with itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer

from mesh_pipelines.errors import ServiceFailed

TOMBSTONES = 0.1
KEYS = 200
# Long enough for a broker to be killed and started again beneath a send.
_ACKNOWLEDGED_S = 90


@dataclass(frozen=True)
class Entry:
    """An acknowledged event: its key, its content (None: a tombstone), and how many were sent before it.

    ``held``: it cannot be decoded under the contract it was sent under; ``redrive`` is the one that brought it back.
    """

    key: str
    content: Mapping[str, Any] | None
    held: bool = False
    redrive: int | None = None
    sent: int = 0

    def counts(self, redrives: int) -> bool:
        """Whether it is taken over where so many redrives are included."""
        return not self.held or (self.redrive is not None and self.redrive <= redrives)


@dataclass
class Ledger:
    """Acknowledged events by (generation, partition, offset), and how many were sent.

    ``generation`` is the one that the log will give to the next events.
    """

    entries: dict[tuple[int, int, int], Entry] = field(default_factory=dict[tuple[int, int, int], Entry])
    generation: int = 0
    sent: int = 0


class LedgerProducer:
    """Sends events and keeps the ledger. An amount below zero is the planted bad event that the contract forbids."""

    def __init__(self, client: Mapping[str, Any], topic: str, ledger: Ledger, rng: random.Random) -> None:
        # A delivery that is not decided before the timeout would leave the ledger unsure; none may time out.
        self._config: dict[str, Any] = {
            **client,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 120_000,
            "transaction.timeout.ms": 120_000,
            "linger.ms": 1,
            # On a recreated topic a batch in flight may overtake one that is tried again; the broker then takes the
            # later try for a repeat, and acknowledges events that it never wrote.
            "max.in.flight.requests.per.connection": 1,
            "log_level": 0,
            # A restarted broker is asked for again at once.
            "reconnect.backoff.max.ms": 200,
        }
        self._producer = Producer(self._config)
        self._topic = topic
        self._rng = rng
        self._number = 0
        self._failed: list[str] = []
        self.ledger = ledger

    def restart(self) -> None:
        """Go on with a client of its own: one whose broker forgot its last events refuses to send others."""
        self._producer = Producer(self._config)

    def send(self, events: int, *, bad: bool = False) -> None:
        """Send events and wait until each is acknowledged; ``bad`` makes the last one break the contract.

        Raises:
            ServiceFailed: the broker acknowledged some in no time, or refused them.
        """
        for at in range(events):
            self.send_one(self._producer, self.ledger.entries, bad=bad and at == events - 1)
        self.wait()

    def correct(self) -> None:
        """Send a good event for every key whose last event is bad."""
        last: dict[str, Entry] = {}
        for at in sorted(self.ledger.entries):
            last[self.ledger.entries[at].key] = self.ledger.entries[at]
        for key in [key for key, entry in last.items() if entry.content and entry.content["amount"] < 0]:
            self._produce(self._producer, self.ledger.entries, key, self._content(key, amount=1))
        self.wait()

    def send_held(self, events: int) -> None:
        """Send events whose weight is too wide for the contract's first version."""
        for _ in range(events):
            key = f"k{self._rng.randrange(KEYS)}"
            content = {**self._content(key, amount=self._rng.randrange(1_000)), "weight": 1000.5}
            self._produce(self._producer, self.ledger.entries, key, content, held=True)
        self.wait()

    def post(self, events: int) -> None:
        """Send events without waiting; ``wait`` does."""
        for _ in range(events):
            self.send_one(self._producer, self.ledger.entries, bad=False)
        self._producer.poll(0)

    def wait(self) -> None:
        """Wait until all sent events are acknowledged.

        Raises:
            ServiceFailed: they are not in time, or the broker refused some.
        """
        left = self._producer.flush(_ACKNOWLEDGED_S)
        if left or self._failed:
            raise ServiceFailed(
                f"{self._topic}: the broker did not acknowledge {left + len(self._failed)} events: {self._failed[:3]}"
            )

    @contextmanager
    def transaction(self, name: str) -> Generator[Transaction]:
        """A transactional producer of its own; what it commits is in the ledger, what it aborts is not."""
        producer = Producer({**self._config, "transactional.id": f"{self._topic}-{name}"})
        producer.init_transactions(_ACKNOWLEDGED_S)
        yield Transaction(self, producer)
        producer.flush(_ACKNOWLEDGED_S)

    def send_one(self, producer: Producer, into: dict[tuple[int, int, int], Entry], *, bad: bool) -> None:
        """Send one event, noted where it was acknowledged; a bad one breaks a rule of the product."""
        key = f"k{self._rng.randrange(KEYS)}"
        gone = not bad and self._rng.random() < TOMBSTONES
        amount = -1 if bad else self._rng.randrange(1_000_000)
        self._produce(producer, into, key, None if gone else self._content(key, amount=amount))

    def _content(self, key: str, *, amount: int) -> dict[str, Any]:
        self._number += 1
        return {"id": key, "number": self._number, "amount": amount, "note": self._rng.choice([None, "", "ünïcode ✓"])}

    def _produce(
        self,
        producer: Producer,
        into: dict[tuple[int, int, int], Entry],
        key: str,
        content: dict[str, Any] | None,
        *,
        held: bool = False,
    ) -> None:
        generation, sent = self.ledger.generation, self.ledger.sent
        self.ledger.sent += 1

        def acknowledged(error: Any, message: Any) -> None:
            if error is not None:
                self._failed.append(str(error))
            elif message.offset() is None:
                self._failed.append("acknowledged without an offset")
            else:
                into[generation, message.partition(), message.offset()] = Entry(key, content, held, sent=sent)

        value = None if content is None else json.dumps(content).encode()
        producer.produce(self._topic, key=key.encode(), value=value, on_delivery=acknowledged)
        producer.poll(0)


class Transaction:
    """One transactional producer: begins, sends, and commits or aborts, any number of times."""

    def __init__(self, owner: LedgerProducer, producer: Producer) -> None:
        self._owner = owner
        self._producer = producer
        self._open: dict[tuple[int, int, int], Entry] = {}

    def begin(self, events: int) -> None:
        """Begin a transaction and write events to the broker, uncommitted."""
        self._producer.begin_transaction()
        for _ in range(events):
            self._owner.send_one(self._producer, self._open, bad=False)
        self._producer.flush(_ACKNOWLEDGED_S)

    def commit(self) -> None:
        """Commit: its events are in the ledger from now on."""
        self._producer.commit_transaction(_ACKNOWLEDGED_S)
        self._owner.ledger.entries.update(self._open)
        self._open.clear()

    def abort(self) -> None:
        """Abort: its events never were."""
        self._producer.abort_transaction(_ACKNOWLEDGED_S)
        self._open.clear()
