"""Successions: the next signing key of a writer. See ``docs/format.md``, "Keys that succeed each other"."""

from __future__ import annotations

from typing import Final

import msgspec

from donjon.codec.sign import PUBLIC_BYTES, SIGNATURE_BYTES, SigningKey, verify
from donjon.format.limits import check_id, check_time, require
from donjon.format.objects import ObjectKind, kind_of, parse_object, verify_object

#: How many successors the first key of a writer can have. Bounds what a thief can make a reader fetch.
MAX_SUCCESSIONS: Final = 1_000

#: A request of half a kilobyte and the signatures of 16 approvers, with room to spare.
MAX_APPROVAL_BYTES: Final = 8 << 10

_DOMAIN: Final = b"donjon/v1/succession\0"


class Succession(msgspec.Struct, array_like=True, frozen=True):
    """From here on a writer signs with the key ``public``; the key before signed this object.

    ``number`` counts from 1, as the key that the keyring certifies is number 0. ``previous`` is the digest of
    the succession before, zeros for number 1. ``created_at`` is the provider's time as the writer was told.
    ``proof`` is a signature of the new key, so that nobody names a key that he does not hold.
    """

    writer: bytes
    number: int
    previous: bytes
    created_at: int
    public: bytes
    proof: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        require(1 <= self.number <= MAX_SUCCESSIONS, "number")
        require(len(self.previous) == 32, "digest")
        check_time(self.created_at)
        require(len(self.public) == PUBLIC_BYTES, "public key")
        require(len(self.proof) == SIGNATURE_BYTES, "proof")


class AllowedSuccession(msgspec.Struct, array_like=True, frozen=True):
    """From here on a writer signs with the key ``public``, as approvers allowed; the new key signed this.

    The first fields are those of ``Succession``; ``approval`` is the encoded approval.
    """

    writer: bytes
    number: int
    previous: bytes
    created_at: int
    public: bytes
    approval: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        require(1 <= self.number <= MAX_SUCCESSIONS, "number")
        require(len(self.previous) == 32, "digest")
        check_time(self.created_at)
        require(len(self.public) == PUBLIC_BYTES, "public key")
        require(len(self.approval) <= MAX_APPROVAL_BYTES, "approval")


def parse_succession(data: bytes, what: str) -> Succession | AllowedSuccession:
    """A succession of either form, **not yet verified**.

    Raises ``IntegrityFailure``, ``UnsupportedVersion``.
    """
    if kind_of(data) == ObjectKind.ALLOWED_SUCCESSION:
        return parse_object(data, ObjectKind.ALLOWED_SUCCESSION, AllowedSuccession, what)
    return parse_object(data, ObjectKind.SUCCESSION, Succession, what)


def check_signer(
    succession: Succession | AllowedSuccession, data: bytes, vault_id: bytes, before: bytes, what: str
) -> None:
    """Raises ``IntegrityFailure`` unless the key ``before`` and the new key agreed to this very succession,
    or the new key alone if approvers are to have allowed it, which is not looked at here.
    """
    if isinstance(succession, AllowedSuccession):
        verify_object(data, vault_id, succession.public, what)
        return
    verify_object(data, vault_id, before, what)
    check_proof(succession, vault_id, what)


def make_succession(
    vault_id: bytes, writer: bytes, number: int, previous: bytes, created_at: int, key: SigningKey
) -> Succession:
    """The succession to ``key``, with its proof."""
    proof = key.sign(_proven(vault_id, writer, number, previous, key.public))
    return Succession(writer, number, previous, created_at, key.public, proof)


def check_proof(succession: Succession, vault_id: bytes, what: str) -> None:
    """Raises ``IntegrityFailure`` unless the owner of the new key agreed to this very succession."""
    s = succession
    message = _proven(vault_id, s.writer, s.number, s.previous, s.public)
    verify(s.public, message, s.proof, what=f"{what}: the proof of the new key")


def _proven(vault_id: bytes, writer: bytes, number: int, previous: bytes, public: bytes) -> bytes:
    return _DOMAIN + vault_id + writer + number.to_bytes(8, "little") + previous + public
