"""What the tests of the local store share: the immutable flag, what is left behind, failing calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from donjon.stores.immutable import is_immutable, set_immutable


def flag_of(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return is_immutable(descriptor)
    finally:
        os.close(descriptor)


def flag(path: Path, *, on: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        set_immutable(descriptor, on=on)
    finally:
        os.close(descriptor)


def temporaries(root: Path) -> list[str]:
    folder = root / ".tmp"
    return os.listdir(folder) if folder.exists() else []


def fail(code: int) -> Callable[..., object]:
    def call(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    return call
