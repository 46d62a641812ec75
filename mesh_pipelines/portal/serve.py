"""The portal's process: the web server, the thread that keeps its landscape new, and the one that observes the mesh."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from mesh_pipelines.collector import spare_what_is_alive
from mesh_pipelines.errors import ServiceFailed
from mesh_pipelines.local.supervisor import answers
from mesh_pipelines.observe.observe import watch
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.platform import Platform
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.portal.landscape import Watcher
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.server import log_who_asks, server_of
from mesh_pipelines.web.sign_in import DevelopmentLink

_REFRESH_S = 2.0
_log = logging.getLogger(__name__)


def sign_in_link(settings: Settings) -> str | None:
    """A link that signs the development user in; None if there is no such user."""
    link = DevelopmentLink(settings)
    return f"{settings.portal_address}/sign-in?token={link.token()}" if link.allowed else None


def serve(settings: Settings, *, observe: bool = True, on_ready: Callable[[], None] | None = None) -> None:
    """Serve until the process is asked to end.

    Raises:
        ServiceFailed: something else listens at its port.
    """
    if answers(settings.host, settings.portal_port):
        raise ServiceFailed(
            f"another process listens at {settings.host}:{settings.portal_port}",
            next_step="set MESH_PORTAL_PORT to a free one, or stop that process",
        )
    log_who_asks()
    history = History.open(settings)
    app = create_app(settings, history)
    stop = threading.Event()
    threads = [threading.Thread(target=_refresh, args=(app.state.portal.watcher, stop), name="landscape", daemon=True)]
    if observe:
        threads.append(
            threading.Thread(
                target=watch,
                args=(lambda: Platform.open(settings), history, settings.observe_interval_s, stop),
                name="observer",
                daemon=True,
            )
        )
    server = server_of(app, settings.host, settings.portal_port)

    async def begin() -> None:
        # In a thread, as pages are made: what that needs is loaded then, and not by who asks first.
        await run_in_threadpool(app.state.portal.prepare)
        # What was read lives as long as the process; looking through it took a tenth of a second of the first request.
        gc.collect()
        spare_what_is_alive()
        for thread in threads:
            thread.start()
        if on_ready:
            on_ready()

    app.router.on_startup.append(begin)
    try:
        server.run()
    finally:
        stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join(5)
        history.close()


def _refresh(watcher: Watcher, stop: threading.Event) -> None:
    while not stop.wait(_REFRESH_S):
        try:
            watcher.refresh()
        except Exception:
            _log.exception("the landscape could not be read; the pages show the previous one")
