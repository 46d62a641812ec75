"""Which file of a product's folder is its contract: one of the names that such files have, whoever wrote them.

``contract.yaml`` is the mesh's own; ``*.odcs.yaml`` the standard's, ``datacontract.yaml`` that of the most used tool.
Whoever needs a product's contract file asks here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CONTRACT = "contract.yaml"
# What is looked for, in words.
LOOKED_FOR = "contract.yaml, datacontract.yaml or *.odcs.yaml"
_NAMES = ("contract", "datacontract", "data-contract", "data_contract")
_ENDINGS = (".yaml", ".yml")
_SAYS_SO = re.compile(rb"^(kind:\s*[\"']?DataContract\b|dataContractSpecification:)", re.MULTILINE)
# A contract says what it is in its first lines.
_HEAD = 64 * 1024


def is_contract(name: str) -> bool:
    """Whether a file of this name is a contract."""
    stem = next((name[: -len(end)].lower() for end in _ENDINGS if name.lower().endswith(end)), "")
    return stem in _NAMES or stem.endswith(".odcs")


def contract_files(folder: Path) -> list[Path]:
    """The contracts of a product's folder by their names: one, if all is well."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if is_contract(entry.name))


def contract_file(folder: Path) -> Path:
    """The contract of a product's folder; where there is none, the file that it should be."""
    return next(iter(contract_files(folder)), folder / CONTRACT)


def contract_under_other_name(folder: Path) -> Path | None:
    """A file that says it is a contract, where none has such a name."""
    entries = sorted(entry for entry in folder.iterdir() if entry.name.lower().endswith((*_ENDINGS, ".json")))
    return next((entry for entry in entries if entry.name == "contract.json" or _says_so(entry)), None)


def misplaced(assets: Path, *levels: int) -> Iterator[Path]:
    """Contracts so many levels below the assets folder; a product's is three below."""
    for pattern in ("/".join("*" * level) for level in levels):
        for file in sorted(assets.glob(pattern)):
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(assets).parts)
            if is_contract(file.name) and not hidden and file.is_file() and _says_so(file):
                yield file


def _says_so(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False
    try:
        with file.open("rb") as opened:
            return bool(_SAYS_SO.search(opened.read(_HEAD)))
    except OSError:
        return False
