"""``mesh observe``: a round of observing as a table, or rounds until it is told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from mesh_pipelines.cli.output import Format, Output
from mesh_pipelines.contract.objectives import roughly
from mesh_pipelines.counted import counted
from mesh_pipelines.observe.notify import notify
from mesh_pipelines.observe.observe import observe, watch
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.observe.store.lease import Lease, LeaseLost
from mesh_pipelines.observe.store.records import Health, ObjectiveState
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings


def run_observe(settings: Settings, platform: Callable[[], Platform], output: Output, *, watch: bool) -> int:
    """Observe; gives the exit code: 1 where an objective is not met or a product is not healthy."""
    with closing(History.open(settings)) as history:
        if watch:
            return _watch(settings, platform, history, output)
        return _once(settings, platform(), history, output)


def _once(settings: Settings, platform: Platform, history: History, output: Output) -> int:
    lease = Lease(history)
    try:
        if not lease.take():
            raise LeaseLost
        done = observe(platform, history, lease=lease)
        tried = notify(history, settings)
    except LeaseLost:
        output.say("another process observes the mesh; this is what it found last")
    else:
        lease.release()
        for problem in done.problems:
            output.say(problem)
        for delivery in tried:
            if delivery.problem:
                output.say(f"a message about incident {delivery.incident} was not delivered: {delivery.problem}")
    return _show(history, output)


def _show(history: History, output: Output) -> int:
    states = history.objectives()
    output.records([_record(one, output.form) for one in states])
    missed = [one for one in states if one.met is False]
    opened = history.incidents(open_only=True, limit=-1)
    for one in opened:
        detail = f": {one.detail}" if one.detail else ""
        output.say(f"incident {one.id}: {one.product}: {one.title}{detail} (since {one.began_at:%Y-%m-%d %H:%M} UTC)")
    ill = [one.product for one in history.current() if one.health is Health.BAD]
    output.say(
        f"{len(missed)} of {counted(len(states), 'objective')} not met, {counted(len(opened), 'incident')} open, "
        f"{counted(len(ill), 'product')} not healthy; next: mesh status"
    )
    return 1 if missed or ill else 0


def _watch(settings: Settings, platform: Callable[[], Platform], history: History, output: Output) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    output.say(f"observing every {settings.observe_interval_s:g} s until Ctrl-C")
    watch(platform, history, settings.observe_interval_s, stop)
    return 0


def _record(state: ObjectiveState, form: Format) -> dict[str, Any]:
    if form is Format.JSON:
        return {name: getattr(state, name) for name in state.__dataclass_fields__}
    return {
        "product": state.product,
        "objective": state.objective,
        "promised": state.promise,
        "measured": _measured(state),
        "met": state.met,
        "attainment": _percent(state.attainment),
        "target": _percent(state.target),
        "budget_left": _percent(state.budget_left),
        "burn_1h": state.burn_1h,
        "burn_24h": state.burn_24h,
    }


def _measured(state: ObjectiveState) -> str | None:
    if state.measured is None:
        return None
    return roughly(state.measured) if state.unit == "s" else f"{state.measured:.4g} {state.unit}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.4g} %"
