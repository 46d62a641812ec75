"""Files of a product's folder, opened without following a link: neither the file nor its folders may be one.

Looking for links first and opening then leaves a moment in which a file can be swapped for a link to another. So every
file of a contract is opened from the folder above the domain, step by step, and what was opened is looked at. Links
above the assets folder are the operator's, and are followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_LINKED = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)
# Without waiting for the other end of a pipe.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlain(Exception):
    """What was opened is not a file of its own: a link, or no regular file. ``what`` it must be is in words."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def read_plain(file: Path, most: int) -> bytes:
    """The first ``most`` bytes of a file of a product's folder, and one more if there are any.

    Raises:
        NotPlain: it is a link, in a folder that is one, or no regular file.
        OSError: it is not there, or cannot be read.
    """
    handle = _open(file, _READ)
    with os.fdopen(handle, "rb") as opened:
        return opened.read(most + 1)


def write_plain(file: Path, text: str) -> None:
    """Write a file of a product's folder anew.

    Raises:
        NotPlain, OSError: as ``read_plain``.
    """
    handle = _open(file, _WRITE)
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        opened.truncate()
        opened.write(text)


def _open(file: Path, flags: int) -> int:
    """Open a file below its product's and its domain's folder."""
    file = file.absolute()
    *above, domain, product, name = file.parts
    folder = os.open(Path(*above), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in (domain, product):
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        handle = os.open(name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINKED:
            raise NotPlain("must not be a link") from error
        raise
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotPlain("must be a regular file")
    return handle
