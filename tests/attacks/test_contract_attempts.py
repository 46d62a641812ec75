"""Contracts that are meant to harm: each is refused with words that help, or taken and shown as the text that it is."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mesh_pipelines.errors import Fault
from mesh_pipelines.orchestration.definitions import domain_definitions
from mesh_pipelines.plan.lint import Linted, lint
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.attacks.collected import Attempt, attempts, by_class, written_out
from tests.building import contract_text, write_contract
from tests.portal.serving import mesh_of
from tests.portal.test_injection import Harmless

ATTEMPTS = attempts("contracts.yaml")
CLASSES = by_class(ATTEMPTS)
SECRET = "the-secret-nobody-may-read"
# Seconds of CPU, of this process and of its workers.
MOST_S = 5.0
LONGEST = 4000
PLACES = {
    "name": "p",
    "domain": "hostile",
    "owner": "ann@example.com",
    "description": "A product of a test.",
    "field": "b",
    "type": "string",
    "alignment": "source-aligned",
    "top": "",
    "settings": "",
    "fields": "",
    "rules": "- {metric: rowCount, mustBeGreaterThan: 0}",
}
SOUND = """\
apiVersion: v3.1.0
kind: DataContract
id: hostile.p
name: «name»
domain: «domain»
version: "1.0.0"
status: active
description:
  purpose: «description»
team: {members: [{username: «owner», role: owner}]}
«top»
customProperties:
  - {property: mesh.alignment, value: «alignment»}
  - {property: mesh.eventType, value: state}
  «settings»
schema:
  - name: p
    quality:
      «rules»
    properties:
      - {name: id, logicalType: string, primaryKey: true}
      «fields»
      - name: «field»
        logicalType: «type»
