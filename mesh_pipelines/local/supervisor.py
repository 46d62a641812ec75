"""Child processes with a name, a log and a readiness probe: started together, watched, and none left behind.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches only the parent, which then stops the
children in reverse order, and so that a stop reaches what a child has started itself. On Linux a child also dies with
a parent that was killed outright.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mesh_pipelines.errors import PortTaken, ServiceFailed

_PR_SET_PDEATHSIG = 1
# Ctrl-C is promised to end everything within ten seconds: most for going quietly, the rest for making sure.
_QUIET_S = 7.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Child:
    """A process to run: ``ready`` is asked until it is true, for at most ``ready_s`` seconds."""

    name: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    ready_s: float = 90.0


class Supervisor:
    """Runs children and stops them. Use as a context manager, or call ``stop``."""

    def __init__(self) -> None:
        self._running: list[tuple[Child, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, children: Sequence[Child]) -> None:
        """Start children side by side and wait until all are ready; if one fails, all are stopped.

        Raises:
            PortTaken: a port that a child needs is in use.
            ServiceFailed: a child ended, or was not ready in time; the message has the end of its log.
        """
        for child in children:
            for setting, (host, port) in child.ports.items():
                check_port(host, port, setting, child.name)
        try:
            for child in children:
                self._running.append((child, _spawn(child)))
            self._await(children)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Check that every child is alive.

        Raises:
            ServiceFailed: one has ended.
        """
        for child, process in self._running:
            code = process.poll()
            if code is not None:
                raise ServiceFailed(
                    f"{child.name} ended with exit code {code}\n{_tail(child.log)}", next_step=_look(child)
                )

    def kill(self, name: str) -> None:
        """Kill one child outright, with all that it has started, and wait until it is gone."""
        [process] = [process for child, process in self._running if child.name == name]
        family = _family(process.pid)
        _signal_group(process.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=_QUIET_S)
        process.wait()

    def restart(self, name: str) -> None:
        """Start a child that has ended again, and wait until it is ready.

        Raises:
            PortTaken, ServiceFailed: as ``start``.
        """
        [child] = [child for child, process in self._running if child.name == name and process.poll() is not None]
        self._running = [(one, process) for one, process in self._running if one is not child]
        self.start([child])

    def pid(self, name: str) -> int:
        """The process id of a child."""
        [pid] = [process.pid for child, process in self._running if child.name == name]
        return pid

    def stop(self) -> None:
        """End all children, newest first; what does not go quietly is killed. All are gone when this returns."""
        running, self._running = self._running, []
        family = {process.pid: _family(process.pid) for _, process in running}
        for _, process in reversed(running):
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _QUIET_S
        for _, process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for _, process in running:
            _signal_group(process.pid, signal.SIGKILL)
            for member in family[process.pid]:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()
        psutil.wait_procs([member for members in family.values() for member in members], timeout=_QUIET_S)

    def _await(self, children: Sequence[Child]) -> None:
        waiting = {child.name: (child, time.monotonic() + child.ready_s) for child in children}
        while waiting:
            self.check()
            for name, (child, deadline) in list(waiting.items()):
                if child.ready():
                    del waiting[name]
                elif time.monotonic() > deadline:
                    raise ServiceFailed(
                        f"{name} was not ready after {child.ready_s:.0f} s\n{_tail(child.log)}", next_step=_look(child)
                    )
            time.sleep(_POLL_S)


def check_port(host: str, port: int, setting: str, name: str) -> None:
    """Check that a port is free to listen on.

    Raises:
        PortTaken: it is not; the message names who has it, where that can be known.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"{name} needs port {port}, which is in use{_holder(port)}",
                next_step=f"stop that process, or set {setting}",
            ) from error


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, below those that the system gives to clients."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def answers(host: str, port: int) -> bool:
    """Whether something listens on a port."""
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def _holder(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def _spawn(child: Child) -> subprocess.Popen[bytes]:
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with child.log.open("ab") as log:
        return subprocess.Popen(
            list(child.argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.env},
            cwd=child.cwd,
            start_new_session=True,
            close_fds=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _tail(log: Path, lines: int = 12) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])


def _look(child: Child) -> str:
    return f"read {child.log}"
