"""A symmetric key of Google Cloud KMS as a recipient.

The info of a seal is its additional authenticated data. Every request and answer carries checksums, and what
does not fit is asked for again: https://docs.cloud.google.com/kms/docs/data-integrity-guidelines. The primary
version seals, each enabled version opens what it sealed, and the ciphertext says which that was:
https://docs.cloud.google.com/kms/docs/key-states.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from donjon.core.errors import CredentialsRejected, DonjonError, KeyNotAvailable, UsageError
from donjon.core.operations import Operation
from donjon.keys import faults
from donjon.keys.address import read_key
from donjon.keys.base import GCP_KMS, Recipient
from donjon.keys.info import Context

#: https://docs.cloud.google.com/kms/docs/reference/permissions-and-roles
SEAL: Final = Operation("encrypt", "seal with", ("cloudkms.cryptoKeyVersions.useToEncrypt",))
OPEN: Final = Operation("decrypt", "open with", ("cloudkms.cryptoKeyVersions.useToDecrypt",))
#: What each method takes, for roles and their policies.
PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (SEAL,), "open": (OPEN,)}

_NAME: Final = re.compile(
    r"projects/([a-z0-9:.-]{1,100})/locations/([a-z0-9-]{1,63})"
    r"/keyRings/([A-Za-z0-9_-]{1,63})/cryptoKeys/([A-Za-z0-9_-]{1,63})"
)
_VERSION: Final = re.compile(r"cryptoKeyVersions/([0-9]+)")
_TIMEOUT_S: Final = 20.0
#: Statuses that say to try again: https://docs.cloud.google.com/kms/docs/reference/rest/v1/Code
_AGAIN: Final = {408, 429, 500, 502, 503, 504}
#: Longer than what Encrypt makes of 32 bytes, and shorter than what Decrypt refuses to look at.
_MAX_CIPHERTEXT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class GcpKey:
    """A key by its resource name."""

    name: str

    @classmethod
    def parse(cls, text: str) -> GcpKey:
        """From what is behind ``gcp-kms:``. Raises ``UsageError``."""
        if not _NAME.fullmatch(text):
            msg = f"{GCP_KMS}:{text}: is no name of a key"
            hint = "Write gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version."
            raise UsageError(msg, hint=hint)
        return cls(text)

    @classmethod
    def of(cls, recipient: Recipient) -> GcpKey:
        """The key of a recipient. Raises ``IntegrityFailure``."""
        return read_key(recipient, 1, cls.parse)

    @property
    def kind(self) -> str:
        """See ``KeyAddress``."""
        return GCP_KMS

    @property
    def fields(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return (self.name,)

    @property
    def uri(self) -> str:
        """See ``KeyAddress``."""
        return f"{GCP_KMS}:{self.name}"

    @property
    def identity(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return GCP_KMS, self.name

    def mend(self, verb: str, version: str) -> str:
        """The command that does ``verb`` to a version."""
        project, location, ring, key = self.name.split("/")[1::2]
        return (
            f"gcloud kms keys versions {verb} {version} --project {project} --location {location} "
            f"--keyring {ring} --key {key}"
        )


class GcpKmsKey:
    """Seals and opens by asking Cloud KMS."""

    def __init__(self, recipient: Recipient, client: Callable[[], Any] | None = None) -> None:
        """``client`` makes a client of the SDK, for tests.

        Raises ``IntegrityFailure`` for a recipient that names no such key.
        """
        self.recipient_id: Final = recipient.recipient_id
        self._key: Final = GcpKey.of(recipient)
        self._make = client or connect
        self._client: Any = None
        self._mutex = threading.Lock()

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        Context.of(info)
        answer = self._ask(
            SEAL,
            plaintext=secret,
            plaintext_crc32c=_crc(secret),
            additional_authenticated_data=info,
            additional_authenticated_data_crc32c=_crc(info),
        )
        ciphertext = bytes(answer.ciphertext)
        arrived = answer.verified_plaintext_crc32c and answer.verified_additional_authenticated_data_crc32c
        if not arrived or answer.ciphertext_crc32c != _crc(ciphertext):
            raise self._damaged(SEAL)
        if not answer.name.startswith(f"{self._key.name}/"):  # it says which version it used
            raise faults.not_its_own(self._key.name)
        return ciphertext

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        Context.of(info)
        if not 1 <= len(sealed) <= _MAX_CIPHERTEXT_BYTES:
            raise faults.not_its_own(self._key.name)
        answer = self._ask(
            OPEN,
            ciphertext=sealed,
            ciphertext_crc32c=_crc(sealed),
            additional_authenticated_data=info,
            additional_authenticated_data_crc32c=_crc(info),
        )
        plaintext = bytes(answer.plaintext)
        if answer.plaintext_crc32c != _crc(plaintext):
            raise self._damaged(OPEN)
        return plaintext

    def __repr__(self) -> str:
        """The address."""
        return f"GcpKmsKey({self._key.name})"

    def _ask(self, operation: Operation, **request: Any) -> Any:
        try:
            method = getattr(self._connected(), operation.method)
            return method(request={"name": self._key.name, **request}, retry=None, timeout=_TIMEOUT_S)
        except DonjonError:
            raise
        except Exception as error:
            raise _translated(error, operation, self._key) from error

    def _connected(self) -> Any:
        with self._mutex:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _damaged(self, operation: Operation) -> DonjonError:
        msg = f"{self._key.name}: cannot {operation.action} this key: bytes were damaged on the way"
        return faults.unavailable(msg)


def connect() -> Any:
    """A client of the SDK, with the credentials of the environment."""
    try:
        from google.cloud import kms_v1  # here, for it takes longer to load than `donjon --version` may
    except ImportError as error:
        msg = "Google Cloud KMS needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[gcp]'") from error
    return kms_v1.KeyManagementServiceClient(transport="rest")


def _crc(data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(data))


def _translated(error: Exception, operation: Operation, key: GcpKey) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    said = " ".join(str(getattr(error, "message", error)).split())
    reason = f"{key.name}: cannot {operation.action} this key: {said}"
    if isinstance(error, GoogleAPICallError):
        return _refusal(error, operation, key, reason)
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return CredentialsRejected(
            f"{key.name}: no valid Google credentials: {said}",
            hint="Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        )
    if not isinstance(error, (OSError, TransportError)):
        raise error
    return faults.unavailable(reason, "Look at the network and the state of Google Cloud")


def _refusal(error: Any, operation: Operation, key: GcpKey, reason: str) -> DonjonError:
    """Statuses: 400 with FAILED_PRECONDITION for a version that is not enabled, else for a bad seal."""
    code = int(error.code or 0)
    found: DonjonError
    if code in {401}:
        hint = "Renew the credentials, then run the command again."
        found = CredentialsRejected(f"{key.name}: the credentials are not accepted", hint=hint)
    elif code == 403:  # also for a key that does not exist, so as not to tell
        where = "on the key; the same answer is given if there is no such key, so check the name too"
        found = faults.denied(key.name, operation, where)
    elif code == 404:
        found = faults.not_there(key.name, "Check project, location, key ring and key.")
    elif code in _AGAIN:
        found = faults.unavailable(reason)
    elif code == 400 and status_of(error) == "FAILED_PRECONDITION":
        found = _not_enabled(key, reason)
    elif code == 400 and operation is OPEN:
        found = faults.not_its_own(key.name)
    else:
        found = KeyNotAvailable(reason, hint="Look at the key: it must be for ENCRYPT_DECRYPT.")
    return found


def _not_enabled(key: GcpKey, reason: str) -> KeyNotAvailable:
    named = _VERSION.search(reason)
    version = named[1] if named else "VERSION"
    if "DESTROY" in reason:
        mend = f"{key.mend('restore', version)} && {key.mend('enable', version)}"
        return faults.pending_deletion(key.name, mend)
    return faults.disabled(key.name, key.mend("enable", version))


def status_of(error: Any) -> str:
    """The name of the status; over REST only the body of the answer has it."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return str(getattr(getattr(error, "grpc_status_code", None), "name", ""))
