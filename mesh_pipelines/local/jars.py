"""The jars of the local services: which they are, to the checksum, and fetching them.

``jars.lock`` names every file by its Maven coordinates, SHA-256 and size, so what runs is what was tried, nothing is
resolved at a user's machine, and a download takes no more bytes than the file has, and no more time than a slow line
needs for them. jgo knows where files lie, in pure Python: no Maven, no Java, no compiler. Its own downloads were ruled
out, since they end neither by size nor by time. Files are kept in one cache for all home folders; one whose checksum is
wrong is fetched again.

``python -m mesh_pipelines.local.jars`` resolves the roots again and writes the lock.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from httpx2 import HTTPError

from mesh_pipelines.bounded_http import Bounds, certificates, download
from mesh_pipelines.errors import DownloadFailed

# The newest Apache Kafka, and the newest Apicurio Registry, whose Confluent-compatible API is what clients speak to.
KAFKA = ("org.apache.kafka", "kafka_2.13", "4.4.0")
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")
_LOCK = "jars.lock"
_DOWNLOADS = 6
_TIMEOUT_S = 60
# Bytes a second of the slowest line that is waited for: a tenth of ten megabits.
_SLOWEST = 125_000

OnFile = Callable[[int, int, str], None]


@dataclass(frozen=True, order=True)
class Jar:
    """One file of the lock: which service needs it, its Maven coordinates, its SHA-256, and its size in bytes."""

    service: str
    group: str
    artifact: str
    version: str
    packaging: str
    classifier: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return ":".join((self.group, self.artifact, self.version, self.packaging, self.classifier))


def locked() -> tuple[Jar, ...]:
    """The files of the lock, in its order."""
    text = resources.files("mesh_pipelines.local").joinpath(_LOCK).read_text(encoding="utf-8")
    return tuple(_jar(*line.split()) for line in text.splitlines() if line and not line.startswith("#"))


def _jar(service: str, coordinates: str, sha256: str, size: str) -> Jar:
    group, artifact, version, packaging, classifier = coordinates.split(":")
    return Jar(service, group, artifact, version, packaging, classifier, sha256, int(size))


def fetch(cache: Path, on_file: OnFile | None = None) -> dict[Jar, Path]:
    """Every locked file under ``cache``, fetched where it is missing or damaged.

    ``on_file`` is called with (files there, files in all, name) after each one.

    Raises:
        DownloadFailed: a file cannot be fetched, or is not what the lock says.
    """
    jars = locked()
    found: dict[Jar, Path] = {}
    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        futures = {pool.submit(_fetch_one, cache, jar): jar for jar in jars}
        for done in as_completed(futures):
            jar = futures[done]
            found[jar] = done.result()
            if on_file:
                on_file(len(found), len(jars), jar.artifact)
    return found


def unpack(archive: Path, folder: Path) -> Path:
    """The content of a ``tar.gz``, unpacked once into a folder of its own beside others; gives that folder."""
    target = folder / archive.name.removesuffix(".tar.gz")
    if not target.exists():
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        with tarfile.open(archive) as opened:
            opened.extractall(aside, filter="data")
        aside.replace(target)
    return target


def _fetch_one(cache: Path, jar: Jar) -> Path:
    """One file, checked; a marker beside it says that it was, so that a start does not read 200 MB."""
    artifact = (
        _context(cache).project(jar.group, jar.artifact).at_version(jar.version).artifact(jar.classifier, jar.packaging)
    )
    path: Path = artifact.cached_path
    marker = path.with_name(f"{path.name}.sha256")
    if path.exists() and marker.exists() and marker.read_text() == _stamp(path, jar.sha256):
        return path
    for attempt in ("kept", "fetched"):
        if attempt == "fetched" or not path.exists():
            _download(artifact, path, jar)
        if _sha256(path) == jar.sha256:
            marker.write_text(_stamp(path, jar.sha256))
            return path
        path.unlink()
    raise DownloadFailed(
        f"{jar} was fetched, but its checksum is not the one in the lock", next_step="check the network's proxies"
    )


def _download(artifact: Any, path: Path, jar: Jar) -> None:
    [repository] = artifact.context.remote_repos.values()
    url = f"{repository}/{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            _save(url, file, Bounds(_TIMEOUT_S + jar.size / _SLOWEST, jar.size))
        aside.replace(path)
    except (OSError, HTTPError) as error:
        raise DownloadFailed(
            f"{jar} cannot be fetched: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            next_step="check the network and run it again; what was fetched is kept",
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _save(url: str, file: BinaryIO, bounds: Bounds) -> None:
    """Download by the proxy and the certificates that the environment names."""
    from requests import Session
    from requests.utils import select_proxy

    said = Session().merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
    trusted = certificates(said["verify"])
    download(url, file, bounds, certificates=trusted, proxy=select_proxy(url, said["proxies"]))


def _stamp(path: Path, sha256: str) -> str:
    """What changes with the file. Its size and time of writing can be set back, the time of its last change cannot."""
    status = path.stat()
    return f"{sha256} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _context(cache: Path, **options: Any) -> Any:
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=cache, timeout=_TIMEOUT_S, **options)


def resolve(cache: Path) -> tuple[Jar, ...]:
    """Resolve the roots to every file they need at run time, with the checksums of what was fetched."""
    context = _context(cache)
    inputs, transitive = context.resolver.resolve([context.create_dependency(":".join(KAFKA))])
    wanted = [("kafka", one.artifact) for one in [*inputs, *transitive] if one.scope not in ("test", "provided")]
    wanted.append(("registry", context.project(*REGISTRY[:2]).at_version(REGISTRY[2]).artifact("all", "tar.gz")))
    return tuple(sorted(_locked(service, artifact) for service, artifact in wanted))


def _locked(service: str, artifact: Any) -> Jar:
    path: Path = artifact.resolve()
    return Jar(
        service,
        artifact.groupId,
        artifact.artifactId,
        artifact.version,
        artifact.packaging,
        artifact.classifier,
        _sha256(path),
        path.stat().st_size,
    )


def write_lock(jars: Iterable[Jar], path: Path) -> None:
    """Write the lock file."""
    coordinates = "group:artifact:version:packaging:classifier"
    head = f"# service {coordinates} sha256 bytes; written by python -m mesh_pipelines.local.jars"
    lines = (f"{jar.service} {jar} {jar.sha256} {jar.size}" for jar in jars)
    path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    from mesh_pipelines.settings import Settings

    write_lock(resolve(Settings.load().cache), Path(__file__).with_name(_LOCK))
