"""Attacks on the settings of a bucket of S3.

None of them changes anything. What is set is put once more as it is, and what is not set is deleted: S3 asks
for the same permission, and has no condition that tells one value from another. So a crash at any moment
leaves the bucket as it was. Whoever changes the same setting between the look and the put loses that change;
the time between is one request. A setting that nobody here can read is not tried.

The exceptions are the attacks marked as intrusive: what they change is put back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from donjon.drills.base import ADMINISTRATOR, Answer, Attack, NotTried
from donjon.drills.s3_field import Field, Unanswered, ask

_OF_BUCKETS = {"BucketNotEmpty", "BucketAlreadyExists", "BucketAlreadyOwnedByYou"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a bucket: how it is read, put as it is, and deleted.

    ``unset`` is the code by which S3 says that it is not set; ``delete`` is None where that is a value too.
    """

    read: str
    put: str
    again: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    unset: str = ""
    delete: str | None = None


def _member(name: str, argument: str | None = None) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    return lambda told: {argument or name: told[name]} if told.get(name) else None


def _versioning(told: Mapping[str, Any]) -> dict[str, Any] | None:
    return {"VersioningConfiguration": {"Status": told["Status"]}} if told.get("Status") else None


def _logging(told: Mapping[str, Any]) -> dict[str, Any]:
    enabled = told.get("LoggingEnabled")
    return {"BucketLoggingStatus": {"LoggingEnabled": enabled} if enabled else {}}


def _lifecycle(told: Mapping[str, Any]) -> dict[str, Any] | None:
    size = told.get("TransitionDefaultMinimumObjectSize")
    least = {"TransitionDefaultMinimumObjectSize": size} if size else {}
    rules = told.get("Rules")
    return {"LifecycleConfiguration": {"Rules": rules}, **least} if rules else None


def _change(setting: Setting) -> Callable[[Field], Iterator[Answer]]:
    def way(place: Field) -> Iterator[Answer]:
        before = _read(place, setting)
        if before is not None:
            yield _told(ask(getattr(place.attacker, setting.put), Bucket=place.bucket, **before)[0])
        elif setting.delete is not None:
            _need_sure_ground(place, "it is not set, and its deletion might be taken for that of the bucket")
            answer = ask(getattr(place.attacker, setting.delete), Bucket=place.bucket)[0]
            is_gone = answer.text.startswith("404")  # it may delete it, and learns that it is not there
            yield _told(replace(answer, accepted=answer.accepted or is_gone))
        else:
            raise NotTried("it is not set")
        _leave_as(place, setting, before)

    return way


def _told(answer: Answer) -> Answer:
    """The answer, and whether it says anything.

    A server that does not know a setting takes the request for one about the bucket, and one that does not
    understand the value (400) tells nothing of permissions.
    """
    code = answer.text.partition(" ")[2]
    is_known = answer.is_known and code not in _OF_BUCKETS and not answer.text.startswith("400")
    return replace(answer, is_known=is_known)


def _need_sure_ground(place: Field, why: str) -> None:
    """Raises ``NotTried`` where nothing vouches for a bucket that is not empty staying.

    AWS documents that it does. Others may delete it with all that is in it, as SeaweedFS does without locks,
    so there it is tried only if the user wants that, and below a lock that was seen to hold.
    """
    if place.is_aws:
        return
    if not place.intrusive:
        raise NotTried(f"{why} on a server other than AWS; --intrusive tries it")
    if place.lost() != () or not all(canary.mode == "COMPLIANCE" for canary in place.canaries()):
        raise NotTried(f"{why}, and no lock was seen to hold that would keep it")


def _read(place: Field, setting: Setting) -> dict[str, Any] | None:
    """What puts the present value again, None if it is not set. Raises ``NotTried``."""
    try:
        return setting.again(place.look(getattr(place.eyes, setting.read)))
    except Unanswered as error:
        if setting.unset and setting.unset in error.code:
            return None
        if error.status == 403:
            raise NotTried("its present value cannot be read, so it could not be left as it is") from error
        raise NotTried(f"the provider does not tell its present value ({error})") from error


def _leave_as(place: Field, setting: Setting, before: dict[str, Any] | None) -> None:
    """Put back a setting that was changed. Who interrupts that waits for it once more."""
    try:
        if _read(place, setting) != before:
            _put_back(place, setting, before)
    except KeyboardInterrupt:
        if _read(place, setting) != before:
            _put_back(place, setting, before)
        raise


def _put_back(place: Field, setting: Setting, before: dict[str, Any] | None) -> None:
    """Restore a setting that the server has changed all the same."""
    for client in (place.eyes, place.attacker):
        if before is not None:
            answer = ask(getattr(client, setting.put), Bucket=place.bucket, **before)[0]
        else:
            answer = ask(getattr(client, setting.delete or setting.put), Bucket=place.bucket)[0]
        if answer.accepted:
            return


