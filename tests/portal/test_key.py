"""The portal's key: made once, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import pytest

from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sign_in import secret_key


def test_a_full_disk_leaves_no_key_and_the_next_start_makes_one(
    local_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            secret_key(local_settings)
    assert [*local_settings.home.iterdir()] == []
    assert len(secret_key(local_settings)) >= 32


def test_an_empty_key_is_made_anew_and_a_key_stays(local_settings: Settings) -> None:
    local_settings.home.mkdir()
    file = local_settings.home / "portal.key"
    file.touch()
    key = secret_key(local_settings)
    assert len(key) >= 32
    assert secret_key(local_settings) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in local_settings.home.iterdir()] == ["portal.key"]