"""
DERIVED = "\n  - {property: mesh.inputs, value: [shop.orders]}"


def sound(**others: str) -> str:
    text = SOUND
    for place, words in {**PLACES, **others}.items():
        text = text.replace(f"«{place}»", words)
    return text


@dataclass(frozen=True)
class Tried:
    """What became of an attempt in the mesh that it was written into."""

    attempt: Attempt
    seconds: float
    faults: tuple[Fault, ...]
    written: set[str]

    @property
    def wrong(self) -> str:
        """What is not right, or nothing."""
        right, says = self.attempt.stated["right"], self.attempt.stated.get("says", "")
        texts = [str(fault) for fault in self.faults]
        if self.seconds > MOST_S:
            return f"it took {self.seconds:.1f} s of CPU"
        if self.written:
            return f"it wrote {sorted(self.written)}"
        if any(not fault.problem or not fault.fix for fault in self.faults):
            return f"a fault says too little: {texts}"
        if any(not text.isprintable() or len(text) > LONGEST for text in texts):
            return f"a fault is not one short line: {texts}"
        if any("Traceback" in text or SECRET in text or "root:" in text for text in texts):
            return f"a fault says too much: {texts}"
        if right == "refused" and not (texts and any(says in text for text in texts)):
            return f"it is not refused with {says!r}: {texts}"
        return f"it is refused: {texts}" if right == "taken" and texts else ""


class Mesh:
    """An assets folder with a sound product beside the one that is tried, and a home folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.assets, self.home, self.out, self.secret = (root / one for one in ("assets", "home", "out", "secret"))
        self.home.mkdir()
        self.secret.write_text(SECRET)
        write_contract(self.assets, contract_text("shop.orders"))

    def files(self) -> set[str]:
        """What is there beside the home folder."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if self.home not in path.parents and path != self.home
        }

    def place(self, attempt: Attempt) -> None:
        """Write the files of an attempt."""
        folder, place, said = self.assets / "hostile/p", attempt.stated["place"], written_out(str(attempt.said))
        if place in ("folder", "domain"):
            folder = self.assets.joinpath(*(("hostile", said) if place == "folder" else (said, "p")))
        folder.mkdir(parents=True, exist_ok=True)
        said = said.replace("{out}", str(self.out)).replace("{secret}", str(self.secret))
        contract = sound() if place not in PLACES else sound(**{place: said})
        if place == "folder":
            contract = sound(name=json.dumps(said))
        if place == "transform.sql":
            contract = sound(alignment="aggregate-aligned", settings=DERIVED.strip())
        if place == "other":
            (folder / said).write_text(contract)
            return
        put(folder / "contract.yaml", contract)
        if place == "link":
            self.link(folder, said)
        elif place not in (*PLACES, "folder"):
            put(folder / place, said.replace("{sound}", sound()))

    def link(self, folder: Path, said: str) -> None:
        """Put something in the place of a file."""
        name, sign, target = said.split()
        (folder / name).unlink(missing_ok=True)
        if sign == "->":
            (folder / name).symlink_to(target)
        elif target == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).mkdir()

    def tried(self, attempt: Attempt) -> Tried:
        """Lint with an attempt in place."""
        self.place(attempt)
        before, began = self.files(), cpu()
        found = self.linted()
        took = cpu() - began
        assert len(found) == 2, [one.product for one in found]
        [theirs] = [one for one in found if one.product != "shop.orders"]
        [ours] = [one for one in found if one.product == "shop.orders"]
        assert ours.faults == (), ours
        return Tried(attempt, took, theirs.faults, self.files() - before)

    def linted(self) -> list[Linted]:
        return lint(Platform.open(Settings(home=self.home, assets=self.assets)))


def put(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))


def cpu() -> float:
    """Seconds of CPU that this process and its children took, living or not."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    living = [one.cpu_times() for one in psutil.Process().children()]
    return sum(one.ru_utime + one.ru_stime for one in used) + sum(one.user + one.system for one in living)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported once is imported before."""
    assert not any(one.faults for one in Mesh(tmp_path_factory.mktemp("warm")).linted())


@pytest.mark.parametrize("kind", CLASSES)
def test_a_hostile_contract_is_refused_with_words_that_help_or_is_harmless(kind: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    for number, attempt in enumerate(CLASSES[kind]):
        (root := tmp_path / str(number)).mkdir()
        try:
            found = Mesh(root).tried(attempt).wrong
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found:
            wrong.append(f"{attempt}: {found}")
    assert wrong == []


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """All that is taken, as products of one domain beside each other."""
    root = tmp_path_factory.mktemp("taken")
    mesh = Mesh(root)
    for number, attempt in enumerate(one for one in ATTEMPTS if one.stated["right"] != "refused"):
        said = written_out(str(attempt.said)).replace("{out}", "out")
        text = sound(**{attempt.stated["place"]: said}, name=f"p{number}")
        put_in = mesh.assets / "hostile" / f"p{number}"
        put_in.mkdir(parents=True)
        put(put_in / "contract.yaml", text)
    return Settings(home=mesh.home, assets=mesh.assets)


def test_what_is_taken_is_shown_as_text(taken: Settings) -> None:
    wrong: list[str] = []
    with mesh_of(taken, days=1) as mesh:
        client = mesh.client()
        shown = [name for name, one in mesh.products.items() if one.product]
        assert len(shown) > 50
        for name in shown:
            for page in ("", "/schema", "/contract"):
                answer = client.get(f"/products/{name.replace('.', '/')}{page}")
                try:
                    assert answer.status_code == 200
                    Harmless(answer.text)
                except AssertionError as error:
                    wrong.append(f"{name}{page}: {answer.status_code} {error}")
        Harmless(client.get("/").text)
    assert wrong == []


def test_what_is_taken_is_loaded_by_the_scheduler(taken: Settings) -> None:
    sound = [one.product for one in lint(Platform.open(taken)) if not one.faults and one.product != "shop.orders"]
    keys = domain_definitions("hostile", taken).get_repository_def().assets_defs_by_key
    assert {".".join(key.path[:2]) for key in keys} >= set(sound)
