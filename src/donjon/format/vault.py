"""The vault object and the keyring: who may open the vault and who may write to it.

The keyring is a chain of records, each signed by the root key and naming the digest of the one before.
A record is created under the next number, so two operators cannot both add a record unseen.
See ``docs/format.md``, "The vault object" and "The keyring".
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from donjon.codec.chunk import MAX_CHUNK_BYTES, Sizes
from donjon.codec.digest import DIGEST_BYTES, derive
from donjon.codec.seal import Sealer
from donjon.core.errors import IntegrityFailure
from donjon.core.units import MIB
from donjon.format.limits import MAX_DURATION_S, check_id, check_number, check_time, require

VAULT_ID_BYTES: Final = 16


class VaultObject(msgspec.Struct, array_like=True, frozen=True):
    """What everything else in a vault hangs on. Times and durations are in seconds.

    ``lock_s`` is how long new objects are locked, 0 for not at all. ``longest_backup_s`` bounds a
    session: a writer relies on a pack only if its lock outlasts that.
    """

    vault_id: bytes
    created_at: int
    root_public: bytes
    chunk_minimum: int
    chunk_average: int
    chunk_maximum: int
    lock_s: int
    longest_backup_s: int

    @property
    def chunk_sizes(self) -> Sizes:
        """Bounds of the chunker."""
        return Sizes(self.chunk_minimum, self.chunk_average, self.chunk_maximum)

    def check(self) -> None:
        """Raises ``IntegrityFailure`` for values that no vault has."""
        sizes_ok = (
            64 <= self.chunk_minimum <= min(self.chunk_average, MIB)
            and 256 <= self.chunk_average <= self.chunk_maximum
            and 1024 <= self.chunk_maximum <= MAX_CHUNK_BYTES
        )
        ids_ok = len(self.vault_id) == VAULT_ID_BYTES and len(self.root_public) == 32
        times_ok = 0 <= self.lock_s <= MAX_DURATION_S and 0 < self.longest_backup_s <= MAX_DURATION_S
        if not (sizes_ok and ids_ok and times_ok):
            msg = "vault: holds values that no vault can have"
            raise IntegrityFailure(msg)

    def __post_init__(self) -> None:
        check_time(self.created_at)


class VaultSecret:
    """The secret that every writer holds. It finds and names data; it opens no backup."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.chunk_id_key = derive("donjon v1 chunk ids", secret)
        self.index_key = derive("donjon v1 index", secret)
        # 63 bits: what every implementation of the chunker takes.
        self.chunker_seed = int.from_bytes(derive("donjon v1 chunker seed", secret, 8), "little") >> 1
        self._label_key = derive("donjon v1 labels", secret)

    def __repr__(self) -> str:
        return "VaultSecret(...)"

    def hide_label(self, label: str, nonce: int) -> bytes:
        """A name for people, unreadable for the provider: a box whose nonce is this random number."""
        padded = label.encode().ljust(64, b"\0")
        return nonce.to_bytes(12, "little") + Sealer(self._label_key).seal(nonce, padded)

    def hide_text(self, text: str, size_bytes: int) -> bytes:
        """Like ``hide_label``, for a text of up to so many bytes, under a random nonce."""
        return Sealer(self._label_key).box(text.encode().ljust(size_bytes, b"\0"))

    def read_label(self, hidden: bytes, what: str) -> str:
        """The text behind ``hide_label`` and ``hide_text``. Raises ``IntegrityFailure``."""
        plain = Sealer(self._label_key).open_box(hidden, what)
        return plain.rstrip(b"\0").decode(errors="replace")


class Action(enum.IntEnum):
    """What a keyring record does."""

    ADD_RECIPIENT = 1
    REMOVE_RECIPIENT = 2
    ADD_WRITER = 3
    REVOKE_WRITER = 4
    ADD_CUSTODIAN = 5
    REVOKE_CUSTODIAN = 6
    SET_APPROVERS = 7
    ADD_AUDITOR = 8
    REVOKE_AUDITOR = 9


class KeyringRecord(msgspec.Struct, array_like=True, frozen=True):
    """One change. ``subject`` is the 16-byte id of whom it is about.

    Adding a recipient: ``kind`` is "kit", "passphrase" or that of a key service, ``public`` its HPKE key if
    it has one, ``extra`` what its kind needs, ``sealed_secret`` the vault secret sealed for it. Adding who
    signs: ``public`` is its Ed25519 key. ``label`` is hidden with the vault secret. Setting approvers:
    ``extra`` has them all, and ``subject`` is a digest of them.
    """

    number: int
    previous: bytes
    created_at: int
    action: int
    subject: bytes
    kind: str = ""
    label: bytes = b""
    public: bytes = b""
    extra: bytes = b""
    sealed_secret: bytes = b""

    def __post_init__(self) -> None:
        check_number(self.number)
        check_time(self.created_at)
        check_id(self.subject)
        require(len(self.previous) == DIGEST_BYTES, "previous")


def secret_info(vault_id: bytes) -> bytes:
    """The info under which the vault secret is sealed."""
    return b"donjon/v1/vault-secret\0" + vault_id


def session_info(vault_id: bytes, writer: bytes, number: int) -> bytes:
    """The info under which a session key is sealed."""
    return b"donjon/v1/session-key\0" + vault_id + writer + number.to_bytes(8, "little")
