"""What `mesh up` runs stays up: one child's end ends no other, a kill leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fastapi.testclient import TestClient

from mesh_pipelines.cli.output import Output
from mesh_pipelines.cli.stage import _Crew
from mesh_pipelines.errors import ServiceFailed
from mesh_pipelines.local import supervisor as module
from mesh_pipelines.local.services import Services
from mesh_pipelines.local.supervisor import Child, Supervisor
from mesh_pipelines.local.troubles import identity, is_alive, note, noted
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.portal.app import create_app
from mesh_pipelines.settings import Settings

FOREVER = "import time; time.sleep(600)"


def child(folder: Path, name: str, code: str = FOREVER) -> Child:
    return Child(name=name, argv=[sys.executable, "-c", code], log=folder / f"{name}.log", ready=lambda: True)


def until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of a second."""
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "_WELL_S", 0.2)


def test_one_that_is_killed_is_started_again_and_the_others_stay(tmp_path: Path, at_once: None) -> None:
    with Supervisor() as supervisor:
        supervisor.start([child(tmp_path, "one"), child(tmp_path, "two")])
        one, two = supervisor.pid("one"), supervisor.pid("two")
        os.kill(one, signal.SIGKILL)
        said: list[str] = []
        until(lambda: said.extend(supervisor.tend()) or supervisor.pid("one") != one)
        assert said[0].startswith("one ended with exit code -9; it is started again in 0 s (read ")
        assert said[1] == "one is started again"
        assert supervisor.pid("two") == two
        until(lambda: said.extend(supervisor.tend()) or said[-1] == "one runs again")
        assert supervisor.troubles() == {}


def test_what_keeps_failing_is_told_by_name_and_pauses_grow(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start([child(tmp_path, "one")])
        os.kill(supervisor.pid("one"), signal.SIGKILL)
        until(supervisor.tend)
        assert list(supervisor.troubles()) == ["one"]
        assert [module._FIRST_PAUSE_S * 2**number for number in range(3)] == [1.0, 2.0, 4.0]


def test_a_service_that_keeps_failing_is_in_healthz_and_in_the_exit_code(
    local_settings: Settings,
    tmp_path: Path,
    at_once: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WELL_S", 30)
    with Supervisor() as supervisor:
        supervisor.start([child(tmp_path, "the thing", "import time; time.sleep(0.3); raise SystemExit(3)")])
        crew = _Crew(local_settings, Output(), None, supervisor)

        def keeps_failing() -> bool:
            crew.tend()
            return "times" in supervisor.troubles().get("the thing", "")

        until(keeps_failing)
        assert "the thing ended with exit code 3" in capsys.readouterr().out
        app = create_app(local_settings, History.open(local_settings))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            found = client.get("/healthz")
            assert (found.status_code, found.text.split(",")[0]) == (503, "the thing ended with exit code 3")
            assert crew.leave() == 3
            assert "M407 the thing ended with exit code 3" in capsys.readouterr().err
            assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")


def test_a_crew_that_is_well_leaves_with_zero(local_settings: Settings, tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start([child(tmp_path, "one")])
        crew = _Crew(local_settings, Output(), None, supervisor)
        crew.tend()
        assert crew.leave() == 0


def test_the_last_words_of_one_who_was_killed_say_nothing(tmp_path: Path) -> None:
    note(tmp_path, {"one": "ended"})
    assert noted(tmp_path) == {"one": "ended"}
    text = (tmp_path / "troubles.json").read_text().replace(f"{os.getpid()} ", "1 ")
    (tmp_path / "troubles.json").write_text(text)
    assert noted(tmp_path) == {}
    (tmp_path / "troubles.json").write_text("torn")
    assert noted(tmp_path) == {}


_PARENT = """
import sys, threading, time
from pathlib import Path
from mesh_pipelines.local.supervisor import Child, Supervisor

code = (
    "import subprocess, sys, time;"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True);"
    "time.sleep(600)"
)
supervisor = Supervisor()
child = Child("child", [sys.executable, "-c", code], Path(sys.argv[1]), lambda: True)
# Started by a thread that ends before the process does.
thread = threading.Thread(target=supervisor.start, args=([child],))
thread.start()
thread.join()
print(supervisor.pid("child"), flush=True)
time.sleep(600)
"""


def test_a_kill_of_the_parent_leaves_nothing_of_children_and_of_theirs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(log)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until(lambda: log.exists() and log.read_text().strip())
    grandchild = int(log.read_text())
    # The thread that started it has ended: that is no end of the parent.
    time.sleep(0.5)
    assert not is_gone(pid)
    assert not is_gone(grandchild)
    reaper = [one for one in psutil.Process(parent.pid).children() if "reaper.py" in " ".join(one.cmdline())]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(timeout=10)
    until(lambda: is_gone(pid) and is_gone(grandchild), "something stayed behind")
    assert len(reaper) == 1
    until(lambda: is_gone(reaper[0].pid))


def test_a_stop_leaves_no_reaper(tmp_path: Path) -> None:
    supervisor = Supervisor()
    supervisor.start([child(tmp_path, "one")])
    assert supervisor._reaper
    pid = supervisor._reaper.pid
    supervisor.stop()
    assert is_gone(pid)


def test_a_stale_pid_file_of_another_process_does_not_block(local_settings: Settings) -> None:
    services = Services(local_settings)
    file = local_settings.home / "services" / "pid"
    file.parent.mkdir(parents=True)
    other = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        created = psutil.Process(other.pid).create_time()
        # Other programs under the number of one that ran the services once; written by this and by earlier releases.
        for stale in (f"{other.pid} {created - 1000}", str(other.pid), "no number", "", f"{2**22} 1.0"):
            file.write_text(stale)
            services._claim()
            assert file.read_text() == identity()
        file.write_text(f"{other.pid} {created}")
        with pytest.raises(ServiceFailed, match="already runs the services"):
            services._claim()
    finally:
        other.kill()
        other.wait()
    services._claim()


def test_a_process_is_known_by_number_and_start() -> None:
    assert is_alive(identity())
    assert not is_alive(f"{os.getpid()} 1.0")
    assert not is_alive("")
