"""Where a bucket of S3 is attacked: the attacker, the canaries, and the eyes of whoever runs the drill."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from donjon.clouds import aws
from donjon.core.clock import iso
from donjon.core.errors import CredentialsRejected, DonjonError, PermissionMissing, StoreUnavailable
from donjon.drills.base import Answer, Leftover
from donjon.drills.canaries import Canary, MakeCanary

#: Long enough for all attacks, and short enough to be gone soon.
LOCK_S = 1_800
_DENIED = 403
_NO_CREDENTIALS = (
    aws.BAD_CREDENTIALS | aws.EXPIRED_CREDENTIALS | {"RequestTimeTooSkewed", "AuthorizationHeaderMalformed"}
)
#: How a server says that it has no such request; S3 answers 501 to headers and 405 to methods that it lacks.
_UNKNOWN = {405, 501}
#: The bucket is elsewhere, or not there for whoever asks: no refusal either.
_NOWHERE = {"NoSuchBucket", "PermanentRedirect", "TemporaryRedirect"}
_ATTEMPTS = 3
_PAUSE_S = 0.5
_SECOND_S = 1.1


@dataclass(frozen=True, slots=True)
class Held:
    """A canary in the bucket, as it was put. ``locked_until`` is in Unix seconds, None for no lock."""

    name: str
    key: str
    version_id: str | None
    sha256: bytes
    mode: str | None
    locked_until: int | None

    @property
    def place(self) -> dict[str, str]:
        """Key and version, as the SDK names them."""
        version = {"VersionId": self.version_id} if self.version_id else {}
        return {"Key": self.key, **version}


@dataclass
class Field:
    """One bucket, two credentials. ``now`` is the server's time in Unix seconds.

    ``attacker`` and ``eyes`` are clients of the SDK; the second is that of whoever runs the drill, which puts
    canaries, looks what became of them, and cleans up. ``is_aws`` is False for other servers, which may not
    keep to what AWS documents; ``intrusive`` says that what that could harm is to be tried all the same.
    """

    attacker: Any
    eyes: Any
    bucket: str
    prefix: str
    make: MakeCanary
    now: Callable[[], int]
    is_aws: bool = True
    intrusive: bool = False
    is_versioned: bool = True
    #: What is attacked; without any, canaries are put.
    targets: list[Held] = field(default_factory=list)
    _ever: list[Held] = field(default_factory=list)
    _default_mode: str | None = None
    _put_at: float = float("-inf")

    def prepare(self) -> None:
        """Look at the bucket, and put the first canaries.

        Raises ``PermissionMissing`` if neither credential may put one, ``CredentialsRejected``,
        ``StoreUnavailable``.
        """
        with contextlib.suppress(Unanswered):
            found = self.look(self.eyes.get_object_lock_configuration)
            rule = found.get("ObjectLockConfiguration", {}).get("Rule", {})
            self._default_mode = rule.get("DefaultRetention", {}).get("Mode")
        self.canaries()

    def canaries(self) -> list[Held]:
        """One that is locked as Donjon locks, and where others' objects get a weak lock, one with that too.

        Those that an attack has lost are made anew, so that each attack has sound ones.
        """
        if not self.targets:
            self.targets = [self._put("COMPLIANCE")]
            if self._default_mode == "GOVERNANCE":
                self.targets.append(self._put("GOVERNANCE"))
            self._ever += self.targets
        return self.targets

    def settle(self) -> None:
        """Wait until the canaries are older than a second.

        Some servers tell the versions of one second in no order, and then nobody could tell which was first.
        """
        time.sleep(max(0.0, self._put_at + _SECOND_S - time.monotonic()))

    def lost(self) -> tuple[str, ...] | None:
        """What became of the canaries that is a loss, empty if nothing, None if nobody here can see it."""
        losses: list[str] = []
        for canary in self.targets:
            try:
                losses += self._loss(canary)
            except Unanswered as error:
                if error.status == _DENIED:
                    return None
                raise StoreUnavailable(f"{canary.name}: {error}", hint="Run the drill again.") from error
        if losses:
            self.targets = []
        return tuple(losses)

    def look(self, method: Callable[..., Any], **parameters: Any) -> dict[str, Any]:
        """Ask something about the bucket with one's own eyes. Raises ``Unanswered``."""
        answer, data = ask(method, Bucket=self.bucket, **parameters)
        if not answer.accepted:
            raise Unanswered(answer)
        return data

    def adopt(self, canary: Canary, version_id: str | None, locked_until: int | None) -> None:
        """Note an object that the attacker was allowed to put, so that it is told of and cleaned up."""
        self._ever.append(Held(canary.name, self.prefix + canary.name, version_id, b"", None, locked_until))

    def clean(self) -> list[Leftover]:
        """Take away what can be taken away: first what lies over the canaries, then what is not locked."""
        left: list[Leftover] = []
        for canary in self._ever:
            for clients in ((self.eyes, self.attacker), (self.attacker, self.eyes)):
                with contextlib.suppress(Unanswered):
                    left += self._clean(canary, *clients)
                    break
            else:
                why = "nobody here may list it"
                left.append(Leftover(canary.name, canary.locked_until, why))
        return left

    # -- canaries ----------------------------------------------------------------------------------

    def _put(self, mode: str) -> Held:
        canary, until = self.make(), self.now() + LOCK_S
        answer, told = self._put_locked(self.eyes, canary, mode, until)
        if not answer.accepted and self.attacker is not self.eyes:
            answer, told = self._put_locked(self.attacker, canary, mode, until)
        if not answer.accepted:
            msg = f"{canary.name}: no canary could be put: {answer.text}"
            hint = "The drill needs a credential that may put: its own, or the attacker's."
            raise PermissionMissing(msg, hint=hint)
        self._put_at = time.monotonic()
        version = told.get("VersionId")
        self.is_versioned = version is not None
        locked = told["locked"]
        return Held(
            canary.name,
            self.prefix + canary.name,
            version,
            hashlib.sha256(canary.data).digest(),
            mode if locked else None,
            until if locked else None,
        )

    def _put_locked(
        self, client: Any, canary: Canary, mode: str, until: int
    ) -> tuple[Answer, dict[str, Any]]:
        place = {"Bucket": self.bucket, "Key": self.prefix + canary.name, "Body": canary.data}
        place |= {"IfNoneMatch": "*", "ChecksumAlgorithm": "SHA256"}
        lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": moment(until)}
        answer, told = ask(client.put_object, **place, **lock)
        if not answer.accepted and answer.text.startswith("400"):  # a bucket without locks
            answer, told = ask(client.put_object, **place)
            return answer, told | {"locked": False}
        return answer, told | {"locked": True}

    def _loss(self, held: Held) -> list[str]:
        """Raises ``Unanswered`` if it cannot be seen."""
        try:
            answer = self.look(self.eyes.get_object, **held.place)
        except Unanswered as error:
            if error.status in {404, 405}:  # of a version, and of one that is a delete marker now
                return ["the canary is gone"]
            raise
        if hashlib.sha256(answer["Body"].read()).digest() != held.sha256:
            return ["the canary has other bytes"]
        if held.mode is None:
            return []
        mode, until = answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")
        if mode is None:
            mode, until = self._lock(held)
        ends = int(until.timestamp()) if until else 0
        if mode is None or ends < (held.locked_until or 0):
            return [f"the lock of the canary ends at {iso(ends)}" if ends else "the canary has no lock"]
        if held.mode == "COMPLIANCE" and mode != "COMPLIANCE":
            return [f"the lock of the canary is in {mode} mode"]
        if (mode, ends) != (held.mode, held.locked_until):  # longer or stronger, as it may become
            self.targets[self.targets.index(held)] = replace(held, mode=mode, locked_until=ends)
        return []

    def _lock(self, held: Held) -> tuple[str | None, datetime | None]:
        """The lock, which an answer leaves out for those who may not see it. Raises ``Unanswered``."""
        try:
            found = self.look(self.eyes.get_object_retention, **held.place)["Retention"]
        except Unanswered as error:
            if error.status in {400, 404}:
                return None, None
            raise
        return found.get("Mode"), found.get("RetainUntilDate")

    # -- cleaning up -------------------------------------------------------------------------------

    def _clean(self, canary: Held, lister: Any, other: Any) -> Iterator[Leftover]:
        answer, found = ask(lister.list_object_versions, Bucket=self.bucket, Prefix=canary.key)
        if not answer.accepted:
            raise Unanswered(answer)
        entries = [entry for entry in found.get("DeleteMarkers", ()) if entry["Key"] == canary.key]
        entries += [entry for entry in found.get("Versions", ()) if entry["Key"] == canary.key]
        for entry in entries:
            where = {"Bucket": self.bucket, "Key": canary.key}
            if entry["VersionId"] != "null":
                where["VersionId"] = entry["VersionId"]
            said = ask(lister.delete_object, **where)[0]
            if not said.accepted and (other is lister or not ask(other.delete_object, **where)[0].accepted):
                yield Leftover(canary.name, self._ends(where), said.text)

    def _ends(self, where: dict[str, str]) -> int | None:
        _, found = ask(self.eyes.get_object_retention, **where)
        end = found.get("Retention", {}).get("RetainUntilDate")
        return int(end.timestamp()) if end else None


