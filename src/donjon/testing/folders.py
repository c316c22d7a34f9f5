"""Folders of tests: opened to others, and cleaned up when files in them are locked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from donjon.stores.immutable import set_immutable


def remove_tree(root: Path) -> None:
    """Delete a folder and all in it, immutable files included. A missing folder is fine.

    Only for tests: a vault's folder loses its locked objects too. Raises ``OSError`` if anything stays.
    """
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):  # a socket, or a file system without flags
                descriptor = os.open(Path(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    set_immutable(descriptor, on=False)
                finally:
                    os.close(descriptor)
    if root.exists():
        shutil.rmtree(root)


def open_to_others(folder: Path) -> None:
    """Let every user enter ``folder``, and whatever it lies in below the folder for temporary files."""
    top = Path(tempfile.gettempdir())
    for place in (folder, *folder.parents):
        if place == top or top not in place.parents:
            return
        place.chmod(0o755)
