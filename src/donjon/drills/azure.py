"""Attacks on a vault in a container of Azure Blob Storage.

What Azure promises: https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies.
Lifecycle rules, roles and the versioning of the account belong to Azure Resource Manager and are not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from donjon.core.errors import CredentialsRejected, StoreUnavailable
from donjon.drills.base import ADMINISTRATOR, READING, Answer, Attack, NotTried, Role
from donjon.drills.ground import GARBAGE, LOCK_S, Attacks, Ground

#: Azure has one action for locking at a put, extending, and holds
#: (Microsoft.Storage/.../immutableStorage/runAsSuperUser/action).
_LOCKING = frozenset({Role.WRITER, Role.CUSTODIAN, Role.ADMINISTRATOR})
_NO_CREDENTIALS = {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
_UNKNOWN = {405, 501}


def ask(call: Callable[[], Any]) -> Answer:
    """See ``Ask``."""
    from azure.core.exceptions import AzureError, HttpResponseError

    try:
        call()
    except HttpResponseError as error:
        status = error.status_code or 0
        code = str(getattr(getattr(error, "error_code", ""), "value", getattr(error, "error_code", "")))
        if code in _NO_CREDENTIALS or status == 401:
            msg = f"the credential is not accepted: {status} {code}"
            raise CredentialsRejected(msg, hint="Renew it; a refusal of everybody proves nothing.") from error
        return Answer(f"{status} {code}".strip(), is_known=status < 500 and status not in _UNKNOWN)
    except AzureError as error:
        msg = f"Azure does not answer: {error.message}"
        raise StoreUnavailable(msg, hint="Run the drill again.") from error
    return Answer("accepted", accepted=True)


class _Container:
    """One container, by the SDK's client with the attacker's credential."""

    def __init__(self, container: Any, prefix: str) -> None:
        self._container, self._prefix = container, prefix

    def blob(self, name: str) -> Any:
        return self._container.get_blob_client(self._prefix + name)

    def delete_version(self, ground: Ground) -> Iterator[Answer]:
        """The current version cannot go by its id at all, so it is made a previous one first."""
        target = ground.target()
        yield ask(lambda: self.blob(target.name).delete_blob(version_id=target.version))
        if ask(lambda: self.blob(target.name).delete_blob()).accepted:
            ground.is_spent = True
            yield ask(lambda: self.blob(target.name).delete_blob(version_id=target.version))

    def hide(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: self.blob(ground.target().name).delete_blob())

    def overwrite(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: self.blob(ground.target().name).upload_blob(GARBAGE, overwrite=True))

    def policy(self, later_s: int, mode: str) -> Callable[[Ground], Iterator[Answer]]:
        def way(ground: Ground) -> Iterator[Answer]:
            from azure.storage.blob import ImmutabilityPolicy

            target, end = ground.locked()
            moment = datetime.fromtimestamp(end + later_s, UTC)
            wanted = ImmutabilityPolicy(expiry_time=moment, policy_mode=mode)
            yield ask(
                lambda: self.blob(target.name).set_immutability_policy(wanted, version_id=target.version)
            )

        return way

    def remove(self, ground: Ground) -> Iterator[Answer]:
        target, _ = ground.locked()
        yield ask(lambda: self.blob(target.name).delete_immutability_policy(version_id=target.version))

    def hold(self, ground: Ground) -> Iterator[Answer]:
        target, _ = ground.locked()
        try:
            yield ask(lambda: self.blob(target.name).set_legal_hold(True, version_id=target.version))
        finally:
            ask(lambda: self.blob(target.name).set_legal_hold(False, version_id=target.version))

    def put(self, ground: Ground) -> Iterator[Answer]:
        canary = ground.make()
        answer = ask(lambda: self.blob(canary.name).upload_blob(canary.data))
        if answer.accepted:
            ground.adopt(canary.name)
        yield answer

    def listing(self, ground: Ground) -> Iterator[Answer]:
        yield ask(lambda: next(iter(self._container.list_blobs(self._prefix, include=["versions"])), None))

    def read(self, ground: Ground) -> Iterator[Answer]:
        target = ground.target()
        yield ask(lambda: self.blob(target.name).download_blob(version_id=target.version).readall())

    def public(self, ground: Ground) -> Iterator[Answer]:
        """Put who may read without a credential as it is."""
        present: dict[str, Any] = {}
        looked = ask(lambda: present.update(self._container.get_container_access_policy()))
        if not looked.accepted:
            raise NotTried(f"its present value cannot be read ({looked.text})")
        signed = {one.id: one.access_policy for one in present["signed_identifiers"]}
        access = present["public_access"]
        yield ask(lambda: self._container.set_container_access_policy(signed, public_access=access))

    def delete_container(self, ground: Ground) -> Iterator[Answer]:
        ground.need_sure_ground("the container might be deleted though it is not empty")
        yield ask(self._container.delete_container)


def attacks(container: Any, prefix: str) -> Attacks:
    """All attacks. ``container`` is the SDK's client of it, with the attacker's credential."""
    by = _Container(container, prefix)
    return (
        (Attack("delete-version", "delete a locked version"), by.delete_version),
        (Attack("shorten", "shorten a lock"), by.policy(-LOCK_S // 2, "Locked")),
        (Attack("downgrade", "change a lock to an unlocked policy"), by.policy(60, "Unlocked")),
        (Attack("remove-lock", "remove a lock"), by.remove),
        (Attack("hold", "put a legal hold, and take it off", allowed=_LOCKING), by.hold),
        (Attack("delete-marker", "hide an object by deleting it", harmless=ADMINISTRATOR), by.hide),
        (Attack("overwrite", "overwrite an object", harmless=ADMINISTRATOR), by.overwrite),
        (Attack("extend", "extend a lock by a minute", allowed=_LOCKING), by.policy(60, "Locked")),
        (
            Attack("put", "put a new object", allowed=frozenset({Role.WRITER, Role.ADMINISTRATOR})),
            by.put,
        ),
        (Attack("list", "list what there is", allowed=READING), by.listing),
        (Attack("read", "read a stored object", allowed=READING), by.read),
        (Attack("public", "change who may read without a credential", allowed=ADMINISTRATOR), by.public),
        (Attack("delete-bucket", "delete the container"), by.delete_container),
    )
