"""Keys made from passphrases: Argon2id (RFC 9106) and what it opens.

``docs/keys.md``, "Passphrases", has the bytes and the reasons for the numbers.
"""

from __future__ import annotations

import os
import struct
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from argon2.exceptions import HashingError
from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from donjon.core.errors import IntegrityFailure, KeyNotAvailable, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SALT_BYTES: Final = 16
TAG_BYTES: Final = 16

_KEY_BYTES: Final = 32
#: The key is fresh with the salt and encrypts one message only, so the nonce may be constant.
_NONCE: Final = bytes(12)
_ENCODED: Final = struct.Struct(f"<III{SALT_BYTES}s")

#: Bytes of an encoded ``Argon``.
ARGON_BYTES: Final = _ENCODED.size

_MEMORY_KIB: Final = range(8 * 1024, 1024 * 1024 + 1)
_PASSES: Final = range(1, 16 + 1)
_LANES: Final = range(1, 16 + 1)

_MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: memory in KiB, passes over it, and lanes that may run side by side."""

    memory_kib: int
    passes: int
    lanes: int


#: RFC 9106, section 4, second recommended option (64 MiB), with four times its memory.
DEFAULT_COST: Final = Cost(memory_kib=256 * 1024, passes=3, lanes=4)


@dataclass(frozen=True, slots=True)
class Argon:
    """A cost and a salt, public and stored beside what the key opens."""

    cost: Cost
    salt: bytes

    def check(self) -> None:
        """Raises ``IntegrityFailure`` for values that no honest writer stores, before they do harm."""
        bounded = (
            ("memory in KiB", self.cost.memory_kib, _MEMORY_KIB),
            ("passes", self.cost.passes, _PASSES),
            ("lanes", self.cost.lanes, _LANES),
            ("bytes of salt", len(self.salt), range(SALT_BYTES, SALT_BYTES + 1)),
        )
        for name, value, allowed in bounded:
            if value not in allowed:
                msg = f"Argon2 parameters: {name} are {value}, allowed are {allowed[0]} to {allowed[-1]}"
                raise IntegrityFailure(msg)

    def encode(self) -> bytes:
        """28 bytes: memory, passes, lanes (u32, little-endian), salt."""
        return _ENCODED.pack(self.cost.memory_kib, self.cost.passes, self.cost.lanes, self.salt)

    @classmethod
    def decode(cls, data: bytes) -> Argon:
        """From exactly 28 bytes. Raises ``IntegrityFailure`` for values out of bounds."""
        memory_kib, passes, lanes, salt = _ENCODED.unpack(data)
        argon = cls(Cost(memory_kib, passes, lanes), salt)
        argon.check()
        return argon


def fresh(cost: Cost) -> Argon:
    """``cost`` with a new salt. Raises ``UsageError`` for a cost that no reader would accept."""
    argon = Argon(cost, os.urandom(SALT_BYTES))
    try:
        argon.check()
    except IntegrityFailure as error:
        raise UsageError(error.message) from error
    return argon


def encrypt(passphrase: str, argon: Argon, aad: bytes, plaintext: bytes) -> bytes:
    """Ciphertext and tag. ``argon`` must be ``fresh``. Raises ``UsageError`` for an empty passphrase."""
    return AESGCM(_key(passphrase, argon)).encrypt(_NONCE, plaintext, aad)


def decrypt(passphrase: str, argon: Argon, aad: bytes, sealed: bytes, *, what: str) -> bytes:
    """The plaintext.

    Raises ``KeyNotAvailable`` that names ``what`` if it does not open, ``IntegrityFailure`` for
    parameters out of bounds, ``UsageError`` for an empty passphrase.
    """
    argon.check()
    key = _key(passphrase, argon)
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, aad)
    except (InvalidTag, ValueError) as error:
        msg = f"{what}: the passphrase does not open it"
        raise KeyNotAvailable(msg, hint="Type it again; check the keyboard layout and Caps Lock.") from error


def passphrase_bytes(passphrase: str) -> bytes:
    """Normalisation form C in UTF-8, so that it does not matter how a keyboard composes an accent.

    Raises ``UsageError`` for an empty passphrase or one that is no Unicode text.
    """
    if not passphrase:
        msg = "the passphrase is empty"
        raise UsageError(msg, hint="Choose a passphrase of several random words.")
    try:
        return unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError as error:
        msg = "the passphrase is not valid Unicode text"
        raise UsageError(msg, hint="Store or type it in UTF-8.") from error


def passphrase_from_file(path: Path) -> str:
    """The passphrase in a file, without one newline at its end.

    Raises ``UsageError`` if the file is empty, too long or not UTF-8, ``KeyNotAvailable`` if it cannot
    be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        msg = f"{path}: the passphrase cannot be read: {error.strerror}"
        raise KeyNotAvailable(msg, hint="Give a file that this user can read.") from error
    if len(data) > _MAX_FILE_BYTES:
        msg = f"{path}: is longer than any passphrase"
        raise UsageError(msg)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        msg = f"{path}: is not UTF-8 text"
        raise UsageError(msg) from error
    passphrase = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    passphrase_bytes(passphrase)
    return passphrase


def _key(passphrase: str, argon: Argon) -> bytes:
    secret = passphrase_bytes(passphrase)
    try:
        return hash_secret_raw(
            secret,
            argon.salt,
            time_cost=argon.cost.passes,
            memory_cost=argon.cost.memory_kib,
            parallelism=argon.cost.lanes,
            hash_len=_KEY_BYTES,
            type=Type.ID,
            version=ARGON2_VERSION,
        )
    except HashingError as error:
        msg = f"Argon2 needs {argon.cost.memory_kib // 1024} MiB of memory and did not get it"
        raise KeyNotAvailable(msg, hint="Free memory, or use a larger machine.") from error
