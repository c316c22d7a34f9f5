"""A symmetric key of AWS KMS as a recipient.

The encryption context ties every seal to vault and session, and CloudTrail shows it. Source of what follows:
https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html, API_Decrypt.html and
https://docs.aws.amazon.com/kms/latest/developerguide/multi-region-keys-overview.html.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from donjon.clouds import aws
from donjon.core.errors import DonjonError, KeyNotAvailable, UsageError
from donjon.core.operations import Operation
from donjon.keys import faults
from donjon.keys.address import read_key
from donjon.keys.base import AWS_KMS, Recipient
from donjon.keys.info import Context

#: "Actions, resources, and condition keys for AWS Key Management Service",
#: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awskeymanagementservice.html
SEAL: Final = Operation("encrypt", "seal with", ("kms:Encrypt",))
OPEN: Final = Operation("decrypt", "open with", ("kms:Decrypt",))
#: What each method takes, for roles and their policies.
PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (SEAL,), "open": (OPEN,)}

_ARN: Final = re.compile(r"arn:(aws[a-z-]*):kms:([a-z0-9-]+):([0-9]{12}):key/([A-Za-z0-9-]{1,128})")
_MULTI_REGION: Final = "mrk-"
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 20
#: As many as sessions are sealed side by side.
_CONNECTIONS: Final = 10
#: CiphertextBlob of Decrypt: 1 to 6,144 bytes.
_MAX_CIPHERTEXT_BYTES: Final = 6144

_NOT_ITS_OWN: Final = {"InvalidCiphertextException", "IncorrectKeyException"}
_DENIED: Final = {"AccessDeniedException", "AccessDenied"}
_AGAIN: Final = {
    *aws.THROTTLED, "DependencyTimeoutException", "KeyUnavailableException", "KMSInternalException",
    "ServiceUnavailable", "InternalFailure",
}  # fmt: skip
#: What a signature whose date is off is told, whatever the code:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
_SKEWED: Final = ("Signature expired", "Signature not yet current", "RequestTimeTooSkewed")
#: KMS names one state or the other for the same key: "Key states of AWS KMS keys",
#: https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
_STATE: Final = {"DisabledException", "KMSInvalidStateException"}


@dataclass(frozen=True, slots=True)
class AwsKey:
    """A key by its ARN."""

    arn: str

    @classmethod
    def parse(cls, text: str) -> AwsKey:
        """From what is behind ``aws-kms:``. Raises ``UsageError``."""
        if not _ARN.fullmatch(text):
            msg = f"{AWS_KMS}:{text}: is no ARN of a key"
            hint = "Write aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID; aliases can be moved and are not taken."
            raise UsageError(msg, hint=hint)
        return cls(text)

    @classmethod
    def of(cls, recipient: Recipient) -> AwsKey:
        """The key of a recipient. Raises ``IntegrityFailure``."""
        return read_key(recipient, 1, cls.parse)

    @property
    def kind(self) -> str:
        """See ``KeyAddress``."""
        return AWS_KMS

    @property
    def fields(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return (self.arn,)

    @property
    def uri(self) -> str:
        """See ``KeyAddress``."""
        return f"{AWS_KMS}:{self.arn}"

    @property
    def identity(self) -> tuple[str, ...]:
        """The ARN; all replicas of a multi-Region key are the same key."""
        return (AWS_KMS, self.in_region("*") if self.is_multi_region else self.arn)

    @property
    def region(self) -> str:
        """Where it is asked."""
        return self.arn.split(":")[3]

    @property
    def is_multi_region(self) -> bool:
        """Whether it may have replicas in other regions, which open the same seals."""
        return self.arn.split("/")[1].startswith(_MULTI_REGION)

    def in_region(self, region: str) -> str:
        """The ARN of its replica there."""
        parts = self.arn.split(":")
        return ":".join((*parts[:3], region, *parts[4:]))


class AwsKmsKey:
    """Seals and opens by asking KMS, in the region of the key.

    A multi-Region key is asked in the region that the user chose for the SDK as well, if the one of the ARN
    does not serve.
    """

    def __init__(
        self,
        recipient: Recipient,
        clients: Callable[[str], Any] | None = None,
        default_region: Callable[[], str | None] | None = None,
    ) -> None:
        """``clients`` makes a client of boto3 for a region; ``default_region`` tells the user's. For tests.

        Raises ``IntegrityFailure`` for a recipient that names no such key.
        """
        self.recipient_id: Final = recipient.recipient_id
        self._key: Final = AwsKey.of(recipient)
        self._make = clients or _connect
        self._default_region = functools.cache(default_region or (lambda: aws.default_region("AWS KMS")))
        self._clients: dict[str, Any] = {}
        self._mutex = threading.Lock()

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``."""
        answer = self._ask(SEAL, EncryptionContext=encryption_context(info), Plaintext=secret)
        return bytes(answer["CiphertextBlob"])

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        if not 1 <= len(sealed) <= _MAX_CIPHERTEXT_BYTES:
            raise faults.not_its_own(self._key.arn)
        answer = self._ask(OPEN, EncryptionContext=encryption_context(info), CiphertextBlob=sealed)
        return bytes(answer["Plaintext"])

    def __repr__(self) -> str:
        """The address."""
        return f"AwsKmsKey({self._key.arn})"

    def _ask(self, operation: Operation, **parameters: Any) -> dict[str, Any]:
        first: KeyNotAvailable | None = None
        for region in self._regions():
            arn = self._key.in_region(region)
            try:
                return self._ask_in(region, arn, operation, parameters)
            except KeyNotAvailable as error:
                first = first or error
        assert first is not None  # noqa: S101  (there is one region at least)
        raise first

    def _regions(self) -> list[str]:
        regions = [self._key.region]
        if self._key.is_multi_region and (other := self._default_region()) not in (None, *regions):
            regions.append(str(other))
        return regions

    def _ask_in(
        self, region: str, arn: str, operation: Operation, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client(region), operation.method)(KeyId=arn, **parameters)
        except DonjonError:
            raise
        except Exception as error:
            raise _translated(error, operation, arn) from error
        if answer.get("KeyId") != arn:  # it says which key it used
            raise faults.not_its_own(arn)
        return answer

    def _client(self, region: str) -> Any:
        with self._mutex:
            if region not in self._clients:
                self._clients[region] = self._make(region)
            return self._clients[region]


