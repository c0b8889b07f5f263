"""Folders whose names outlive a power cut: a new name is durable only once the folder that holds it was synced."""

import errno
import os
from contextlib import suppress
from pathlib import Path


def sync(folder: Path) -> None:
    """Make the names in it durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # network file systems that have no such thing
            raise
    finally:
        os.close(handle)


def make(folder: Path, mode: int = 0o777) -> None:
    """mkdir -p, durable; `mode`: of the last one. Raises OSError."""
    missing = []
    above = folder
    while not above.exists():
        missing.append(above)
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    for child in reversed(missing):
        child.mkdir(mode=mode if child == folder else 0o777, exist_ok=True)
        sync(child.parent)
    if not missing:
        # It may be ours, from a life that ended before this. Where we may not look into its parent, others made it.
        with suppress(PermissionError):
            sync(folder.parent)
