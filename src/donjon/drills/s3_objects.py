"""Attacks on objects in a bucket of S3. Each is tried on canaries, and on nothing else.

What S3 promises of locks: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from donjon.drills.base import ADMINISTRATOR, READING, Answer, Attack, NotTried, Role
from donjon.drills.s3_field import LOCK_S, Field, Held, Unanswered, ask, moment
from donjon.format import names

Way = Callable[[Field], Iterator[Answer]]

_GARBAGE = b"Your files are encrypted."
_CENTURY_S = 99 * 365 * 86_400
_SHORT_LOCK_S = 300
_BYPASS = {"BypassGovernanceRetention": True}
#: A key of no account that exists, and a version that no object has.
_FOREIGN_KEY = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-4000-8000-000000000000"
_PUTTING = frozenset({Role.WRITER, Role.ADMINISTRATOR})
#: S3 has one permission for a put that names its lock and for extending one.
_EXTENDING = frozenset({Role.WRITER, Role.CUSTODIAN, Role.ADMINISTRATOR})


def _each(method: str, **parameters: Any) -> Way:
    """The same request for every canary's version."""

    def way(place: Field) -> Iterator[Answer]:
        for canary in place.canaries():
            request = getattr(place.attacker, method)
            yield ask(request, Bucket=place.bucket, **canary.place, **parameters)[0]

    return way


def _locked(place: Field) -> list[Held]:
    """The canaries, if they are locked. Raises ``NotTried``."""
    if any(canary.mode is None for canary in place.canaries()):
        raise NotTried("nothing is locked in this bucket")
    return place.canaries()


def _batch(**parameters: Any) -> Way:
    """One request for all canaries, with an answer for each."""

    def way(place: Field) -> Iterator[Answer]:
        objects = {"Objects": [canary.place for canary in place.canaries()]}
        answer, told = ask(place.attacker.delete_objects, Bucket=place.bucket, Delete=objects, **parameters)
        if not answer.accepted:
            yield answer
        for error in told.get("Errors", ()):
            yield Answer(str(error.get("Code", "refused")))
        for _ in told.get("Deleted", ()):
            yield Answer("accepted", accepted=True)

    return way


def _retention(mode: str | None, later_s: int, **parameters: Any) -> Way:
    """Another lock for every canary, which ends so much later than its own, or earlier.

    Without a ``mode`` the canary keeps its own; one that is in this mode already is left out.
    """

    def way(place: Field) -> Iterator[Answer]:
        for canary in _locked(place):
            if canary.mode == mode:
                continue
            end = (canary.locked_until or place.now() + LOCK_S) + later_s
            yield ask(
                place.attacker.put_object_retention,
                Bucket=place.bucket,
                **canary.place,
                Retention={"Mode": mode or canary.mode, "RetainUntilDate": moment(end)},
                **parameters,
            )[0]

    return way


def _remove(place: Field) -> Iterator[Answer]:
    for canary in _locked(place):
        where = {"Bucket": place.bucket, **canary.place}
        yield ask(place.attacker.put_object_retention, **where, Retention={}, **_BYPASS)[0]


def _hide(place: Field) -> Iterator[Answer]:
    for canary in place.canaries():
        yield ask(place.attacker.delete_object, Bucket=place.bucket, Key=canary.key)[0]


def _overwrite(place: Field) -> Iterator[Answer]:
    """With a short lock, for the default of the bucket would be longer."""
    place.canaries()
    place.settle()
    for canary in place.canaries():
        request = {"Bucket": place.bucket, "Key": canary.key, "Body": _GARBAGE}
        yield _put_short(place, request, has_lock=canary.locked_until is not None)


def _put_short(place: Field, request: dict[str, Any], *, has_lock: bool) -> Answer:
    return ask(place.attacker.put_object, **request, **_short_lock(place, has_lock=has_lock))[0]


def _short_lock(place: Field, *, has_lock: bool) -> dict[str, Any]:
    """So that what the attacker puts can be cleaned up soon; a bucket without locks takes none."""
    if not has_lock:
        return {}
    return {
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": moment(place.now() + _SHORT_LOCK_S),
    }


def _ransom(place: Field) -> Iterator[Answer]:
    """Copy each canary over itself, under a key that only the attacker has (SSE-C)."""
    place.canaries()
    place.settle()
    key = secrets.token_bytes(32)
    customer = {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": base64.b64encode(key).decode(),
        "SSECustomerKeyMD5": base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
    }
    for canary in place.canaries():
        source = {"Bucket": place.bucket, **canary.place}
        yield ask(
            place.attacker.copy_object,
            Bucket=place.bucket,
            Key=canary.key,
            CopySource=source,
            **customer,
            **_short_lock(place, has_lock=canary.locked_until is not None),
        )[0]


def _swap_key(place: Field) -> Iterator[Answer]:
    """With a key that does not exist, so that a credential that may do it learns that (400 or 404).

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_UpdateObjectEncryption.html
    """
    if not place.is_aws:
        raise NotTried("only AWS has this request, and other servers take it for a put")
    for canary in place.canaries():
        answer = ask(
            place.attacker.update_object_encryption,
            Bucket=place.bucket,
            **canary.place,
            ObjectEncryption={"SSEKMS": {"KMSKeyArn": _FOREIGN_KEY}},
        )[0]
        is_denied = answer.text.startswith("403")
        yield Answer(answer.text, accepted=not is_denied, is_known=answer.is_known)


