"""Dagster's webserver behind the checks of ``front.py``, in one process and with limits on what clients hold.

Apart from that it is made as ``dagster-webserver`` does; who may only view gets Dagster's own read-only permissions.
"""

from __future__ import annotations

import sys

from dagster._core.instance import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver import __version__
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.requests import HTTPConnection

from mesh_pipelines.errors import MeshError
from mesh_pipelines.orchestration.front import ROLE, guarded
from mesh_pipelines.orchestration.locations import Locations
from mesh_pipelines.orchestration.roles import Role, check_reach
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.server import log_who_asks, server_of

_LEVEL = "WARNING"
# As the options of dagster-webserver have them.
_STATEMENT_TIMEOUT_MS = 15_000
_POOL_RECYCLE_S = 3600
_POOL_OVERFLOW = 20
_POLL_MS = 2000


class _Context(WorkspaceProcessContext):
    """Dagster's context, whose requests may do what the role of who asks allows."""

    def create_request_context(self, source: object | None = None) -> WorkspaceRequestContext:
        """The context of one request; one without a role may only read."""
        role = source.scope.get(ROLE, Role.VIEW) if isinstance(source, HTTPConnection) else Role.VIEW
        return WorkspaceRequestContext(
            instance=self.instance,
            current_workspace=self.get_current_workspace(),
            process_context=self,
            version=self.version,
            source=source,
            read_only=role < Role.LAUNCH,
        )


def main() -> None:
    """Serve until the process is asked to end."""
    settings = Settings.load()
    configure_loggers(handler="default", log_level=_LEVEL)
    log_who_asks()
    try:
        check_reach(settings)
    except MeshError as error:
        sys.exit(f"{error.code} {error}")
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _POOL_RECYCLE_S, _POOL_OVERFLOW)
        target = WorkspaceFileTarget([str(Locations(settings).workspace)])
        with _Context(instance, target, version=__version__, code_server_log_level=_LEVEL) as context:
            pages = create_app_from_workspace_process_context(context, "", _POLL_MS)
            server_of(guarded(pages, settings), settings.host, settings.dagster_port).run()


if __name__ == "__main__":
    main()
