"""Servers on loopback that answer without end, too slowly, or with more than was asked for: the attempts, served."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.attacks.collected import attempts, by_class, written_out

_STOP_S = 60.0
Answer = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Said:
    """An answer as ``attacks/registry.yaml`` has it: how it begins, and what comes after that."""

    name: str
    begin: bytes
    after: str = ""
    what: bytes = b""

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, client: socket.socket) -> None:
        """Answer a client."""
        client.sendall(self.begin)
        match self.after:
            case "forever":
                while True:
                    client.sendall(self.what)
            case "drip":
                while True:
                    client.sendall(self.what)
                    time.sleep(0.1)
            case "gzip":
                body = _bomb(int(self.what))
                client.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            case "silent":
                time.sleep(_STOP_S)
            case _:
                pass

    @classmethod
    def of(cls, name: str, said: Any) -> Said:
        """The answer of an attempt."""
        if not isinstance(said, dict):
            return cls(name, on_the_wire(said))
        after = next((one for one in said if one != "begin"), "")
        return cls(name, on_the_wire(said["begin"]), after, on_the_wire(str(said.get(after, ""))))


def on_the_wire(text: str) -> bytes:
    return written_out(text).replace("\n", "\r\n").encode("utf-8", "surrogateescape")


@cache
def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b" " * 1_000_000) for _ in range(megabytes)), packer.flush()])


_BY_NAME = {
    one.name: Said.of(one.name, one.said)
    for one in by_class(attempts("registry.yaml"))["Answers without end, too slow or too large"]
}
# Those that any client is tried with; of the others each is a kind of one of them.
HOSTILE: tuple[Answer, ...] = tuple(_BY_NAME.values())[:10]
endless_body, packed = _BY_NAME["a body without end"], _BY_NAME["a body that is packed"]
cut_off = _BY_NAME["a body that is cut off"]


@contextmanager
def answering(answer: Answer, *, reads: bool = True) -> Generator[str]:
    """A server that answers every connection so, once it has been asked or at once; gives its address."""
    _bomb(200)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    client, _ = server.accept()
                    threading.Thread(target=handle, args=(client,), daemon=True).start()

        def handle(client: socket.socket) -> None:
            client.settimeout(_STOP_S)
            with client, suppress(OSError):
                if reads:
                    client.recv(65_536)
                answer(client)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
