"""The tree of errors that is drawn is the tree of classes."""

from __future__ import annotations

import inspect
import re

from mesh_pipelines import errors
from mesh_pipelines.errors import MeshError

_DRAWN = re.compile(r"^    (?P<stem>[│├└─ ]*)(?P<name>[A-Z][A-Za-z]+)(?P<about>.*)$", re.MULTILINE)


def drawn() -> dict[str, tuple[str, str]]:
    """By class: the class that it is drawn under, and what is said of it."""
    found: dict[str, tuple[str, str]] = {}
    above = ""
    for line in _DRAWN.finditer(errors.__doc__ or ""):
        depth = len(line["stem"]) // 4
        if depth == 1:
            above = line["name"]
        found[line["name"]] = ("MeshError" if depth == 1 else above if depth else "", line["about"])
    return found


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    classes = {name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, MeshError)}
    tree = drawn()
    assert tree.keys() == classes.keys()
    for name, (above, about) in tree.items():
        if name == "MeshError":
            continue
        assert classes[name].__bases__ == (classes[above],), name
        assert ("transient" in about) is classes[name].transient, name
        if said := re.search(r"exit (\d)", about):
            assert int(said[1]) == classes[name].exit_code, name
