"""Session objects: the data key of one backup, sealed to every recipient, and its later seals.

See ``docs/format.md``, "Sessions".
"""

from __future__ import annotations

import msgspec

from donjon.codec.digest import DIGEST_BYTES, derive
from donjon.format.limits import check_id, check_number, check_seal, check_time, require


class SessionObject(msgspec.Struct, array_like=True, frozen=True):
    """Put before anything else of the session. ``seals`` are (recipient id, sealed key) pairs.

    ``commitment`` lets everyone who opens a seal check that it is the same key for all.
    ``lock_until`` is when the lock of everything that the session puts ends, 0 for never locked.
    """

    writer: bytes
    number: int
    started_at: int
    keyring_number: int
    lock_until: int
    commitment: bytes
    seals: tuple[tuple[bytes, bytes], ...]

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.number)
        check_time(self.started_at)
        check_time(self.lock_until)
        require(self.keyring_number >= 0, "keyring number")
        require(len(self.commitment) == DIGEST_BYTES, "commitment")
        for recipient, sealed in self.seals:
            check_id(recipient)
            check_seal(sealed)


class SealObject(msgspec.Struct, array_like=True, frozen=True):
    """The key of a session sealed for a recipient that joined later; signed by the root key."""

    recipient: bytes
    writer: bytes
    number: int
    sealed: bytes

    def __post_init__(self) -> None:
        check_id(self.recipient)
        check_id(self.writer)
        check_number(self.number)
        check_seal(self.sealed)


def commitment(session_key: bytes) -> bytes:
    """What a session object shows of its key."""
    return derive("donjon v1 session key commitment", session_key)


def manifest_key(session_key: bytes) -> bytes:
    """The key of the sealed part of the session's manifest."""
    return derive("donjon v1 manifest", session_key)
