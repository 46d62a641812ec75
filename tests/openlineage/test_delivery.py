"""Ways out for lineage: in order, never in a run's way, left alone for a while where they fail, with one warning."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest

from mesh_pipelines.openlineage import delivery
from mesh_pipelines.openlineage.delivery import Delivery, append_to, deliveries, post_to
from mesh_pipelines.settings import Settings


class Taken:
    """A way out that keeps what it is given, fails, or waits until it is let go."""

    def __init__(self, *, fails: bool = False, held: bool = False) -> None:
        self.events: list[bytes] = []
        self.fails = fails
        self.began = threading.Event()
        self.let_go = threading.Event()
        if not held:
            self.let_go.set()

    def __call__(self, event: bytes) -> None:
        self.began.set()
        assert self.let_go.wait(30)
        if self.fails:
            raise OSError("no route")
        self.events.append(event)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_events_go_out_in_order_and_a_step_waits_for_its_last() -> None:
    taken = Taken()
    way = Delivery("there", taken)
    for number in range(50):
        way.put(b"%d" % number)
    way.wait()
    assert taken.events == [b"%d" % number for number in range(50)]


def test_a_way_that_fails_is_left_alone_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    taken = Taken(fails=True)
    way = Delivery("there", taken)
    way.put(b"one")
    way.wait()
    taken.fails = False
    for _ in range(3):
        way.put(b"two")
        way.wait()
    assert taken.events == []
    assert warnings(caplog) == ["lineage is no longer sent to there: OSError: no route; runs go on without it"]


def test_a_way_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(delivery, "_LEFT_ALONE_S", 0.0)
    taken = Taken(fails=True)
    way = Delivery("there", taken)
    for _ in range(2):
        way.put(b"lost")
        way.wait()
    taken.fails = False
    way.put(b"kept")
    way.wait()
    assert taken.events == [b"kept"]
    assert len(warnings(caplog)) == 1


def test_a_step_does_not_wait_for_a_way_that_takes_long(caplog: pytest.LogCaptureFixture) -> None:
    taken = Taken(held=True)
    way = Delivery("there", taken, patience_s=0.01)
    way.put(b"one")
    way.wait()
    assert warnings(caplog) == ["lineage is no longer sent to there: no answer within 0.01 s; runs go on without it"]
    # Closed: nothing is waited for any more, and nothing put.
    way.put(b"two")
    way.wait()
    taken.let_go.set()


def test_a_queue_that_is_full_closes_the_way_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "_QUEUED", 3)
    taken = Taken(held=True)
    way = Delivery("there", taken)
    way.put(b"0")
    assert taken.began.wait(30)
    for number in range(1, 6):
        way.put(b"%d" % number)
    assert warnings(caplog) == [
        "lineage is no longer sent to there: 3 events are waiting already; runs go on without it"
    ]
    taken.let_go.set()


def test_a_file_gets_a_line_an_event_and_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "lineage.jsonl"
    send = append_to(file)
    send(b'{"one":1}')
    append_to(file)(b'{"two":2}')
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"one": 1}, {"two": 2}]


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "lineage.jsonl"
    texts = [chr(ord("a") + number) * 5000 for number in range(4)]

    def write(text: str) -> None:
        send = append_to(file)
        for _ in range(50):
            send(text.encode())

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.read_text().splitlines()
    assert len(lines) == 200
    assert set(lines) == set(texts)


def test_there_is_a_way_for_each_setting(tmp_path: Path) -> None:
    own = Settings(home=tmp_path, assets=tmp_path)
    assert deliveries(own) == []
    file = own.model_copy(update={"openlineage_file": tmp_path / "lineage.jsonl"})
    [way] = deliveries(file)
    way.put(b"{}")
    way.wait()
    assert (tmp_path / "lineage.jsonl").read_text() == "{}\n"
    both = Settings(
        home=tmp_path, assets=tmp_path, openlineage_file=tmp_path / "f", openlineage_url="http://127.0.0.1:1"
    )
    assert len(deliveries(both)) == 2


def test_a_backend_that_is_not_there_is_an_error_of_its_way_only(caplog: pytest.LogCaptureFixture) -> None:
    way = Delivery("the backend", post_to("http://127.0.0.1:1", None))
    way.put(b"{}")
    way.wait()
    [said] = warnings(caplog)
    assert said.startswith("lineage is no longer sent to the backend: ConnectError: ")
