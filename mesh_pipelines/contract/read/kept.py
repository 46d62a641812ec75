"""Sound products kept from one process to the next, so that a contract is read and checked once for as it stands.

Every command and every run of a scheduler loads the whole mesh: three seconds for a thousand products, most of them as
they were a moment ago. What is kept is found by a hash of all it was made from: the bytes of the product's files, the
folder, and the code that reads them. So it is never out of date, only there or not; contracts with faults are not kept.
JSON in the model's types was chosen over a pickle, which runs what it holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.document import MAX_BYTES
from mesh_pipelines.contract.read.plain_file import NotPlain, read_plain

_READERS = ("fastavro", "jsonschema", "msgspec", "open-data-contract-standard", "PyYAML", "sqlglot")


class Kept:
    """The products of one file; without a file, or in a folder that does not exist, nothing is kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file if file and file.parent.is_dir() else None
        self._before = _read(self._file) if self._file else {}
        self._now: dict[str, DataProduct] = {}

    def product(self, folder: Path, names: Sequence[str], load: Callable[[Path], DataProduct]) -> DataProduct:
        """The product of a folder, made of the files of these names: kept from before, or loaded."""
        key = _key(folder, names) if self._file else None
        if key is None:
            return load(folder)
        product = self._before.get(key) or load(folder)
        # A file that changed while it was loaded makes another product than that of the key.
        if key in self._before or (_is_exact(product) and _key(folder, names) == key):
            self._now[key] = product
        return product

    def save(self) -> None:
        """Keep the products asked for, if they have changed."""
        if self._file is None or self._now.keys() == self._before.keys():
            return
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            aside.write_bytes(_encoder.encode(self._now))
            os.replace(aside, self._file)
        except OSError:
            # A home that cannot be written to is a matter of the steps that need to.
            aside.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, DataProduct]:
    try:
        return _decoder().decode(file.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return {}


def _key(folder: Path, names: Iterable[str]) -> str | None:
    """A hash of what the product of a folder is made of; None if that is not regular files of a sensible size."""
    hashed = hashlib.sha256(os.fsencode(f"{_code()}{folder}"))
    for name in names:
        try:
            content = read_plain(folder / name, MAX_BYTES)
        except FileNotFoundError:
            continue
        except (NotPlain, OSError):
            return None
        if len(content) > MAX_BYTES:
            return None
        hashed.update(f"\n{name} {len(content)}\n".encode())
        hashed.update(content)
    return hashed.hexdigest()


@cache
def _code() -> str:
    """A hash of the code that reads contracts, and the versions of what it reads them with."""
    hashed = hashlib.sha256(" ".join(metadata.version(name) for name in _READERS).encode())
    package = Path(__file__).parents[2]
    for folder in ("contract", "formats"):
        for file in sorted((package / folder).rglob("*.py")):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()


def _is_exact(product: DataProduct) -> bool:
    """Whether a product comes back as it was, to the kind of each number."""
    try:
        text = _encoder.encode({"": product})
        again = _decoder().decode(text)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, NotImplementedError):
        return False
    return again[""] == product and _encoder.encode(again) == text


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a {type(value).__name__} in a product")


def _path(kind: type, value: Any) -> Any:
    return kind(value)


_encoder = msgspec.json.Encoder(enc_hook=_plain)


@cache
def _decoder() -> msgspec.json.Decoder[dict[str, DataProduct]]:
    return msgspec.json.Decoder(dict[str, DataProduct], dec_hook=_path)
