"""What names a key in a service, as it is kept in the vault. See ``docs/format.md``, "Key services"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from donjon.core.errors import IntegrityFailure, UnsupportedVersion, UsageError
from donjon.keys.base import Recipient, service_id

T = TypeVar("T")

_VERSION: Final = 1
_MAX_FIELD_BYTES: Final = 512
_MAX_EXTRA_BYTES: Final = 1024


class KeyAddress(Protocol):
    """Where a key is. Equal for two names of the same key."""

    @property
    def kind(self) -> str:
        """One of ``keys.base.SERVICES``."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What the vault keeps."""

    @property
    def uri(self) -> str:
        """What people write and read."""

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for every address of the same key."""


def service_recipient(address: KeyAddress, name: str, created_at: int) -> Recipient:
    """The recipient whose key is at ``address``. ``created_at`` is in Unix seconds."""
    extra = msgspec.msgpack.encode((_VERSION, *address.fields))
    return Recipient(
        service_id(address.kind, extra), address.kind, name, b"", created_at=created_at, extra=extra
    )


def read_key(recipient: Recipient, count: int, parse: Callable[..., T]) -> T:
    """The address of a recipient's key, which ``parse`` makes of ``count`` texts as of what people write.

    Raises ``UnsupportedVersion`` for what a newer Donjon wrote, ``IntegrityFailure`` for what none writes.
    """
    try:
        return parse(*_read_fields(recipient, count))
    except UsageError as error:
        msg = f"recipient {recipient.recipient_id.hex()}: names no key of its kind: {error.message}"
        raise IntegrityFailure(msg) from error


def _read_fields(recipient: Recipient, count: int) -> Sequence[str]:
    recipient.check()
    what = f"recipient {recipient.recipient_id.hex()}"
    try:
        if len(recipient.extra) > _MAX_EXTRA_BYTES:
            raise ValueError
        version, *fields = msgspec.msgpack.decode(recipient.extra, type=tuple[int | str, ...])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: what names its key cannot be read"
        raise IntegrityFailure(msg) from error
    if isinstance(version, int) and version > _VERSION:
        msg = f"{what}: was written by a newer Donjon: version {version}"
        raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
    texts = [field for field in fields if isinstance(field, str) and _is_field(field)]
    if version != _VERSION or len(texts) != len(fields) or len(texts) != count:
        msg = f"{what}: what names its key is not of its kind"
        raise IntegrityFailure(msg)
    return texts


def _is_field(text: str) -> bool:
    return 1 <= len(text.encode()) <= _MAX_FIELD_BYTES and "\0" not in text
