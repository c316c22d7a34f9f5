"""What is wrong with a SAS or an account key of Azure Storage: facts, a role, limits and the time in. Pure.

SERVICE, ACCOUNT and DELEGATION are the documents that ``azure_sas`` names; PRACTICES is
https://learn.microsoft.com/azure/storage/common/storage-sas-overview#best-practices-when-using-sas
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from donjon.core.clock import iso
from donjon.credentials.azure_sas import Sas, SasKind
from donjon.credentials.azure_storage import Stored
from donjon.credentials.base import Credential
from donjon.credentials.findings import Finding, Limits, Severity, days, stored_secret, worst_first
from donjon.stores.azure_blob.operations import ADD, DELETE_CURRENT, DELETE_VERSION, IMMUTABLE, READ

#: The permission of a SAS for each data action (SERVICE, "Permissions for a directory, container, or blob").
#: ``c`` creates a blob and never overwrites one; ``a`` adds to append blobs, of which Donjon has none.
_LETTERS: Final[Mapping[str, str]] = {
    ADD: "c", READ: "r", IMMUTABLE: "i", DELETE_CURRENT: "d", DELETE_VERSION: "x",
}  # fmt: skip
_LIST: Final = "l"
#: What each permission lets its holder do to a vault (the same table, and ACCOUNT for f, u and p of queues).
_MEANINGS: Final[Mapping[str, str]] = {
    "r": "read every object", "l": "list the container", "a": "add to append blobs", "c": "create objects",
    "w": "overwrite objects", "d": "delete objects", "x": "delete versions",
    "y": "delete versions for good, past soft delete", "t": "read and set tags", "m": "move objects",
    "e": "read properties and access lists", "o": "take ownership", "p": "change permissions",
    "i": "set, and of unlocked policies remove, immutability, and clear legal holds",
    "f": "find objects by tag", "u": "change messages and table entities",
}  # fmt: skip
#: With these, what is in the vault can be destroyed, hidden or unlocked.
_DESTRUCTIVE: Final = frozenset("wdxymopi")


def letters_of(actions: Iterable[tuple[str, bool]]) -> frozenset[str]:
    """The permissions that a SAS needs for data actions, each with whether it is asked of the container.

    An action that no SAS can have, such as to read the properties of a container, takes none (SERVICE).
    """
    return frozenset(
        _LIST if of_container else _LETTERS[action] for action, of_container in actions if action in _LETTERS
    )


def find_azure(
    stored: Iterable[Stored], role: str, needed: frozenset[str], limits: Limits, now: int
) -> list[Finding]:
    """All findings, the worst first. ``needed`` are the permissions of the role; ``now`` in Unix seconds."""
    return worst_first(finding for one in stored for finding in _of_one(one, role, needed, limits, now))


def _of_one(stored: Stored, role: str, needed: frozenset[str], limits: Limits, now: int) -> Iterator[Finding]:
    one, sas = stored.credential, stored.sas
    yield from stored_secret(one)
    if stored.in_clear:
        yield Finding(
            "sent-in-clear", Severity.CRITICAL, one.id, f"{one.stored_in} has an address with http://",
            "Write https://. Who saw the traffic may have it: revoke it.",
        )  # fmt: skip
    if sas is None:
        yield Finding(
            "account-key", Severity.CRITICAL, one.id,
            "an account key may do everything, and no role, policy or time limits it",
            "Give an identity the role, forbid account keys (allowSharedKeyAccess=false), and renew the key.",
        )  # fmt: skip
        return
    yield from _times(one, sas, limits, now)
    yield from _reach(one, sas, role, needed)
    if "http" in sas.protocol.split(","):  # the default: SERVICE, "Specify the HTTP protocol"
        yield Finding(
            "plain-http", Severity.WARNING, one.id, f"{one.id} works over plain HTTP as well",
            "Make one with spr=https (`--https-only`).",
        )  # fmt: skip


def _times(one: Credential, sas: Sas, limits: Limits, now: int) -> Iterator[Finding]:
    begins, ends = sas.begins, sas.ends
    if ends is None:
        if not sas.policy:  # SERVICE: required, unless a stored access policy has it
            yield Finding(
                "no-expiry", Severity.CRITICAL, one.id, f"{one.id} has neither an end nor a policy with one",
                "Azure should refuse it. Make one that ends.",
            )  # fmt: skip
        return
    if now >= ends:
        yield Finding(
            "expired", Severity.CRITICAL if one.in_use else Severity.ADVICE, one.id,
            f"{one.id} has expired", _renewal(sas),
        )  # fmt: skip
        return
    if begins is not None and now < begins:
        yield Finding(
            "not-yet-valid", Severity.WARNING, one.id, f"{one.id} does not work before {iso(begins)}",
            "Wait, or make one that begins earlier.",
        )  # fmt: skip
    life_s = ends - (begins if begins is not None else now)
    if life_s > limits.max_age_s:  # PRACTICES: near-term expiration
        since = "" if begins is not None else " from now on"
        yield Finding(
            "long-lived", Severity.WARNING, one.id,
            f"{one.id} works for {days(life_s)}{since}, allowed are {days(limits.max_age_s)}",
            "Make one that ends sooner; a user delegation SAS ends within 7 days.",
        )  # fmt: skip
    # One for seven days would be due from its first day on.
    soon_s = limits.renew_before_s if begins is None else min(limits.renew_before_s, life_s // 4)
    if ends - now < soon_s:
        yield Finding(
            "expires-soon", Severity.WARNING, one.id, f"{one.id} ends at {iso(ends)}", _renewal(sas)
        )  # fmt: skip


def _reach(one: Credential, sas: Sas, role: str, needed: frozenset[str]) -> Iterator[Finding]:
    if sas.kind is SasKind.ACCOUNT:  # ACCOUNT: of whole services, and what no other SAS can do
        yield Finding(
            "over-privileged", Severity.CRITICAL, one.id,
            f"{one.id} reaches all containers of the account"
            + (", and may make and delete containers" if _manages_containers(sas) else ""),
            "Make a user delegation SAS of the vault's container.",
        )  # fmt: skip
    if sas.permissions is None or (sas.expires_at is None and sas.policy):
        yield Finding(
            "limits-unseen", Severity.WARNING, one.id,
            f"the stored access policy {sas.policy!r} has limits of {one.id} that Donjon cannot see",
            "Look at it: az storage container policy show.",
        )  # fmt: skip
    beyond = set(sas.permissions or "") - needed
    for letters, severity in (
        (beyond & _DESTRUCTIVE, Severity.CRITICAL),
        (beyond - _DESTRUCTIVE, Severity.WARNING),
    ):
        if letters:
            words = [f"{_MEANINGS.get(letter, 'do what Donjon does not know')} ({letter})" for letter in
                     sorted(letters)]  # fmt: skip
            yield Finding(
                "over-privileged", severity, one.id,
                f"{one.id} may {', '.join(words)}, which a {role} need not",
                f"Make one with sp={_ordered(needed)}, and name the role with --role if it is another.",
            )  # fmt: skip
    if sas.kind is not SasKind.DELEGATION:  # SERVICE, ACCOUNT: signed with the account key
        policy = f"deleting the policy {sas.policy!r} or " if sas.policy else ""
        text = f"no role holds it, and only {policy}renewing that key revokes it"
        yield Finding(
            "signed-with-account-key", Severity.WARNING, one.id,
            f"{one.id} is signed with the account key: {text}",
            "Let an identity sign it (user delegation SAS), then forbid account keys.",
        )  # fmt: skip


def _manages_containers(sas: Sas) -> bool:
    """ACCOUNT, "Blob service": Create Container takes ``c`` or ``w``, Delete Container ``d``."""
    return "c" in sas.resource_types and bool(set(sas.permissions or "") & set("cwd"))


def _renewal(sas: Sas) -> str:
    if sas.kind is SasKind.DELEGATION:
        return "Make the next one, or better use the identity that signs it."
    return "Make a user delegation SAS in its place, or better use an identity."


def _ordered(letters: frozenset[str]) -> str:
    """Those that a role can need, in the order that SERVICE prescribes."""
    return "".join(letter for letter in "rcdxli" if letter in letters)


def refusal(stored: Stored) -> tuple[str, str]:
    """Why Donjon does not rotate or retire this one, and what to do. For an error and its hint."""
    sas = stored.sas
    if sas is None:
        return (
            "an account key is not Donjon's to renew: every program with it would fail",
            "Move to an identity, then: az storage account keys renew --key primary, and the secondary one.",
        )
    what = f"a {sas.kind.words} cannot be changed, and Azure keeps no list of them"
    make = "Make a user delegation SAS in its place"
    if sas.kind is SasKind.DELEGATION:
        make = "Make the next one"
        revoke = "all of the account: az storage account revoke-delegation-keys"
    elif sas.policy:
        revoke = f"this one: az storage container policy delete --name {sas.policy!r}"
    else:
        revoke = "this one, renew the key that signed it: az storage account keys renew"
    return what, f"{make}: az storage container generate-sas --as-user. To revoke {revoke}."
