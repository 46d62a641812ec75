"""Storage that fails: a catalog that somebody holds, a disk that is full."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mesh_pipelines.errors import EnvironmentFault, StorageUnavailable
from mesh_pipelines.selftest.bench import Bench, Outcome, progress
from mesh_pipelines.selftest.subject import create
from mesh_pipelines.selftest.verify import Findings, compare
from mesh_pipelines.selftest.workers import Job

LOCKED_S = 60.0
_DISK_BYTES = 16 * 1024 * 1024


def locked(bench: Bench, rounds: int) -> Outcome:
    """Another process holds the catalog's file for a minute while the product runs."""
    subject = bench.subject("locked")
    found, moved, problems = Findings(), 0, list[str]()
    for at in range(rounds):
        subject.producer.send(100)
        before = progress(subject)
        with sqlite3.connect(
            bench.settings.catalog.reveal().removeprefix("sqlite:///"), isolation_level=None
        ) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            worker = bench.workers.start(Job(subject.settings, subject.product))
            time.sleep(LOCKED_S)
            if not worker.process.is_alive():
                problems.append(f"the worker did not survive (exit code {worker.process.exitcode})")
            holder.execute("ROLLBACK")
        holder.close()
        deadline = time.monotonic() + 60
        while progress(subject) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        moved += progress(subject) != before
        worker.kill()
        found += compare(subject)
        bench.on_round(at + 1, rounds)
    return Outcome("catalog locked 60 s", rounds, moved, found + bench.settle(subject), "; ".join(problems))


def full(bench: Bench, rounds: int) -> Outcome:
    """A disk that fills up in the middle of a write, at another byte each round."""
    found, hit, problems = Findings(), 0, list[str]()
    with _small_disk(bench.settings.home / "disk") as disk:
        settings = bench.settings.model_copy(update={"home": disk / "home"})
        subject = create(settings, "full", bench.rng)
        for at in range(rounds):
            subject.producer.send(100)
            _fill(disk, leave=bench.rng.randrange(0, 60_000))
            codes = bench.run(subject)
            hit += codes == [StorageUnavailable.code]
            if not set(codes) <= {"", StorageUnavailable.code}:
                problems.append(f"a run ended with {codes}")
            (disk / "ballast").unlink()
            problems += [] if bench.run(subject) == [""] else ["a run with room again did not succeed"]
            found += compare(subject, settled=True)
            bench.on_round(at + 1, rounds)
        found += bench.settle(subject)
    if not hit:
        problems.append("the disk was never full in a write")
    return Outcome("disk full", rounds, hit, found, "; ".join(problems))


def can_mount() -> bool:
    """Whether this process may make a small file system to fill."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def _small_disk(folder: Path) -> Generator[Path]:
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "selftest", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise EnvironmentFault(f"no small file system could be made: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path, *, leave: int) -> None:
    room = shutil.disk_usage(disk).free - leave
    with (disk / "ballast").open("wb") as ballast:
        for _ in range(max(0, room) // 4096):
            ballast.write(b"\0" * 4096)
