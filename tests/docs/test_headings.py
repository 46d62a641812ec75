"""The documents say what is there: every command, setting and error code has its heading, and links lead somewhere."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mesh_pipelines import errors
from mesh_pipelines.cli.main import app
from mesh_pipelines.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def headings(page: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE))


def commands() -> set[str]:
    """Every command as it is typed; a group's commands with the group's name."""
    root: Any = typer.main.get_command(app)
    return {
        f"{name} {inner}".strip()
        for name, command in root.commands.items()
        for inner in getattr(command, "commands", [""])
    }


def test_every_command_has_its_heading() -> None:
    assert headings("cli.md") == {f"mesh {command}" for command in commands()}


def test_every_setting_has_its_heading() -> None:
    assert headings("settings.md") == {f"MESH_{name.upper()}" for name in Settings.model_fields}


def test_every_error_code_has_its_heading_and_is_used_once() -> None:
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.MeshError)]
    codes = [one.code for one in classes]
    assert len(codes) == len(set(codes))
    assert headings("errors.md") == set(codes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_readme_names_targets_and_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", readme)) <= targets
    assert set(re.findall(r"(?:^|/|`|&& )mesh ([a-z]+)", readme, flags=re.MULTILINE)) <= {
        command.split()[0] for command in commands()
    }


def test_decisions_are_numbered_and_indexed() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == sorted(set(numbers))
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert all(page.name in index for page in pages)
