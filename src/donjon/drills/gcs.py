"""Attacks on a vault in a bucket of Google Cloud Storage.

What Google promises: https://docs.cloud.google.com/storage/docs/object-lock.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from donjon.core.errors import CredentialsRejected, StoreUnavailable
from donjon.drills.base import ADMINISTRATOR, READING, Answer, Attack, NotTried, Role
from donjon.drills.ground import GARBAGE, LOCK_S, Attacks, Ground

#: Extending a lock and a hold need storage.objects.update, which a writer does without.
_UPDATING = frozenset({Role.CUSTODIAN, Role.ADMINISTRATOR})
_UNKNOWN = {405, 501}


def ask(call: Callable[[], Any]) -> Answer:
    """See ``Ask``."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    try:
        call()
    except GoogleAPICallError as error:
        status = int(error.code or 0)
        reasons = [str(one.get("reason", "")) for one in error.errors if isinstance(one, dict)]
        text = f"{status} {reasons[0] if reasons else ''}".strip()
        if status == 401:
            msg = f"the credential is not accepted: {text}"
            raise CredentialsRejected(msg, hint="Renew it; a refusal of everybody proves nothing.") from error
        return Answer(text, is_known=status < 500 and status not in _UNKNOWN)
    except GoogleAuthError as error:
        msg = f"no usable credential: {error}"
        raise CredentialsRejected(msg, hint="Run `gcloud auth application-default login`.") from error
    except OSError as error:  # and all errors of the library that carries requests
        msg = f"Google does not answer: {error}"
        raise StoreUnavailable(msg, hint="Run the drill again.") from error
    return Answer("accepted", accepted=True)


class _Bucket:
    """One bucket, by the SDK's own with the attacker's credential."""

    def __init__(self, bucket: Any, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    def blob(self, name: str, version: str | None = None, **options: Any) -> Any:
        generation = None if version is None else int(version)
        return self._bucket.blob(self._prefix + name, generation=generation, **options)

    def delete_version(self, ground: Ground) -> Iterator[Answer]:
        target = ground.target()
        yield ask(lambda: self.blob(target.name, target.version).delete(retry=None))

    def hide(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: self.blob(ground.target().name).delete(retry=None))

    def overwrite(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: self.blob(ground.target().name).upload_from_string(GARBAGE, retry=None))

    def retention(
        self, mode: str | None, later_s: int, *, override: bool
    ) -> Callable[[Ground], Iterator[Answer]]:
        def way(ground: Ground) -> Iterator[Answer]:
            target, end = ground.locked()
            weaker = self.blob(target.name, target.version)
            moment = datetime.fromtimestamp(end + later_s, UTC)
            weaker.retention.mode = mode
            weaker.retention.retain_until_time = moment if mode else None
            yield ask(lambda: weaker.patch(override_unlocked_retention=override or None, retry=None))

        return way

    def hold(self, ground: Ground) -> Iterator[Answer]:
        target = ground.target()

        def set_hold(on: bool) -> None:
            held = self.blob(target.name, target.version)
            held.temporary_hold = on
            held.patch(retry=None)

        try:
            yield ask(lambda: set_hold(True))
        finally:
            ask(lambda: set_hold(False))

    def ransom(self, ground: Ground) -> Iterator[Answer]:
        """Rewrite the canary over itself, under a key that only the attacker has."""
        target = ground.target()
        key = secrets.token_bytes(32)
        mine = self.blob(target.name, encryption_key=key)
        yield ask(lambda: mine.rewrite(self.blob(target.name, target.version), retry=None))

    def put(self, ground: Ground) -> Iterator[Answer]:
        canary = ground.make()
        answer = ask(
            lambda: self.blob(canary.name).upload_from_string(canary.data, if_generation_match=0, retry=None)
        )
        if answer.accepted:
            ground.adopt(canary.name)
        yield answer

    def listing(self, ground: Ground) -> Iterator[Answer]:
        yield ask(
            lambda: list(
                self._bucket.list_blobs(prefix=self._prefix, versions=True, max_results=1, retry=None)
            )
        )

    def read(self, ground: Ground) -> Iterator[Answer]:
        target = ground.target()
        yield ask(lambda: self.blob(target.name, target.version).download_as_bytes(retry=None))

    def policy(self, ground: Ground) -> Iterator[Answer]:
        """Put who may do what as it is; its etag makes that fail if somebody changes it meanwhile."""
        present: list[Any] = []
        looked = ask(lambda: present.append(self._bucket.get_iam_policy(retry=None)))
        if not looked.accepted:
            raise NotTried(f"its present value cannot be read ({looked.text})")
        yield ask(lambda: self._bucket.set_iam_policy(present[0], retry=None))

    def setting(self, name: str) -> Callable[[Ground], Iterator[Answer]]:
        """Put a setting of the bucket as it is."""

        def way(ground: Ground) -> Iterator[Answer]:
            looked = ask(lambda: self._bucket.reload(retry=None))
            if not looked.accepted:
                raise NotTried(f"its present value cannot be read ({looked.text})")
            present = getattr(self._bucket, name)
            setattr(self._bucket, name, list(present) if name == "lifecycle_rules" else present)
            yield ask(
                lambda: self._bucket.patch(retry=None, if_metageneration_match=self._bucket.metageneration)
            )

        return way

    def delete_bucket(self, ground: Ground) -> Iterator[Answer]:
        ground.need_sure_ground("the bucket might be deleted though it is not empty")
        yield ask(lambda: self._bucket.delete(force=False, retry=None))


def attacks(bucket: Any, prefix: str) -> Attacks:
    """All attacks. ``bucket`` is the SDK's own, with the attacker's credential."""
    by = _Bucket(bucket, prefix)
    return (
        (Attack("delete-version", "delete a locked version"), by.delete_version),
        (Attack("shorten", "shorten a lock"), by.retention("Locked", -LOCK_S // 2, override=True)),
        (Attack("downgrade", "change a lock to Unlocked"), by.retention("Unlocked", 60, override=True)),
        (Attack("remove-lock", "remove a lock"), by.retention(None, 0, override=True)),
        (Attack("hold", "put a temporary hold, and take it off", allowed=_UPDATING), by.hold),
        (Attack("delete-marker", "hide an object by deleting it", harmless=ADMINISTRATOR), by.hide),
        (Attack("overwrite", "overwrite an object", harmless=ADMINISTRATOR), by.overwrite),
        (
            Attack("ransom-copy", "re-encrypt in place with an own key (CSEK)", harmless=ADMINISTRATOR),
            by.ransom,
        ),
        (
            Attack("extend", "extend a lock by a minute", allowed=_UPDATING),
            by.retention("Locked", 60, override=False),
        ),
        (
            Attack("put", "put a new object", allowed=frozenset({Role.WRITER, Role.ADMINISTRATOR})),
            by.put,
        ),
        (Attack("list", "list what there is", allowed=READING), by.listing),
        (Attack("read", "read a stored object", allowed=READING), by.read),
        (Attack("policy", "change the bucket policy", allowed=ADMINISTRATOR), by.policy),
        (
            Attack("lifecycle", "let a lifecycle rule expire objects", allowed=ADMINISTRATOR),
            by.setting("lifecycle_rules"),
        ),
        (
            Attack("versioning", "change the versioning of the bucket", allowed=ADMINISTRATOR),
            by.setting("versioning_enabled"),
        ),
        (Attack("delete-bucket", "delete the bucket"), by.delete_bucket),
    )