_VERSIONING = Setting("get_bucket_versioning", "put_bucket_versioning", _versioning)
_DEFAULT_LOCK = Setting(
    "get_object_lock_configuration",
    "put_object_lock_configuration",
    _member("ObjectLockConfiguration"),
    "ObjectLockConfigurationNotFoundError",
)


def _suspend(place: Field) -> Iterator[Answer]:
    """For a moment, if the server lets it: with Object Lock it must refuse."""
    before = _read(place, _VERSIONING)
    if before is None or before["VersioningConfiguration"]["Status"] != "Enabled":
        raise NotTried("versioning is off")
    try:
        suspended = {"VersioningConfiguration": {"Status": "Suspended"}}
        yield ask(place.attacker.put_bucket_versioning, Bucket=place.bucket, **suspended)[0]
    finally:
        _leave_as(place, _VERSIONING, before)


def _weaken_default(place: Field) -> Iterator[Answer]:
    """For a moment: what is put without a lock of its own in this moment would get a weak one."""
    before = _read(place, _DEFAULT_LOCK)
    rule = (before or {}).get("ObjectLockConfiguration", {}).get("Rule", {})
    if before is None or "DefaultRetention" not in rule:
        raise NotTried("there is no default retention")
    weak = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    try:
        yield ask(
            place.attacker.put_object_lock_configuration,
            Bucket=place.bucket,
            ObjectLockConfiguration=weak,
        )[0]
    finally:
        _leave_as(place, _DEFAULT_LOCK, before)


def _delete_bucket(place: Field) -> Iterator[Answer]:
    """A bucket with anything in it cannot be deleted, and the canary is in it: looked at first."""
    _need_sure_ground(place, "it might be deleted though it is not empty")
    try:
        found = place.look(place.eyes.list_object_versions, Prefix=place.prefix, MaxKeys=1)
    except Unanswered as error:
        raise NotTried("nobody here can see whether anything is in it") from error
    if not found.get("Versions"):
        raise NotTried("it looks empty")
    yield ask(place.attacker.delete_bucket, Bucket=place.bucket)[0]


def _setting(name: str, what: str, setting: Setting) -> tuple[Attack, Callable[[Field], Iterator[Answer]]]:
    return Attack(name, what, allowed=ADMINISTRATOR), _change(setting)


SETTING_ATTACKS: tuple[tuple[Attack, Callable[[Field], Iterator[Answer]]], ...] = (
    _setting("versioning", "change the versioning of the bucket", _VERSIONING),
    _setting("default-lock", "change the default retention", _DEFAULT_LOCK),
    _setting(
        "policy",
        "change the bucket policy",
        Setting(
            "get_bucket_policy",
            "put_bucket_policy",
            _member("Policy"),
            "NoSuchBucketPolicy",
            "delete_bucket_policy",
        ),
    ),
    _setting(
        "lifecycle",
        "let a lifecycle rule expire objects",
        Setting(
            "get_bucket_lifecycle_configuration",
            "put_bucket_lifecycle_configuration",
            _lifecycle,
            "NoSuchLifecycleConfiguration",
            "delete_bucket_lifecycle",
        ),
    ),
    _setting(
        "replication",
        "replicate objects elsewhere",
        Setting(
            "get_bucket_replication",
            "put_bucket_replication",
            _member("ReplicationConfiguration"),
            "ReplicationConfigurationNotFoundError",
            "delete_bucket_replication",
        ),
    ),
    _setting(
        "logging",
        "disable the access log",
        Setting("get_bucket_logging", "put_bucket_logging", _logging),
    ),
    _setting(
        "encryption",
        "change the default encryption",
        Setting(
            "get_bucket_encryption",
            "put_bucket_encryption",
            _member("ServerSideEncryptionConfiguration"),
            "ServerSideEncryptionConfigurationNotFoundError",
            "delete_bucket_encryption",
        ),
    ),
    _setting(
        "public",
        "lift the block of public access",
        Setting(
            "get_public_access_block",
            "put_public_access_block",
            _member("PublicAccessBlockConfiguration"),
            "NoSuchPublicAccessBlockConfiguration",
            "delete_public_access_block",
        ),
    ),
    (Attack("suspend", "suspend versioning", intrusive=True), _suspend),
    (
        Attack("weaken-default", "weaken the default retention", allowed=ADMINISTRATOR, intrusive=True),
        _weaken_default,
    ),
    (Attack("delete-bucket", "delete the bucket"), _delete_bucket),
)
