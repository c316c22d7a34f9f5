"""All key services: their addresses, and how to reach them. One entry of the table is one adapter."""

from __future__ import annotations

import random as random_numbers
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from donjon.codec.seal import KEY_BYTES
from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.core.retries import Retries
from donjon.format.limits import MAX_SEAL_BYTES
from donjon.keys.address import KeyAddress
from donjon.keys.aws_kms import AwsKey, AwsKmsKey
from donjon.keys.azure_keyvault import AzureKey, AzureKeyVaultKey
from donjon.keys.base import AWS_KMS, AZURE_KEYVAULT, GCP_KMS, OPENBAO, PKCS11, KeyService, Recipient
from donjon.keys.faults import not_its_own
from donjon.keys.gcp_kms import GcpKey, GcpKmsKey
from donjon.keys.openbao import OpenBaoKey, TransitKey
from donjon.keys.pkcs11 import Pkcs11Key, TokenAddress

T = TypeVar("T")

Make = Callable[[Recipient, Mapping[str, str]], KeyService]


class Address(Protocol):
    """The class of the addresses of one kind."""

    def parse(self, text: str) -> KeyAddress:
        """From what is behind the kind in a URI. Raises ``UsageError``."""

    def of(self, recipient: Recipient) -> KeyAddress:
        """The key of a recipient. Raises ``IntegrityFailure``, ``UnsupportedVersion``."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """How people write the address of a key, what reads it, and what reaches the key."""

    form: str
    address: Address
    make: Make


ADAPTERS: Final = {
    AWS_KMS: Adapter(
        "aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID", AwsKey, lambda recipient, _: AwsKmsKey(recipient)
    ),
    AZURE_KEYVAULT: Adapter(
        "azure-keyvault:https://NAME.vault.azure.net/keys/KEY",
        AzureKey,
        lambda recipient, _: AzureKeyVaultKey(recipient),
    ),
    GCP_KMS: Adapter(
        "gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K",
        GcpKey,
        lambda recipient, _: GcpKmsKey(recipient),
    ),
    OPENBAO: Adapter("openbao:https://HOST:8200/MOUNT/KEY", TransitKey, OpenBaoKey),
    PKCS11: Adapter("pkcs11:token=LABEL;object=LABEL", TokenAddress, Pkcs11Key),
}


def parse_address(uri: str) -> KeyAddress:
    """The key that a URI names. Raises ``UsageError`` that shows the forms."""
    kind, colon, rest = uri.partition(":")
    if not colon or kind not in ADAPTERS:
        msg = f"{uri}: names no key of a key service"
        raise UsageError(msg, hint=f"Write {', or '.join(adapter.form for adapter in ADAPTERS.values())}.")
    return ADAPTERS[kind].address.parse(rest)


def read_address(recipient: Recipient) -> KeyAddress:
    """The key of a recipient in a service. Raises ``IntegrityFailure``, ``UnsupportedVersion``."""
    return ADAPTERS[recipient.kind].address.of(recipient)


class KeyServices:
    """Reaches key services, once each for all threads: the ``Connect`` of real life.

    ``environment`` is where adapters look up what this host alone knows, such as the path of a module.
    """

    def __init__(self, environment: Mapping[str, str], adapters: Mapping[str, Adapter] = ADAPTERS) -> None:
        self._environment = environment
        self._adapters = adapters
        self._services: dict[bytes, KeyService] = {}
        self._mutex = threading.Lock()

    def __call__(self, recipient: Recipient) -> KeyService:
        """The service of a recipient, with retries."""
        recipient.check()
        with self._mutex:
            found = self._services.get(recipient.recipient_id)
            if found is None:
                found = RetryingKey(self._adapters[recipient.kind].make(recipient, self._environment))
                self._services[recipient.recipient_id] = found
            return found


class RetryingKey:
    """Repeats a call while its error says that this can help, and lets nothing through that is no seal.

    A call is tried at most ``attempts`` times, and no pause (see ``Retries``) starts that would end later
    than ``budget_s`` after the first try.
    """

    def __init__(
        self,
        inner: KeyService,
        attempts: int = 6,
        budget_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random_numbers.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``random`` gives numbers from 0 to 1, ``monotonic`` seconds."""
        self.inner = inner
        self._retries = partial(Retries, attempts, budget_s, sleep, random, monotonic)

    @property
    def recipient_id(self) -> bytes:
        """Whose secrets this opens, 16 bytes."""
        return self.inner.recipient_id

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        sealed = self._around(lambda: self.inner.seal(secret, info))
        if not 1 <= len(sealed) <= MAX_SEAL_BYTES:
            msg = f"{self.inner}: answered with a seal of {len(sealed)} bytes"
            raise KeyNotAvailable(msg, hint=f"Only seals of up to {MAX_SEAL_BYTES} bytes can be kept.")
        return sealed

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        secret = self._around(lambda: self.inner.open(sealed, info))
        if len(secret) != KEY_BYTES:
            raise not_its_own(str(self.inner))
        return secret

    def __repr__(self) -> str:
        """The service."""
        return f"RetryingKey({self.inner!r})"

    def _around(self, call: Callable[[], T]) -> T:
        return self._retries().carry_out(call)
