"""Keys of objects as paths of a tree, and back.

Any text is a key: ``a//b``, ``../x``, ``a`` beside ``a/b``. A path has names between its slashes, none of
them empty, ``.`` or ``..``, and a file holds nothing. So most keys are their own path, and a component that
cannot be a name, or is too long for a file system, is written with a mark before it:

``%=NAME``  the last component of a key
``%-NAME``  a component before the last
``%+NAME``  a piece of a long component, which the next name goes on with

In ``NAME``, NUL is ``%00`` and ``%`` is ``%25``. A component that begins with a mark by itself gets one too,
so that no two keys have the same path. ``%@`` begins the names of older versions. See
``docs/workloads/bucket.md``.
"""

from __future__ import annotations

import re
from typing import Final

from donjon.core.errors import IntegrityFailure

LEAF: Final = b"%="
FOLDER: Final = b"%-"
PIECE: Final = b"%+"
#: Begins the name of an older version in the directory that is called like its key.
VERSION: Final = b"%@"

MARKS: Final = (LEAF, FOLDER, PIECE, VERSION)
#: The longest name that Linux's file systems take.
_MAX_NAME_BYTES: Final = 255
#: Escaped, three times as much at most, and the mark.
_PIECE_BYTES: Final = 80
_ESCAPES: Final = re.compile(rb"%(00|25)")


def path_of(key: bytes, *, marked: bool = False) -> bytes:
    """The path of a key. ``marked``: mark its last component in any case, for a folder has that name."""
    *folders, leaf = key.split(b"/")
    names = [name for folder in folders for name in _names(folder, FOLDER, marked=False)]
    return b"/".join([*names, *_names(leaf, LEAF, marked=marked)])


def folder_of(key: bytes) -> bytes:
    """The path of a directory that is called like a key, last component included."""
    return b"/".join(name for part in key.split(b"/") for name in _names(part, FOLDER, marked=False))


def key_of_folder(path: bytes) -> bytes:
    """The key that a directory is called like. Raises ``IntegrityFailure`` for a path that no key has."""
    return key_of(path + b"/x").removesuffix(b"/x")


def key_of(path: bytes) -> bytes:
    """The key with this path. Raises ``IntegrityFailure`` for a path that no key has."""
    *folders, leaf = path.split(b"/")
    components: list[bytes] = []
    begun = b""
    for name in folders:
        if name.startswith(PIECE):
            begun += _plain(name)
            continue
        components.append(begun + _component(name, FOLDER, path))
        begun = b""
    components.append(begun + _component(leaf, LEAF, path))
    return b"/".join(components)


def is_plain(name: bytes) -> bool:
    """Whether a component of a key can be a name of a path as it is."""
    return (
        name not in (b"", b".", b"..")
        and b"\0" not in name
        and len(name) <= _MAX_NAME_BYTES
        and not name.startswith(MARKS)
    )


def _names(component: bytes, mark: bytes, *, marked: bool) -> list[bytes]:
    if not marked and is_plain(component):
        return [component]
    *pieces, last = _pieces(component) if len(component) > _PIECE_BYTES else [component]
    return [*(PIECE + _escaped(piece) for piece in pieces), mark + _escaped(last)]


def _pieces(component: bytes) -> list[bytes]:
    """Cut where no character of UTF-8 is cut, for file systems that take no other names."""
    pieces = []
    while len(component) > _PIECE_BYTES:
        end = _PIECE_BYTES
        while end > _PIECE_BYTES - 4 and component[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(component[:end])
        component = component[end:]
    return [*pieces, component]


def _escaped(name: bytes) -> bytes:
    return name.replace(b"%", b"%25").replace(b"\0", b"%00")


def _plain(name: bytes) -> bytes:
    return _ESCAPES.sub(lambda found: b"\0" if found[1] == b"00" else b"%", name[2:])


def _component(name: bytes, mark: bytes, path: bytes) -> bytes:
    if name.startswith(mark):
        return _plain(name)
    if name.startswith(MARKS):
        msg = f"{path!r}: is the path of no key"
        raise IntegrityFailure(msg)
    return name
