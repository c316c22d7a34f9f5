"""A key of Azure Key Vault (RSA), or a symmetric one of Azure Managed HSM, as a recipient.

The service wraps, not the SDK: so to seal takes one request and the right to wrap alone, and a key that was
disabled is noticed. The newest version wraps, and the seal keeps which that was. Source of what follows:
https://learn.microsoft.com/rest/api/keyvault/keys/wrap-key/wrap-key, .../unwrap-key/unwrap-key and
https://learn.microsoft.com/azure/key-vault/general/rest-error-codes.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from donjon.core.errors import CredentialsRejected, DonjonError, KeyNotAvailable, UsageError
from donjon.core.operations import Operation
from donjon.keys import faults
from donjon.keys.address import read_key
from donjon.keys.base import AZURE_KEYVAULT, Recipient
from donjon.keys.info import bound, unbound

#: https://learn.microsoft.com/azure/role-based-access-control/permissions/security
SEAL: Final = Operation("wrapkey", "seal with", ("Microsoft.KeyVault/vaults/keys/wrap/action",))
OPEN: Final = Operation("unwrapkey", "open with", ("Microsoft.KeyVault/vaults/keys/unwrap/action",))
#: https://learn.microsoft.com/azure/key-vault/managed-hsm/built-in-roles
HSM_SEAL: Final = Operation("wrapkey", "seal with", ("Microsoft.KeyVault/managedHsm/keys/wrap/action",))
HSM_OPEN: Final = Operation("unwrapkey", "open with", ("Microsoft.KeyVault/managedHsm/keys/unwrap/action",))
#: What each method takes, for roles and their policies: in a Key Vault, and in a Managed HSM.
PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (SEAL,), "open": (OPEN,)}
HSM_PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (HSM_SEAL,), "open": (HSM_OPEN,)}

RSA: Final = "RSA-OAEP-256"
AES: Final = "A256KW"

API: Final = "7.4"
_URL: Final = re.compile(r"https://([A-Za-z0-9.-]+(?::[0-9]{1,5})?)/keys/([A-Za-z0-9-]{1,127})")
_VERSION: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_HSM: Final = ".managedhsm."
_TIMEOUT_S: Final = 20
_AGAIN: Final = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class AzureKey:
    """A key by its URL, without a version; the host is in lower case."""

    url: str

    @classmethod
    def parse(cls, text: str) -> AzureKey:
        """From what is behind ``azure-keyvault:``. Raises ``UsageError``."""
        match = _URL.fullmatch(text)
        if match is None:
            msg = f"{AZURE_KEYVAULT}:{text}: is no URL of a key"
            hint = "Write azure-keyvault:https://NAME.vault.azure.net/keys/KEY, without a version."
            raise UsageError(msg, hint=hint)
        return cls(f"https://{match[1].lower()}/keys/{match[2]}")

    @classmethod
    def of(cls, recipient: Recipient) -> AzureKey:
        """The key of a recipient. Raises ``IntegrityFailure``."""
        return read_key(recipient, 1, cls.parse)

    @property
    def kind(self) -> str:
        """See ``KeyAddress``."""
        return AZURE_KEYVAULT

    @property
    def fields(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return (self.url,)

    @property
    def uri(self) -> str:
        """See ``KeyAddress``."""
        return f"{AZURE_KEYVAULT}:{self.url}"

    @property
    def identity(self) -> tuple[str, ...]:
        """See ``KeyAddress``. Azure tells names of keys that differ in case alone not apart."""
        return AZURE_KEYVAULT, self.url.lower()

    @property
    def vault(self) -> str:
        """The address of the Key Vault or Managed HSM."""
        return self.url.rpartition("/keys/")[0]

    @property
    def is_hsm(self) -> bool:
        """Whether it is in a Managed HSM, where Donjon takes symmetric keys."""
        return _HSM in self.vault


class Seal(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The bytes of a seal: what wrapped it, and what came of that."""

    algorithm: str
    version: str
    wrapped: bytes


def read_seal(sealed: bytes, url: str) -> Seal:
    """What the bytes of a seal by the key at ``url`` say. Raises ``KeyNotAvailable`` if they are none."""
    try:
        seal = msgspec.msgpack.decode(sealed, type=Seal)
    except (msgspec.MsgspecError, ValueError) as error:
        raise faults.not_its_own(url) from error
    if seal.algorithm not in {RSA, AES} or not _VERSION.fullmatch(seal.version) or not seal.wrapped:
        raise faults.not_its_own(url)
    return seal


