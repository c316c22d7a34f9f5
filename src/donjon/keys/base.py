"""The port to keys: what seals the secrets of a vault, and what opens them again.

A recipient is public and stored in the vault. An opener is its other half and lives with a person, in a
recovery kit or behind a passphrase, or in a key service such as a cloud's KMS. An opener that is handed
something that is not its own says ``KeyNotAvailable``, one error for every reason, so that callers just try
the next opener.

Whoever has a recovery kit's public key can seal to it alone. A key service seals too, so it is asked for
both: ``KeyService``. ``docs/format.md``, "Key services", has the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from donjon.codec.digest import ID_BYTES, short_id
from donjon.codec.hpke import PrivateKey, PublicKey
from donjon.core.errors import IntegrityFailure, KeyNotAvailable

RECIPIENT_ID_BYTES: Final = ID_BYTES
KIT: Final = "kit"
PASSPHRASE: Final = "passphrase"  # noqa: S105  (the name of a kind)
AWS_KMS: Final = "aws-kms"
AZURE_KEYVAULT: Final = "azure-keyvault"
GCP_KMS: Final = "gcp-kms"
OPENBAO: Final = "openbao"
PKCS11: Final = "pkcs11"
#: Kinds of recipients whose key a service keeps.
SERVICES: Final = (AWS_KMS, AZURE_KEYVAULT, GCP_KMS, OPENBAO, PKCS11)

_SERVICE_DOMAIN: Final = b"donjon/v1/key-service\0"


class Opener(Protocol):
    """Opens what was sealed to one recipient. Safe to share between threads."""

    @property
    def recipient_id(self) -> bytes:
        """Whose secrets this opens, 16 bytes."""

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret that was sealed with the same ``info``. Raises ``KeyNotAvailable``."""


class KeyService(Opener, Protocol):
    """A key that never leaves its service: seals and opens by asking. Safe to share between threads.

    Both raise ``PermissionMissing`` that names the permission, and ``KeyNotAvailable`` with what to do if the
    key is disabled, about to be deleted, or not where it is said to be; ``KeyServiceUnavailable`` if a later
    try may succeed. A seal that was changed, cut short, or made under another ``info`` or with another key is
    ``KeyNotAvailable``.
    """

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """``secret`` (32 bytes) sealed under ``info``, 1 to 2,048 bytes; needs no right to open."""


def recipient_id(public: bytes) -> bytes:
    """The 16-byte id of a public key of 1216 bytes: the start of its BLAKE3 digest."""
    return short_id(public)


def service_id(kind: str, extra: bytes) -> bytes:
    """The 16-byte id of a recipient in a key service, made from what names its key."""
    return short_id(_SERVICE_DOMAIN + kind.encode() + b"\0" + extra)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone to whom secrets are sealed; nothing here is secret.

    ``kind`` is ``"kit"``, ``"passphrase"`` or one of ``SERVICES``, ``public`` the 1216 bytes of an HPKE key
    or empty for a service, ``created_at`` Unix seconds, ``extra`` what the kind needs to make its opener
    again: nothing for a kit, what names the key for a service.
    """

    recipient_id: bytes
    kind: str
    name: str
    public: bytes
    created_at: int
    extra: bytes = b""

    @property
    def is_service(self) -> bool:
        """Whether a key service has to be asked."""
        return self.kind in SERVICES

    def check(self) -> None:
        """Raises ``IntegrityFailure`` if the id does not name this very key."""
        named = service_id(self.kind, self.extra) if self.is_service else recipient_id(self.public)
        if named != self.recipient_id:
            msg = f"recipient {self.recipient_id.hex()}: its key has another id"
            raise IntegrityFailure(msg)

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """``secret`` for the holder of the public key alone, bound to ``info``; nobody is asked.

        Raises ``IntegrityFailure`` if ``public`` is no key or not the one that the id names.
        """
        self.check()
        return PublicKey.from_bytes(self.public).seal(secret, info)

    def __repr__(self) -> str:
        """Enough to tell recipients apart."""
        return f"Recipient({self.recipient_id.hex()}, {self.kind}, {self.name!r})"


#: Reaches the service of a recipient. Raises what ``KeyService`` raises.
Connect = Callable[[Recipient], KeyService]


def no_services(recipient: Recipient) -> KeyService:
    """The ``Connect`` of who knows no services. Raises ``KeyNotAvailable``."""
    msg = f"recipient {recipient.recipient_id.hex()}: its {recipient.kind} key cannot be asked from here"
    raise KeyNotAvailable(msg, hint="Use the recovery kit.")


class PrivateKeyOpener:
    """An opener that holds its private key in memory."""

    __slots__ = ("_private", "_recipient_id")

    def __init__(self, private: PrivateKey) -> None:
        """An opener for the recipient whose private key this is."""
        self._private = private
        self._recipient_id = recipient_id(private.public.to_bytes())

    @property
    def recipient_id(self) -> bytes:
        """Whose secrets this opens, 16 bytes."""
        return self._recipient_id

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The secret that was sealed with the same ``info``. Raises ``KeyNotAvailable``."""
        return self._private.open(sealed, info)

    def __repr__(self) -> str:
        """The id only."""
        return f"PrivateKeyOpener({self._recipient_id.hex()})"
