"""What a brought contract still breaks, mended until it lints: marked as not checked, kept aside, or left out.

The reader of contracts says what is wrong and where, so that an import knows no second list of what a contract may say.
Each round mends what the reader found; a mark is tried before anything is taken away.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.build import Texts, build_product
from mesh_pipelines.contract.read.contract_file import CONTRACT
from mesh_pipelines.contract.read.document import Document, FaultyDocument, dotted, parse_document
from mesh_pipelines.contract.read.faults import NOT_CHECKED, mark_of
from mesh_pipelines.contract.read.standard import check
from mesh_pipelines.errors import Fault
from mesh_pipelines.plan.bind import Binder
from mesh_pipelines.plan.imports.bring import Brought, aside, custom
from mesh_pipelines.plan.imports.text import dump, plain
from mesh_pipelines.plan.lint import faults_of

# What a round leaves out may uncover something; four were the most that a public contract took.
_ROUNDS = 12
_STEP = re.compile(r"\[(\d+)\]|\.?([^.\[]+)")
_RULE = "rule "
_NEEDED = (("schema",), ("schema", 0), ("schema", 0, "properties"), ("customProperties",), ("team",))
_HAS_CUSTOM = ("properties", "quality", "slaProperties", "members", "support", "roles", "servers", "schema", "team")

Where = tuple[str | int, ...]


def repair(brought: Brought, folder: Path) -> tuple[Fault, ...]:
    """Mend a contract that is to lie in this folder; gives the faults that are left, none where it lints."""
    faults: tuple[Fault, ...] = ()
    for _ in range(_ROUNDS):
        document = parse_document(folder / CONTRACT, dump(brought.document))
        faults, product = _faults(folder, document)
        mender = _Mender(brought.document, document, product)
        # From the end, so that what is left out moves nothing that comes before it.
        mended = [mender.mend(fault) for fault in sorted(faults, key=_place, reverse=True)]
        for note in reversed(mender.notes):
            brought.note(note)
        if not any(mended):
            return faults
    return faults


def _faults(folder: Path, document: Document) -> tuple[tuple[Fault, ...], DataProduct | None]:
    try:
        product = build_product(folder, document, check(document), Texts())
    except FaultyDocument as error:
        return tuple(error.faults), None
    return tuple(faults_of(Binder({product.fqn: product}), product)), product


def _place(fault: Fault) -> list[tuple[int, str]]:
    return [(int(number), "") if number else (-1, name) for number, name in _STEP.findall(fault.field)]


class _Mender:
    """Mends the faults of one round; ``document`` is the contract as it was read for them."""

    def __init__(self, contract: Any, document: Document, product: DataProduct | None) -> None:
        self.notes: list[str] = []
        self._contract = contract
        self._document = document
        self._product = product

    def mend(self, fault: Fault) -> bool:
        """Whether something was changed for a fault."""
        if fault.field.startswith(_RULE):
            return self._mend_rule(fault, fault.field.removeprefix(_RULE))
        where = self._where(fault.field)
        if not where:
            return False
        if f"write {NOT_CHECKED}" in fault.fix:
            return self._mark(
                self._marked_entry(where), f"{self._called(where)}: {fault.problem}; marked {NOT_CHECKED}"
            )
        if (entry := self._rule_around(where)) is not None:
            return self._set_rule_aside(entry, fault)
        return self._change(where, fault)

    def _where(self, path: str) -> Where | None:
        """The path of a fault, as far as it leads through the contract."""
        value, where = self._contract, []
        for number, name in _STEP.findall(path):
            step = int(number) if number else name
            if value is None:
                return None
            where.append(step)
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                value = None
        return tuple(where)

    def _called(self, where: Where) -> str:
        """A path as a person finds it: by the names of properties."""
        parts: list[str] = []
        for length, step in enumerate(where, start=1):
            value = self._at(where[:length])
            if isinstance(step, str):
                parts += [step] if step not in ("schema", "properties") or length == len(where) else []
            elif length > 2 and isinstance(value, dict) and isinstance(value.get("name"), str):
                parts.append(value["name"])
            elif length > 2 or where[0] != "schema":
                parts.append(str(value.get("property") or step + 1) if isinstance(value, dict) else str(step + 1))
        return ".".join(parts) or dotted(where)

    def _at(self, where: Where) -> Any:
        value: Any = self._contract
        for step in where:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def _mark(self, entry: Any, note: str) -> bool:
        if not isinstance(entry, dict) or mark_of(entry):
            return False
        custom(entry, NOT_CHECKED, True)
        self.notes.append(note)
        return True

    def _marked_entry(self, where: Where) -> Any:
        """The rule, service level or top-level property that a promise is of, or else the schema object."""
        rule = self._rule_around(where)
        if rule is not None:
            return rule
        return (
            self._at(where[:2]) if where[0] == "slaProperties" else self._at(where[:4] if len(where) > 4 else where[:2])
        )

    def _rule_around(self, where: Where) -> Any:
        """The rule that a path leads into, where it is one that is read: of the object or of a top-level property."""
        for at in (2, 4):
            if len(where) > at + 1 and where[at] == "quality":
                return self._at(where[: at + 2])
        return None

    def _mend_rule(self, fault: Fault, identity: str) -> bool:
        """A rule that was read, and that no engine here can run."""
        rule = next((one for one in self._product.rules if one.id == identity), None) if self._product else None
        if rule is None:
            return False
        places = [where for where, line in self._document.lines.items() if line == rule.line]
        written = next((entry for where in places if (entry := self._rule_around((*where, ""))) is not None), None)
        if written is not None:
            return self._mark(written, f"rule {identity}: {fault.problem}; marked {NOT_CHECKED}")
        for entry in self._contract["schema"][0]["properties"]:
            options = entry.get("logicalTypeOptions")
            if entry.get("name") in rule.fields and isinstance(options, dict) and rule.check in options:
                custom(entry, rule.check, options.pop(rule.check))
                self.notes.append(f"rule {identity}: {fault.problem}; kept in customProperties")
                return True
        return False

    def _set_rule_aside(self, entry: Any, fault: Fault) -> bool:
        """A rule that cannot be read: as one of another engine, which is what it is here."""
        if mark_of(entry) and entry.get("type") == "custom":
            return False
        kept = {key: entry.pop(key) for key in list(entry) if key not in ("name", "description", "customProperties")}
        engine = str(kept.get("engine") or kept.get("metric") or kept.get("rule") or kept.get("type") or "unknown")
        implementation = plain({key: value for key, value in kept.items() if value is not None})
        entry.update(plain({"type": "custom", "engine": engine}))
        entry["implementation"] = implementation
        for key in ("name", "description"):
            if not isinstance(entry.get(key, ""), str):
                del entry[key]
        if not isinstance(entry.get("customProperties", []), list):
            del entry["customProperties"]
        if not mark_of(entry):
            custom(entry, NOT_CHECKED, True)
        self.notes.append(f"{fault.field}: {fault.problem}; marked {NOT_CHECKED}")
        return True

    def _change(self, where: Where, fault: Fault) -> bool:
        around, key = self._at(where[:-1]), where[-1]
        value = self._at(where)
        if value is None and not (isinstance(around, dict) and key in around):
            return self._leave_out(where[:-1], fault)
        if value is None or value in ("", {}, []):
            del around[key]
            return True
        if "must be text" in fault.problem and isinstance(value, bool | int | float):
            around[key] = plain(str(value).lower() if isinstance(value, bool) else str(value))
            return True
        return self._leave_out(where, fault)

    def _leave_out(self, where: Where, fault: Fault) -> bool:
        """Take a part out, and keep it among the custom properties of what it says something of."""
        if not where or where in _NEEDED:
            return False
        around, key = self._at(where[:-1]), where[-1]
        if around is None or (isinstance(around, dict) and key not in around):
            return False
        value, called = around[key], self._called(where)
        entry = self._entry_around(where)
        if isinstance(key, str) and isinstance(entry, dict) and "customProperties" not in where:
            if entry is around:
                aside(entry, key)
            else:
                del around[key]
                custom(entry, key, value)
            self.notes.append(f"{called}: {fault.problem}; kept in customProperties")
        else:
            del around[key]
            self.notes.append(f"{called}: {fault.problem}; left out")
        return True

    def _entry_around(self, where: Where) -> Any:
        """The innermost part around a path that has custom properties by the standard."""
        for length in range(len(where) - 1, 0, -1):
            if isinstance(where[length - 1], int) and length > 1 and where[length - 2] in _HAS_CUSTOM:
                return self._at(where[:length])
        return self._contract
