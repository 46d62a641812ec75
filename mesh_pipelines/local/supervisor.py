"""Child processes with a name, a log and a readiness probe: started together, watched, and none left behind.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches only the parent, which then stops the
children in reverse order, and so that a stop reaches what a child has started itself. One that ends by itself is
started again, after a pause that doubles. Of a parent that was killed outright nothing stays behind: on Linux a child
dies with it, and a process that waits for its end (``reaper.py``) kills what children have started.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mesh_pipelines.errors import PortTaken, ServiceFailed

_PR_SET_PDEATHSIG = 1
# Ctrl-C is promised to end everything within ten seconds: most for going quietly, the rest for making sure.
_QUIET_S = 7.0
_POLL_S = 0.1
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# What has run for so long after it was started again is well.
_WELL_S = 30.0
# It ended so often without having been well in between: it keeps failing.
_OFTEN = 3


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


@dataclass
class _Trouble:
    """A child that has ended by itself: how often, why, and when it is started again, or was."""

    times: int
    reason: str
    again_at: float | None
    started_at: float = 0.0


class Supervisor:
    """Runs children and stops them. Use as a context manager, or call ``stop``."""

    def __init__(self) -> None:
        self._running: list[tuple[Child, subprocess.Popen[bytes]]] = []
        self._troubles: dict[str, _Trouble] = {}
        self._reaper: subprocess.Popen[bytes] | None = None

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
                self._running.append((child, self._spawn(child)))
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

    def tend(self) -> list[str]:
        """Start again what has ended by itself, after a pause that doubles; gives what there is to say about it."""
        said: list[str] = []
        for place, (child, process) in enumerate(self._running):
            trouble = self._troubles.get(child.name)
            now = time.monotonic()
            if process.poll() is not None:
                if trouble is None or trouble.again_at is None:
                    said.append(self._ended(child, process, trouble))
                elif now >= trouble.again_at:
                    self._running[place] = (child, self._spawn(child))
                    trouble.again_at, trouble.started_at = None, now
                    said.append(f"{child.name} is started again")
            elif trouble:
                said += self._again(child, process, trouble)
        return said

    def troubles(self) -> dict[str, str]:
        """Children that do not run, or keep failing, by name; and why."""
        return {
            name: f"{one.reason}, {one.times} times" if one.times > 1 else one.reason
            for name, one in self._troubles.items()
            if one.again_at is not None or one.times >= _OFTEN
        }

    def _ended(self, child: Child, process: subprocess.Popen[bytes], before: _Trouble | None) -> str:
        """Note that a child has ended; what it has started is killed, since it holds what the next one needs."""
        _signal_group(process.pid, signal.SIGKILL)
        self._tell_reaper(f"-{process.pid}")
        times = before.times + 1 if before else 1
        pause = min(_FIRST_PAUSE_S * 2 ** min(times - 1, 20), _LONGEST_PAUSE_S)
        reason = f"ended with exit code {process.returncode}"
        self._troubles[child.name] = _Trouble(times, reason, time.monotonic() + pause)
        often = f" for the {times}th time" if times >= _OFTEN else ""
        return f"{child.name} {reason}{often}; it is started again in {pause:.0f} s ({_look(child)})"

    def _again(self, child: Child, process: subprocess.Popen[bytes], trouble: _Trouble) -> list[str]:
        """What there is to say of a child that was started again."""
        since = time.monotonic() - trouble.started_at
        if since > _WELL_S and child.ready():
            del self._troubles[child.name]
            return [f"{child.name} runs again"]
        if since > child.ready_s and not child.ready():
            # It is noticed as any other end.
            _signal_group(process.pid, signal.SIGKILL)
        return []

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        process = _SPAWNER.submit(_spawn, child).result()
        self._tell_reaper(f"+{process.pid}")
        return process

    def _tell_reaper(self, word: str) -> None:
        if self._reaper is None:
            argv = [sys.executable, "-S", "-I", str(Path(__file__).with_name("reaper.py"))]
            self._reaper = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        assert self._reaper.stdin is not None
        with suppress(BrokenPipeError):
            self._reaper.stdin.write(f"{word}\n".encode())
            self._reaper.stdin.flush()

    def _dismiss_reaper(self) -> None:
        if self._reaper and self._reaper.stdin:
            self._tell_reaper("end")
            self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None

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
        self._troubles.pop(name, None)
        self.start([child])

    def pid(self, name: str) -> int:
        """The process id of a child."""
        [pid] = [process.pid for child, process in self._running if child.name == name]
        return pid

    def stop(self) -> None:
        """End all children, newest first; what does not go quietly is killed. All are gone when this returns."""
        running, self._running = self._running, []
        self._troubles.clear()
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
        self._dismiss_reaper()

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
            preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
        )


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does first: ask to be killed when the thread that forked it ends."""
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


# The kernel's death signal follows the thread that forked, not the process: this one lives as long as the process.
_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="spawner")


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
