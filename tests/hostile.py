"""Servers on loopback that answer without end, too slowly, or with more than was asked for."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache

_STOP_S = 60.0
Answer = Callable[[socket.socket], None]


def endless_body(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        client.sendall(b"1," * 500_000)


def endless_chunks(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10\r\n" + b" " * 16 + b"\r\n")


def endless_errors(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n")
    while True:
        client.sendall(b"x" * 1_000_000)


def endless_head(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X: " + b"x" * 1000 + b"\r\n")


def endless_continue(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def dripped_head(client: socket.socket) -> None:
    _drip(client, b"HTTP/1.1 200 OK\r\nX: ")


def dripped_body(client: socket.socket) -> None:
    _drip(client, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")


def packed(client: socket.socket) -> None:
    body = _bomb()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    client.sendall(head.encode() + b"\r\n\r\n" + body)


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b" " * 1_000_000) for _ in range(200)), packer.flush()])


def silent(client: socket.socket) -> None:
    time.sleep(_STOP_S)


def cut_off(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}")


HOSTILE: tuple[Answer, ...] = (
    *(endless_body, endless_chunks, endless_errors, endless_head, endless_continue, dripped_head, dripped_body),
    *(packed, silent, cut_off),
)


def _drip(client: socket.socket, begin: bytes) -> None:
    client.sendall(begin)
    while True:
        client.sendall(b"1")
        time.sleep(0.1)


@contextmanager
def answering(answer: Answer, *, reads: bool = True) -> Generator[str]:
    """A server that answers every connection so, once it has been asked or at once; gives its address."""
    _bomb()
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