def _hold(place: Field) -> Iterator[Answer]:
    """Put a hold on each canary, and take it off at once: a hold has no end, and its object is paid for."""
    for canary in place.canaries():
        where = {"Bucket": place.bucket, **canary.place}
        try:
            answer = ask(place.attacker.put_object_legal_hold, **where, LegalHold={"Status": "ON"})[0]
        finally:
            off = {"LegalHold": {"Status": "OFF"}}
            if not ask(place.attacker.put_object_legal_hold, **where, **off)[0].accepted:
                ask(place.eyes.put_object_legal_hold, **where, **off)
        yield answer


def _bomb(place: Field) -> Iterator[Answer]:
    """Ask for a lock of 99 years, for a version that is not there, so that nothing gets it.

    S3 looks at permissions and their conditions before it looks for the object, so a credential that may do
    it learns that there is no such version (404, or 400 for an id of no possible form).
    """
    for canary in _locked(place):
        if canary.version_id is None:
            continue
        end = moment(place.now() + _CENTURY_S)
        other = canary.version_id[::-1]
        answer = ask(
            place.attacker.put_object_retention,
            Bucket=place.bucket,
            Key=canary.key,
            VersionId=other if other != canary.version_id else other[1:] + other[:1],
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": end},
        )[0]
        is_denied = answer.text.startswith("403")
        yield Answer(answer.text, accepted=not is_denied, is_known=answer.is_known)


def _put_new(place: Field) -> Iterator[Answer]:
    """One more canary, by the attacker, with a short lock."""
    canary, until = place.make(), place.now() + _SHORT_LOCK_S
    has_locks = any(other.locked_until for other in place.canaries())
    request = {"Bucket": place.bucket, "Key": place.prefix + canary.name, "Body": canary.data}
    answer = _put_short(place, request, has_lock=has_locks)
    if answer.accepted:
        place.adopt(canary, None, until if has_locks else None)
    yield answer


def _replace_vault(place: Field) -> Iterator[Answer]:
    """Put the vault object if it is not there. It is, so a credential that may put it learns that (412).

    Tried only where the server refuses to create a canary that is there already; and the bytes are the same.
    """
    (canary, *_) = place.canaries()
    key = f"{place.prefix}{names.VAULT}"
    try:
        same = place.look(place.eyes.get_object, Key=key)["Body"].read()
    except Unanswered as error:
        raise NotTried(f"the vault object is not seen ({error})") from error
    parameters = {"Bucket": place.bucket, "IfNoneMatch": "*", "Body": same}
    control = ask(place.attacker.put_object, **parameters | {"Key": canary.key})[0]
    theirs = ask(place.eyes.put_object, **parameters | {"Key": canary.key})[0]
    if not any(answer.text.startswith("412") for answer in (control, theirs)):
        raise NotTried("the server puts over what is there, whatever it is asked")
    answer = ask(place.attacker.put_object, **parameters, Key=key)[0]
    is_there = answer.text.startswith(("412", "409"))
    yield Answer(answer.text, accepted=is_there or answer.accepted, is_known=answer.is_known)


def _list(place: Field) -> Iterator[Answer]:
    request = {"Bucket": place.bucket, "Prefix": place.prefix, "MaxKeys": 1}
    yield ask(place.attacker.list_object_versions, **request)[0]
    yield ask(place.attacker.list_objects_v2, **request)[0]


def _read(place: Field) -> Iterator[Answer]:
    for canary in place.canaries():
        yield ask(place.attacker.get_object, Bucket=place.bucket, Key=canary.key)[0]
        yield ask(place.attacker.get_object, Bucket=place.bucket, **canary.place)[0]


OBJECT_ATTACKS: tuple[tuple[Attack, Way], ...] = (
    (Attack("delete-version", "delete a locked version"), _each("delete_object")),
    (
        Attack("delete-bypass", "delete a locked version, with the bypass of GOVERNANCE"),
        _each("delete_object", **_BYPASS),
    ),
    (Attack("delete-batch", "delete locked versions in a batch"), _batch()),
    (Attack("delete-batch-bypass", "delete in a batch, with the bypass"), _batch(**_BYPASS)),
    (Attack("shorten", "shorten a lock"), _retention(None, -LOCK_S // 2)),
    (
        Attack("shorten-bypass", "shorten a lock, with the bypass"),
        _retention(None, -LOCK_S // 2, **_BYPASS),
    ),
    (Attack("downgrade", "change a lock to GOVERNANCE"), _retention("GOVERNANCE", 60)),
    (
        Attack("downgrade-bypass", "change a lock to GOVERNANCE, with the bypass"),
        _retention("GOVERNANCE", 60, **_BYPASS),
    ),
    (Attack("remove-lock", "remove a lock"), _remove),
    (
        Attack("hold", "put a legal hold, and take it off", allowed=ADMINISTRATOR),
        _hold,
    ),
    (Attack("delete-marker", "hide an object with a delete marker", harmless=ADMINISTRATOR), _hide),
    (Attack("overwrite", "overwrite an object", harmless=_PUTTING), _overwrite),
    (
        Attack("ransom-copy", "re-encrypt in place with an own key (SSE-C)", harmless=ADMINISTRATOR),
        _ransom,
    ),
    (
        Attack("update-encryption", "swap the key of a stored version (UpdateObjectEncryption)"),
        _swap_key,
    ),
    (Attack("extend", "extend a lock by a minute", allowed=_EXTENDING), _retention(None, 60)),
    (Attack("lock-bomb", "extend a lock by 99 years", allowed=ADMINISTRATOR), _bomb),
    (Attack("put", "put a new object", allowed=_PUTTING), _put_new),
    (Attack("replace-vault", "put something over the vault object", harmless=ADMINISTRATOR), _replace_vault),
    (Attack("list", "list what there is", allowed=READING), _list),
    (Attack("read", "read a stored object", allowed=READING), _read),
)
