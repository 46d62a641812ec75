"""A schema registry on loopback with Confluent's API, as far as Apicurio's lacks it: GUIDs, deletions, READONLY.

Schemas are kept in memory. ``instead`` answers in place of the registry: a gateway, a sign-in page, a rate limit.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

# Method and path to status, headers and body; None for the registry's own answer.
Instead = Callable[[str, str], tuple[int, dict[str, str], bytes] | None]
_NOWHERE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@dataclass
class RegistryServer:
    """What the registry has, and what was asked of it."""

    url: str = ""
    instead: Instead | None = None
    read_only: bool = False
    prefix: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    subjects: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    deleted: set[int] = field(default_factory=set[int])
    asked: list[str] = field(default_factory=list[str])

    def add(self, subject: str, schema: dict[str, Any]) -> int:
        """Register a schema (``schema``, ``schemaType``, ``references``) and give its number."""
        body = {"schemaType": "AVRO", "references": [], **{key: schema[key] for key in schema if key in _KEPT}}
        number = next((known for known, one in self.schemas.items() if one == body), len(self.schemas) + 1)
        self.schemas[number] = body
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def guid(self, number: int) -> uuid.UUID:
        """The GUID of a schema, which its content makes."""
        return uuid.uuid5(_NOWHERE, json.dumps(self.schemas[number]))

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON of the registry's own answer."""
        match method, [unquote(part) for part in path.strip("/").split("/")]:
            case "GET", ["schemas", "ids", number]:
                return self._schema(int(number))
            case "GET", ["schemas", "guids", guid]:
                return self._schema(next((one for one in self.schemas if str(self.guid(one)) == guid), 0))
            case "GET", ["subjects", subject, "versions"]:
                versions = self.subjects.get(subject)
                return (200, list(range(1, len(versions) + 1))) if versions else (404, _error(40401))
            case "GET", ["subjects", subject, "versions", version]:
                return self._version(subject, version)
            case "POST", ["subjects", subject]:
                number = next((one for one in self.subjects.get(subject, ()) if self._is(one, body)), 0)
                return (200, self._registered(subject, number)) if number else (404, _error(40403))
            case "POST", ["subjects", _, "versions"] if self.read_only:
                return 422, {"error_code": 42205, "message": "Subject is in read-only mode"}
            case "POST", ["subjects", subject, "versions"]:
                return 200, self._registered(subject, self.add(subject, body))
            case "PUT", ["config", _] if self.read_only:
                return 422, {"error_code": 42205, "message": "Subject is in read-only mode"}
            case "GET", ["config", *_]:
                return 200, {"compatibilityLevel": "BACKWARD"}
            case "POST", ["compatibility", *_]:
                return 200, {"is_compatible": True}
            case _:
                return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _schema(self, number: int) -> tuple[int, Any]:
        if number not in self.schemas or number in self.deleted:
            return 404, _error(40403)
        return 200, {**self.schemas[number], "guid": str(self.guid(number))}

    def _version(self, subject: str, version: str) -> tuple[int, Any]:
        versions = self.subjects.get(subject)
        if not versions:
            return 404, _error(40401)
        place = len(versions) if version == "latest" else int(version)
        return (200, self._registered(subject, versions[place - 1])) if place <= len(versions) else (404, _error(40402))

    def _registered(self, subject: str, number: int) -> dict[str, Any]:
        version = self.subjects[subject].index(number) + 1
        return {
            "subject": subject,
            "version": version,
            "id": number,
            "guid": str(self.guid(number)),
            **self.schemas[number],
        }

    def _is(self, number: int, body: dict[str, Any]) -> bool:
        kept = self.schemas[number]
        same = json.loads(kept["schema"]) == json.loads(body["schema"])
        return same and kept["references"] == (body.get("references") or [])


_KEPT = ("schema", "schemaType", "references")


def _error(code: int) -> dict[str, Any]:
    return {"error_code": code, "message": "not found"}


@contextmanager
def registry_server(certificate: Path | None = None, prefix: str = "") -> Iterator[RegistryServer]:
    """A running registry; with a certificate (and its key, one file) over TLS."""
    registry = RegistryServer(prefix=prefix)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            path = urlsplit(self.path).path
            registry.asked.append(f"{self.command} {path}")
            found = registry.instead(self.command, path) if registry.instead else None
            if found is None and path.startswith(prefix):
                status, answer = registry.answer(self.command, path.removeprefix(prefix), body)
                found = status, {"content-type": "application/json"}, json.dumps(answer).encode()
            status, headers, content = found or (404, {"content-type": "text/html"}, b"<h1>no such page</h1>")
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    scheme = "https" if certificate else "http"
    registry.url = f"{scheme}://127.0.0.1:{server.server_port}{prefix}"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
