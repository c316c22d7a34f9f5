"""A key of the Transit engine of OpenBao or HashiCorp Vault as a recipient.

Source of what follows: https://openbao.org/api-docs/secret/transit/ (Encrypt data, Decrypt data). The answers
to what is refused were taken from OpenBao 2.7.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from donjon.core.addresses import split_address
from donjon.core.errors import CredentialsRejected, DonjonError, KeyNotAvailable, UsageError
from donjon.core.operations import Operation
from donjon.keys import faults
from donjon.keys.address import read_key
from donjon.keys.base import OPENBAO, Recipient
from donjon.keys.info import Context

#: A capability on a path; ``{mount}`` and ``{key}`` stand for those of the key. Who may ``create`` there as
#: well makes a new key when the old one is gone.
SEAL: Final = Operation("encrypt_data", "seal with", ("update {mount}/encrypt/{key}",))
OPEN: Final = Operation("decrypt_data", "open with", ("update {mount}/decrypt/{key}",))
#: What each method takes, for roles and their policies.
PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (SEAL,), "open": (OPEN,)}

_FORM: Final = "openbao:https://HOST:8200/MOUNT/KEY"
_PATH: Final = re.compile(r"/((?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+)([A-Za-z0-9_-][A-Za-z0-9._-]*)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_SEAL: Final = re.compile(rb"vault:v[1-9][0-9]{0,9}:[A-Za-z0-9+/]+={0,2}")
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_TIMEOUT_S: Final = 20
_ADDRESSES: Final = ("BAO_ADDR", "VAULT_ADDR")
_TOKENS: Final = ("BAO_TOKEN", "VAULT_TOKEN")
_AUTHORITIES: Final = ("BAO_CACERT", "VAULT_CACERT")
_TOKEN_PATH: Final = "BAO_TOKEN_PATH"  # noqa: S105  (the name of a setting)
_TOKEN_FILE: Final = ".vault-token"  # noqa: S105  (where `bao login` and `vault login` keep it)
_NOT_ITS_OWN: Final = ("message authentication failed", "invalid ciphertext", "unable to decrypt")


@dataclass(frozen=True, slots=True)
class TransitKey:
    """A key by address of the server (without a slash at the end), path of the engine and name."""

    address: str
    mount: str
    key: str

    @classmethod
    def parse(cls, text: str) -> TransitKey:
        """From what is behind ``openbao:``. Raises ``UsageError``.

        The token goes there, so it must be HTTPS, or a listener or agent on this very machine.
        """
        parts = split_address(text)
        path = _PATH.fullmatch(parts.path)
        alone = text == f"{parts.scheme}://{parts.netloc}{parts.path}"
        if path is None or not alone or not _HOST.fullmatch(parts.netloc):
            msg = f"{OPENBAO}:{text}: is no address of a key of Transit"
            raise UsageError(msg, hint=f"Write {_FORM}.")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            msg = f"{OPENBAO}:{text}: would send the token in the clear"
            raise UsageError(msg, hint=f"Write {_FORM}; http:// is taken for this host alone.")
        return cls(f"{parts.scheme}://{parts.netloc.lower()}", path[1].rstrip("/"), path[2])

    @classmethod
    def of(cls, recipient: Recipient) -> TransitKey:
        """The key of a recipient. Raises ``IntegrityFailure``."""
        return read_key(recipient, 3, lambda *parts: cls.parse("/".join(parts)))

    @property
    def kind(self) -> str:
        """See ``KeyAddress``."""
        return OPENBAO

    @property
    def fields(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return self.address, self.mount, self.key

    @property
    def uri(self) -> str:
        """See ``KeyAddress``."""
        return f"{OPENBAO}:{'/'.join(self.fields)}"

    @property
    def identity(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return OPENBAO, *self.fields


class OpenBaoKey:
    """Seals and opens by asking Transit; the newest version of the key seals, each opens what it sealed."""

    def __init__(
        self, recipient: Recipient, environment: Mapping[str, str], client: Callable[[], Any] | None = None
    ) -> None:
        """``find_token`` says where the token comes from; ``BAO_ADDR`` or ``VAULT_ADDR`` says for whom it is.

        ``client`` is for tests.

        Raises ``IntegrityFailure`` for a recipient that names no such key.
        """
        self.recipient_id: Final = recipient.recipient_id
        self._key: Final = TransitKey.of(recipient)
        self._make = client or (lambda: _connect(self._key.address, environment))
        self._client: Any = None
        self._mutex = threading.Lock()

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        return self._ask(SEAL, "ciphertext", info, plaintext=_text(secret)).encode()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        if not _SEAL.fullmatch(sealed):
            raise faults.not_its_own(self._key.uri)
        plaintext = self._ask(OPEN, "plaintext", info, ciphertext=sealed.decode())
        try:
            return base64.b64decode(plaintext, validate=True)
        except ValueError as error:
            raise faults.not_its_own(self._key.uri) from error

    def __repr__(self) -> str:
        """The address."""
        return f"OpenBaoKey({self._key.uri})"

    def _ask(self, operation: Operation, wanted: str, info: bytes, **parameters: str) -> str:
        Context.of(info)
        bound = _text(info)  # a derived key wants a context, and one that is not derived passes over it
        try:
            transit = self._connected().secrets.transit
            answer = getattr(transit, operation.method)(
                name=self._key.key,
                mount_point=self._key.mount,
                associated_data=bound,
                context=bound,
                **parameters,
            )
            found = answer["data"][wanted]
        except DonjonError:
            raise
        except Exception as error:
            raise _translated(error, operation, self._key) from error
        if not isinstance(found, str):
            raise _translated(TypeError(f"no {wanted} in the answer"), operation, self._key)
        return found

    def _connected(self) -> Any:
        with self._mutex:
            if self._client is None:
                self._client = self._make()
            return self._client


def find_token(environment: Mapping[str, str]) -> str | None:
    """The token of this user: that of the environment, else of the file that `bao login` writes.

    ``BAO_TOKEN_PATH`` names another file.
    """
    for name in _TOKENS:
        if token := environment.get(name):
            return token
    try:
        home = Path(environment.get("HOME", "~")).expanduser()
        return Path(environment.get(_TOKEN_PATH) or home / _TOKEN_FILE).read_text().strip() or None
    except OSError:
        return None


def _check_trusted(address: str, environment: Mapping[str, str]) -> None:
    """Raises ``CredentialsRejected`` unless this host says that its token is for this very server.

    The address comes from the vault, and whoever made the vault would get the token otherwise.
    """
    told = next((value for name in _ADDRESSES if (value := environment.get(name))), "")
    parts = split_address(told.rstrip("/"))
    if f"{parts.scheme}://{parts.netloc.lower()}{parts.path}" != address:
        other = told or "BAO_ADDR is not set"
        msg = f"{address}: is not the server that the token of this host is for ({other})"
        raise CredentialsRejected(msg, hint=f"If you trust it with your token, set BAO_ADDR={address}.")


def _connect(address: str, environment: Mapping[str, str]) -> Any:
    try:
        import hvac  # here, for it takes longer to load than `donjon --version` may
    except ImportError as error:
        msg = "OpenBao needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[openbao]'") from error
    _check_trusted(address, environment)
    token = find_token(environment)
    if token is None:
        msg = f"{address}: there is no token for OpenBao"
        raise CredentialsRejected(msg, hint="Set BAO_TOKEN, or run `bao login`.")
    authority = next((path for name in _AUTHORITIES if (path := environment.get(name))), True)
    return hvac.Client(url=address, token=token, verify=authority, timeout=_TIMEOUT_S)


def _translated(error: Exception, operation: Operation, key: TransitKey) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from hvac import exceptions as sdk

    said = " ".join(str(error).split())
    reason = f"{key.uri}: cannot {operation.action} this key: {said or type(error).__name__}"
    again = (
        sdk.RateLimitExceeded, sdk.InternalServerError, sdk.BadGateway, sdk.VaultDown,
        sdk.VaultNotInitialized,
    )  # fmt: skip
    found: DonjonError
    if isinstance(error, (sdk.Forbidden, sdk.Unauthorized)):
        named = tuple(p.format(mount=key.mount, key=key.key) for p in operation.permissions)
        where = "in a policy of its token, or get a new token: it may have ended"
        found = faults.denied(key.uri, replace(operation, permissions=named), where)
    elif isinstance(error, sdk.InvalidRequest):
        found = _invalid(said, key, reason)
    elif isinstance(error, sdk.InvalidPath):
        found = faults.not_there(key.uri, f"Check that a Transit engine is mounted at {key.mount}.")
    elif isinstance(error, again):
        found = faults.unavailable(reason, "Look whether the server is sealed, then try again")
    elif isinstance(error, sdk.VaultError):
        found = KeyNotAvailable(reason, hint="Look at the server's log; the recovery kit opens all the same.")
    elif isinstance(error, OSError):
        found = faults.unavailable(reason, "Look at the address, the network and the certificate")
    elif isinstance(error, (KeyError, TypeError)):  # an answer without the field that was asked for
        found = faults.unavailable(reason, "Look for a proxy between here and the server")
    else:
        raise error
    return found


def _invalid(said: str, key: TransitKey, reason: str) -> KeyNotAvailable:
    if "key not found" in said:
        return faults.not_there(key.uri, "Check mount and name of the key.")
    if "disallowed by policy" in said:
        return KeyNotAvailable(
            f"{key.uri}: the seal is of a version of the key that may not open any more",
            hint=f"Lower min_decryption_version: bao write {key.mount}/keys/{key.key}/config "
            "min_decryption_version=1. The recovery kit opens all the same.",
        )
    if any(text in said for text in _NOT_ITS_OWN):
        return faults.not_its_own(key.uri)
    return KeyNotAvailable(
        reason, hint="The key must be of a type with associated data: aes256-gcm96 or chacha20-poly1305."
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