class AzureKeyVaultKey:
    """Seals and opens by asking Key Vault or Managed HSM."""

    def __init__(self, recipient: Recipient, client: Callable[[], Any] | None = None) -> None:
        """``client`` makes a ``KeyClient`` of the SDK, for tests.

        Raises ``IntegrityFailure`` for a recipient that names no such key.
        """
        self.recipient_id: Final = recipient.recipient_id
        self._key: Final = AzureKey.of(recipient)
        self._make = client or (lambda: connect(self._key.vault))
        self._client: Any = None
        self._mutex = threading.Lock()

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        algorithm = AES if self._key.is_hsm else RSA
        operation = HSM_SEAL if self._key.is_hsm else SEAL
        kid, wrapped = self._ask(operation, "", algorithm, bound(secret, info))
        name, _, version = kid.rpartition("/")
        if name.lower() != self._key.url.lower() or not _VERSION.fullmatch(version):
            raise faults.not_its_own(self._key.url)  # it says which version it used
        return msgspec.msgpack.encode(Seal(algorithm, version, wrapped))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        seal = read_seal(sealed, self._key.url)
        operation = HSM_OPEN if self._key.is_hsm else OPEN
        _, opened = self._ask(operation, f"/{seal.version}", seal.algorithm, seal.wrapped)
        return unbound(opened, info, self._key.url)

    def __repr__(self) -> str:
        """The address."""
        return f"AzureKeyVaultKey({self._key.url})"

    def _ask(self, operation: Operation, version: str, algorithm: str, value: bytes) -> tuple[str, bytes]:
        """Which key and version served, and what came of it."""
        try:
            from azure.core.rest import HttpRequest

            url = f"{self._key.url}{version}/{operation.method}?api-version={API}"
            body = {"alg": algorithm, "value": base64_text(value)}
            answer = self._connected().send_request(HttpRequest("POST", url, json=body))
            if answer.status_code != 200:
                raise _refusal(answer, operation, self._key)
            found = answer.json()
            return str(found["kid"]), base64.urlsafe_b64decode(str(found["value"]) + "==")
        except DonjonError:
            raise
        except Exception as error:
            raise _translated(error, operation, self._key) from error

    def _connected(self) -> Any:
        with self._mutex:
            if self._client is None:
                self._client = self._make()
            return self._client


def connect(vault: str) -> Any:
    """A client of the SDK for the vault at this address, with the credentials of the environment."""
    try:
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient  # here, for they take longer to load than a listing may
    except ImportError as error:
        msg = "Azure Key Vault needs packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[azure]'") from error
    # Whoever wraps this retries, and two loops around each other multiply.
    return KeyClient(
        vault,
        DefaultAzureCredential(),
        retry_total=0,
        connection_timeout=_TIMEOUT_S,
        read_timeout=_TIMEOUT_S,
    )


def base64_text(data: bytes) -> str:
    """As Key Vault writes bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _translated(error: Exception, operation: Operation, key: AzureKey) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from azure.core import exceptions as sdk

    said = " ".join(str(error).split())
    reason = f"{key.url}: cannot {operation.action} this key: {said or type(error).__name__}"
    if isinstance(error, ImportError):
        raise error
    if isinstance(error, sdk.ClientAuthenticationError):
        return CredentialsRejected(
            f"{key.url}: no valid Azure credentials: {said.partition('. ')[0]}",
            hint="Run `az login`, or set what azure-identity's DefaultAzureCredential reads.",
        )
    if isinstance(error, (KeyError, TypeError, ValueError)):  # an answer without what was asked for
        return faults.unavailable(reason, "Look for a proxy between here and Azure")
    if not isinstance(error, (sdk.AzureError, OSError)):
        raise error
    return faults.unavailable(reason, "Look at the name of the vault, the network and the state of Azure")


def _refusal(answer: Any, operation: Operation, key: AzureKey) -> DonjonError:
    """Codes: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes."""
    status, code, said = answer.status_code, *error_of(answer)
    reason = f"{key.url}: cannot {operation.action} this key: {status} {code}: {said}"
    mend = f"az keyvault key recover --id {key.url.replace('/keys/', '/deletedkeys/')}"
    found: DonjonError
    if status == 401:
        hint = "Renew the credentials, then run the command again."
        found = CredentialsRejected(f"{key.url}: the credentials are not accepted", hint=hint)
    elif code == "KeyDisabled":
        found = faults.disabled(key.url, f"az keyvault key set-attributes --enabled true --id {key.url}")
    elif code == "ForbiddenByFirewall":
        found = KeyNotAvailable(reason, hint="Let this network through the firewall of the vault.")
    elif status == 403:
        found = faults.denied(key.url, operation, "by a role on the key or the vault")
    elif code == "ObjectIsDeletedButRecoverable":
        found = faults.pending_deletion(key.url, mend)
    elif status == 404:
        found = faults.not_there(key.url, f"Check the URL; if somebody deleted it, run: {mend}.")
    elif status in _AGAIN:
        found = faults.unavailable(reason)
    elif status == 400 and operation in {OPEN, HSM_OPEN}:
        found = faults.not_its_own(key.url)
    else:
        hint = "It must be an RSA key, or in a Managed HSM a symmetric one of 256 bits (oct-HSM)."
        found = KeyNotAvailable(reason, hint=hint)
    return found


def error_of(answer: Any) -> tuple[str, str]:
    """The innermost code and the message of an answer."""
    try:
        error = answer.json()["error"]
        inner = error.get("innererror") or {}
        return str(inner.get("code") or error["code"]), " ".join(str(error.get("message", "")).split())
    except (AttributeError, KeyError, TypeError, ValueError):
        return "", ""