def encryption_context(info: bytes) -> dict[str, str]:
    """What KMS binds a seal to, logs, and lets policies test. Raises ``KeyNotAvailable`` for an odd info."""
    context = Context.of(info)
    session = {"donjon:session": context.session} if context.session else {}
    return {"donjon:vault": context.vault, "donjon:purpose": context.purpose} | session


def _connect(region: str) -> Any:
    return aws.client(
        "kms",
        "AWS KMS",
        region=region,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
    )


def _translated(error: Exception, operation: Operation, arn: str) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from botocore.exceptions import BotoCoreError, ClientError

    if fault := aws.common_fault(error, arn):
        return fault
    reason = f"{arn}: cannot {operation.action} this key: {aws.one_line(error)}"
    if isinstance(error, ClientError):
        return _refusal(error.response, operation, arn, reason)
    if not isinstance(error, (BotoCoreError, OSError)):
        raise error
    return faults.unavailable(reason, "Look at the network, the region in the ARN and the state of AWS")


def _refusal(response: dict[str, Any], operation: Operation, arn: str, reason: str) -> DonjonError:
    details = response.get("Error", {})
    code, message = str(details.get("Code", "")), str(details.get("Message", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    where = "in its own policy and in the policy of the key, and look for a Deny or a condition"
    found: DonjonError
    if code in _NOT_ITS_OWN:
        found = faults.not_its_own(arn)
    elif code in _STATE:
        found = _not_usable(arn, message, reason)
    elif code == "NotFoundException":
        found = faults.not_there(arn, "Check the region and the account in the ARN.")
    elif code in _DENIED:
        found = faults.denied(arn, operation, where)
    elif code in _AGAIN or status in {429, 500, 502, 503, 504}:
        found = faults.unavailable(reason)
    elif any(text in f"{code} {message}" for text in _SKEWED):
        found = KeyNotAvailable(
            f"{arn}: the clock of this host is wrong: {message or code}",
            hint="Set the clock of this host (timedatectl set-ntp true), then try again.",
        )
    elif code in aws.EXPIRED_CREDENTIALS:
        found = aws.expired(arn, message)
    elif code in aws.BAD_CREDENTIALS:
        found = aws.not_accepted(arn, message)
    else:
        found = KeyNotAvailable(reason, hint="Look at the key: it must be symmetric, for ENCRYPT_DECRYPT.")
    return found


def _not_usable(arn: str, message: str, reason: str) -> KeyNotAvailable:
    about = f"--region {arn.split(':')[3]} --key-id {arn}"
    if "delet" in message.lower():
        return faults.pending_deletion(
            arn, f"aws kms cancel-key-deletion {about} && aws kms enable-key {about}"
        )
    if "disabled" in message.lower():
        return faults.disabled(arn, f"aws kms enable-key {about}")
    return KeyNotAvailable(reason, hint="Look at the state of the key; the recovery kit opens all the same.")