class Unanswered(Exception):
    """A request of one's own was refused."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.status = int(answer.text[:3]) if answer.text[:3].isdigit() else 0
        self.code = answer.text.partition(" ")[2]


def ask(method: Callable[..., Any], **parameters: Any) -> tuple[Answer, dict[str, Any]]:
    """One request, and what the server says. What it refuses is an answer like any other.

    A server that fails at this request again and again gives an answer that says nothing. Raises
    ``CredentialsRejected`` if it does not know the credential, for then it refuses everything and proves
    nothing, and ``StoreUnavailable`` if it does not answer at all.
    """
    return _ask(method, _ATTEMPTS, parameters)


def ask_once(method: Callable[..., Any]) -> tuple[Answer, dict[str, Any]]:
    """Like ``ask``, for something of little weight."""
    return _ask(method, 1, {})


def _ask(
    method: Callable[..., Any], attempts: int, parameters: dict[str, Any]
) -> tuple[Answer, dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    for attempt in range(1, attempts + 1):
        try:
            return Answer("accepted", accepted=True), method(**parameters)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = str(error.response.get("Error", {}).get("Code", ""))
            text = f"{status} {code}".strip() if code != str(status) else str(status)
            if code in _NO_CREDENTIALS:
                msg = f"the credential is not accepted: {text}"
                hint = "A refusal of everybody proves nothing. Renew the credential, or look at the profile."
                raise CredentialsRejected(msg, hint=hint) from error
            if status in _UNKNOWN or code in _NOWHERE:
                return Answer(text, is_known=False), {}
            if status < 500 and status != 429:
                return Answer(text), {}
            if attempt == attempts:
                return Answer(text, is_known=False), {}
        except BotoCoreError as error:
            if attempt == attempts:
                raise _unavailable(error) from error
        time.sleep(_PAUSE_S * attempt)
    raise AssertionError


def _unavailable(error: Exception) -> DonjonError:
    from botocore import exceptions as sdk

    text = " ".join(str(error).split())
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError | sdk.TokenRetrievalError):
        return CredentialsRejected(f"no usable credential: {text}", hint="Look at the profile.")
    return StoreUnavailable(f"the server does not answer: {text}", hint="Run the drill again.")


def moment(unix_seconds: int) -> datetime:
    """As the SDK takes it."""
    return datetime.fromtimestamp(unix_seconds, UTC)
