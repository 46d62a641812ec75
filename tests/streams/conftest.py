"""Tests that take ``native`` run over the decoder in C, where it was built, and over the one without it."""

from __future__ import annotations

import pytest

from mesh_pipelines.native import extension

READERS = {"portable": False, "native": True} if extension() else {"portable": False}


@pytest.fixture(params=READERS.values(), ids=READERS)
def native(request: pytest.FixtureRequest) -> bool:
    """Whether the native extension is used."""
    return request.param
