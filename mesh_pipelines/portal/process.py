"""The portal as a child of a supervisor."""

from __future__ import annotations

import sys

from mesh_pipelines.local.supervisor import Child, answers
from mesh_pipelines.orchestration.instance import environment_of
from mesh_pipelines.settings import Settings


def child(settings: Settings) -> Child:
    """``mesh portal`` for these settings."""
    return Child(
        name="the portal",
        argv=[sys.executable, "-m", "mesh_pipelines", "portal"],
        log=settings.home / "logs" / "portal.log",
        env=environment_of(settings),
        ready=lambda: answers(settings.host, settings.portal_port),
        ports={"MESH_PORTAL_PORT": (settings.host, settings.portal_port)},
    )
