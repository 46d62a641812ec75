"""Dagster's daemon, which also loads code locations again as soon as their contracts change.

Dagster's own reads its workspace every minute, and the webserver never does. Here both follow the assets folder and
what is applied: a new domain, a renamed product, an applied contract are there within seconds, in the web UI as in the
schedules. Apart from that it is started and runs as ``dagster-daemon run`` does.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, suppress

from dagster._core.instance import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.controller import (
    DagsterDaemonController,
    create_daemon_grpc_server_registry,
    create_daemons_from_instance,
)
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers
from dagster._utils.log import configure_loggers

from mesh_pipelines.confidential import hiding
from mesh_pipelines.errors import MeshError
from mesh_pipelines.local.private import keep_private
from mesh_pipelines.observe.unloaded import note_domains
from mesh_pipelines.orchestration.graphql import load_errors, reload, reload_all
from mesh_pipelines.orchestration.locations import Location, Locations
from mesh_pipelines.settings import Settings

_LEVEL = "WARNING"
_log = logging.getLogger("dagster.daemon")


class Follower:
    """Brings what Dagster has loaded to what there is: the daemon's own locations, and those of the webserver."""

    def __init__(self, settings: Settings, context: WorkspaceProcessContext) -> None:
        self._settings = settings
        self._context = context
        self._locations = Locations(settings)
        self._of_daemon = self._of_webserver = self._locations.loaded()

    def look(self) -> None:
        """Load again what has changed since it was loaded. What fails is logged, and tried again at the next look."""
        try:
            with hiding():
                self._follow(self._locations.now())
        except MeshError as error:
            _log.warning("code locations could not be reloaded: %s %s", error.code, error)
        except Exception:
            # Dagster's own, of code that it cannot load or reach. The daemon goes on with what it has.
            _log.exception("code locations could not be reloaded")
        # A webserver that does not answer is told by who runs it.
        with suppress(MeshError):
            note_domains(self._settings, load_errors(self._settings))

    def _follow(self, now: dict[str, Location]) -> None:
        if now != self._of_daemon:
            self._locations.write(now)
            for name in _changed(self._of_daemon, now):
                self._context.reload_code_location(name)
            if _listed(now) != _listed(self._of_daemon):
                self._context.refresh_workspace()
            self._of_daemon = now
        if now != self._of_webserver:
            if _listed(now) != _listed(self._of_webserver):
                reload_all(self._settings)
            else:
                reload(self._settings, _changed(self._of_webserver, now))
            self._of_webserver = now


def _listed(locations: dict[str, Location]) -> dict[str, str]:
    """What the workspace file says of locations."""
    return {domain: one.file for domain, one in locations.items()}


def _changed(before: dict[str, Location], now: dict[str, Location]) -> list[str]:
    """The domains whose location is still loaded from the same file, and is made of something else."""
    return sorted(
        domain
        for domain in before.keys() & now.keys()
        if before[domain] != now[domain] and before[domain].file == now[domain].file
    )


class FollowingDaemons(DagsterDaemonController):
    """Dagster's daemons; every few seconds, when it looks whether they are alive, it looks after the locations."""

    follower: Follower

    def check_workspace_freshness(self, last_workspace_update_time: float) -> float:
        """As Dagster's own, which restarts code servers every minute."""
        self.follower.look()
        return super().check_workspace_freshness(last_workspace_update_time)


def main() -> None:
    """Run until an interrupt."""
    setup_interrupt_handlers()
    settings = Settings.load()
    keep_private(settings)
    try:
        with capture_interrupts(), DagsterInstance.get() as instance:
            _run(settings, instance)
    except KeyboardInterrupt:
        return


def _run(settings: Settings, instance: DagsterInstance) -> None:
    with ExitStack() as stack:
        servers = stack.enter_context(create_daemon_grpc_server_registry(instance, _LEVEL))
        daemons = [stack.enter_context(daemon) for daemon in create_daemons_from_instance(instance)]
        target = WorkspaceFileTarget([str(Locations(settings).workspace)])
        context = stack.enter_context(WorkspaceProcessContext(instance, target, grpc_server_registry=servers))
        configure_loggers(handler="default", log_level=_LEVEL)
        following = stack.enter_context(FollowingDaemons(context, daemons, grpc_server_registry=servers))
        following.follower = Follower(settings, context)
        following.check_daemon_loop()


if __name__ == "__main__":
    main()
