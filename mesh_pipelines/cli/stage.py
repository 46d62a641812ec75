"""``mesh up``, ``mesh demo``, ``mesh portal``: services, web pages and the demo's story, running until Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import TYPE_CHECKING

from mesh_pipelines.cli.discovering import STATUS_COLUMNS
from mesh_pipelines.cli.output import Output, record
from mesh_pipelines.cli.program import relative
from mesh_pipelines.counted import counted
from mesh_pipelines.demo.contracts import provide
from mesh_pipelines.errors import MeshError, ServiceFailed, UsageError
from mesh_pipelines.local.private import for_others
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import Supervisor
from mesh_pipelines.local.troubles import note
from mesh_pipelines.observe.status import status
from mesh_pipelines.orchestration.graphql import load_errors
from mesh_pipelines.orchestration.instance import children
from mesh_pipelines.orchestration.locations import Locations
from mesh_pipelines.orchestration.roles import check_reach
from mesh_pipelines.pipeline.due import needs
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.process import child
from mesh_pipelines.settings import Settings

if TYPE_CHECKING:
    from mesh_pipelines.positions import Version

_JANUARY = date(2013, 2, 1)
_WATCH_S = 1.0
# `mesh demo --once` is promised to end within five minutes; past this it reports what is missing instead of waiting on.
_PATIENCE_S = 270.0


def run_up(settings: Settings, output: Output, *, services_only: bool) -> int:
    """Start the services, and Dagster unless told otherwise; stay until Ctrl-C. Gives the exit code."""
    if not services_only:
        check_reach(settings)
    with _stopping() as stop, ExitStack() as stack:
        services = _start_services(stack, settings, output, stop)
        pages = None if services_only else _start_pages(stack, settings, output)
        _addresses(settings, output, pages=not services_only)
        output.say("everything runs; Ctrl-C stops it")
        crew = _Crew(settings, output, services, pages)
        domains = _Domains(settings, output) if pages else None
        while not stop.wait(_WATCH_S):
            crew.tend()
            if domains:
                domains.look()
        output.say("stopping")
        code = crew.leave()
    output.say("stopped; what was produced and published is kept")
    return code


def run_demo(settings: Settings, output: Output, *, once: bool, speed: float | None) -> int:
    """Run the demo mesh; with ``once`` bounded to January and ending by itself. Gives the exit code."""
    check_reach(settings)
    with for_others():
        provided = provide(settings.assets)
    if provided:
        output.say(f"wrote the demo's contracts to {relative(settings.assets)}")
    with _stopping() as stop, ExitStack() as stack:
        services = _start_services(stack, settings, output, stop)
        platform = _apply(settings, output)
        pages = _start_pages(stack, settings, output)
        _addresses(settings, output, pages=True)
        crew = _Crew(settings, output, services, pages)
        watcher = _Watcher(platform, output)
        _replay(watcher, stop, until=_JANUARY if once else None, speed=speed)
        if once:
            done = _await_all(platform, stop, watcher, crew.tend)
            code = _report(platform, output, done)
        else:
            output.say("replayed; Dagster publishes what comes. Ctrl-C stops everything")
            while not stop.wait(_WATCH_S):
                crew.tend()
                watcher.look()
            code = 0
        output.say("stopping")
        code = crew.leave() or code
    output.say("stopped; what was produced and published is kept, and the next mesh demo continues from there")
    return code


def run_portal(settings: Settings, output: Output, *, observe: bool, link_only: bool) -> int:
    """Serve the portal until Ctrl-C, or only print a sign-in link. Gives the exit code."""
    from mesh_pipelines.portal.serve import serve, sign_in_link

    link = sign_in_link(settings)
    if link_only:
        if link is None:
            raise UsageError(
                "the link works only for a portal on loopback without a sign-in provider",
                next_step="sign in at the portal",
            )
        output.say(link)
        return 0

    def ready() -> None:
        output.say(f"the portal is at {settings.portal_address}; Ctrl-C stops it")
        if link:
            # Logs are read by others, too.
            way = link if output.out.is_terminal else "the link that mesh portal --link prints"
            output.say(f"sign in with {way}")

    serve(settings, observe=observe, on_ready=ready)
    return 0


@contextmanager
def _stopping() -> Generator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets; what follows then is an orderly stop."""
    stop = threading.Event()

    def ask(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_services(stack: ExitStack, settings: Settings, output: Output, stop: threading.Event) -> Services | None:
    """The local broker and registry, unless the settings name others."""
    if not settings.uses_local_broker and not settings.uses_local_registry:
        output.say(f"using Kafka at {settings.brokers} and the schema registry at {settings.registry_url}")
        return None
    services = Services(settings)
    with output.progress() as bars:
        task = bars.add_task("jars of Kafka and the schema registry", total=None)
        services.start(
            on_file=lambda there, total, name: bars.update(
                task, completed=there, total=total, description=f"jar {name}"
            ),
            on_stage=lambda text: bars.update(task, description=text, total=None),
        )
    stack.callback(services.stop)
    if stop.is_set():
        raise KeyboardInterrupt
    return services


def _start_pages(stack: ExitStack, settings: Settings, output: Output) -> Supervisor:
    """Dagster and the portal."""
    supervisor = stack.enter_context(Supervisor())
    with output.progress() as bars:
        bars.add_task("starting Dagster and the portal", total=None)
        supervisor.start([*children(settings), child(settings)])
    for location, reason in load_errors(settings).items():
        output.say(f"the domain {location} did not load in Dagster: {reason}")
    return supervisor


def _apply(settings: Settings, output: Output) -> Platform:
    from mesh_pipelines.plan.apply import execute
    from mesh_pipelines.plan.draft import draft

    platform = Platform.open(settings)
    drafted = draft(platform, [*platform.proposed, *platform.broken])
    failed = execute(platform, drafted.actions)
    for error in [*(error for errors in drafted.refused.values() for error in errors), *failed.values()]:
        output.error(error)
    for text in drafted.notes:
        output.say(f"note: {text}")
    applied = len(platform.proposed) + len(platform.broken) - len(drafted.refused) - len(failed)
    output.say(f"{counted(applied, 'contract')} applied, {counted(len(drafted.actions), 'change')}")
    return platform


def _addresses(settings: Settings, output: Output, *, pages: bool) -> None:
    places = {"Kafka": settings.brokers, "schema registry": settings.registry_url}
    if pages:
        places |= {"Dagster": settings.dagster_address, "portal": settings.portal_address}
    for name, address in places.items():
        output.say(f"  {name:<16} {address}")


class _Crew:
    """All that runs beside this process: kept running, and what is wrong with it said and written down."""

    def __init__(self, settings: Settings, output: Output, services: Services | None, pages: Supervisor | None) -> None:
        self._home = settings.home
        self._output = output
        self._supervisors = [one for one in (services.supervisor if services else None, pages) if one]
        self._noted: dict[str, str] | None = None

    def tend(self) -> None:
        """Start again what has ended, and say so."""
        for supervisor in self._supervisors:
            for text in supervisor.tend():
                self._output.say(f"  {text}")
        self._note(self._troubles())

    def leave(self) -> int:
        """The exit code: 3 where something does not run, which is said."""
        troubles = self._troubles()
        for name, reason in troubles.items():
            self._output.error(ServiceFailed(f"{name} {reason}", next_step=f"read the logs in {self._home / 'logs'}"))
        self._note({})
        return ServiceFailed.exit_code if troubles else 0

    def _troubles(self) -> dict[str, str]:
        return {name: text for one in self._supervisors for name, text in one.troubles().items()}

    def _note(self, troubles: dict[str, str]) -> None:
        if troubles != self._noted:
            note(self._home, troubles)
            self._noted = troubles


def _replay(watcher: _Watcher, stop: threading.Event, *, until: date | None, speed: float | None) -> None:
    from mesh_pipelines.demo.replay import replay

    platform, output = watcher.platform, watcher.output
    output.say(f"replaying New York's flights of 2013{f' before {until}' if until else ''}")
    with output.progress() as bars:
        task = bars.add_task("events produced", total=None)

        def progress(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            watcher.look()

        replayed = replay(platform, until=until, speed=speed, on_progress=progress, stop=stop.is_set)
    produced = sum(replayed.produced.values())
    output.say(
        f"{counted(produced, 'event')} produced in {replayed.seconds:.1f} s, {sum(replayed.total.values()):,} in all"
    )


class _Domains:
    """Says a line for every domain that Dagster is told to load, load again or drop."""

    def __init__(self, settings: Settings, output: Output) -> None:
        self._locations = Locations(settings)
        self._output = output
        self._known = self._locations.loaded()

    def look(self) -> None:
        loaded = self._locations.loaded()
        for domain in sorted({*loaded, *self._known}):
            if domain not in self._known:
                self._output.say(f"  domain {domain} is new: Dagster loads it")
            elif domain not in loaded:
                self._output.say(f"  domain {domain} no longer has a contract: Dagster drops it")
            elif loaded[domain] != self._known[domain]:
                self._output.say(f"  domain {domain} has changed: Dagster loads it again")
        self._known = loaded


class _Watcher:
    """Says a line for every version that appears."""

    def __init__(self, platform: Platform, output: Output) -> None:
        self.platform = platform
        self.output = output
        self._known: dict[str, int] = {}
        self._looked = 0.0
        self._first = True

    def look(self) -> Mapping[str, Version]:
        """Look for new versions, at most once a second; gives the published ones."""
        if time.monotonic() - self._looked < _WATCH_S:
            return {}
        self._looked = time.monotonic()
        found: dict[str, Version] = {}
        for product in self.platform.in_order:
            versions = self.platform.tables_of(product).versions
            version = versions.published()
            if version is None:
                continue
            found[product.fqn] = version
            known = self._known.get(product.fqn, 0)
            skipped = [] if self._first or version.number <= known + 1 else versions.all()
            for new in [one for one in skipped if known < one.number < version.number]:
                self._say(new)
            if version.number != known:
                self._known[product.fqn] = version.number
                self._say(version)
        self._first = False
        return found

    def _say(self, version: Version) -> None:
        verdict = version.verdict
        rules = f"{counted(verdict.rules, 'rule')}, {verdict.warned} warned" if verdict else "no rules"
        verb = "has" if self._first else "published"
        self.output.say(f"  {verb} {version.product} version {version.number}: {counted(version.rows, 'row')}, {rules}")


def _await_all(platform: Platform, stop: threading.Event, watcher: _Watcher, check: Callable[[], None]) -> bool:
    """Wait until every product has published what was replayed; False where that did not come to be."""
    deadline = time.monotonic() + _PATIENCE_S
    while not stop.wait(_WATCH_S) and time.monotonic() < deadline:
        check()
        watcher.look()
        if _is_current(platform):
            watcher.look()
            return True
    return False


def _is_current(platform: Platform) -> bool:
    """Whether every product has published a version, and has what is there for it to take in."""
    from mesh_pipelines.lake.standing import standings

    if any(one.what for one in needs(platform, platform.in_order)):
        return False
    return all(standing.published for standing in standings(platform.tables, platform.in_order).values())


def _report(platform: Platform, output: Output, done: bool) -> int:
    records = [record(one) for one in status(platform)]
    output.records(records, STATUS_COLUMNS)
    if not done:
        error: MeshError = ServiceFailed(
            "not every product has published what was replayed",
            next_step=f"read the runs at Dagster's web UI, or the logs in {platform.settings.home / 'logs'}",
        )
        output.error(error)
        return error.exit_code
    output.say("every product has published what was replayed")
    return 0
