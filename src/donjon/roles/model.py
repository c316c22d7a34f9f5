"""What each of the five roles does: with which calls of a store on which objects, and with which keys.

This is the one place that says so. The policies of every cloud follow from it, through the tables in which
the adapters declare the permissions of their calls, and the tests compare it with the requests that the
commands really make.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from donjon.format import names

#: Stands for the id of a writer in the names of objects.
WRITER_ID = "{writer}"
#: Every object of the vault.
EVERYTHING = ("*",)


@dataclass(frozen=True, slots=True)
class Use:
    """One kind of call and the names of the objects it is made on.

    ``method`` is a key of the adapters' ``PERMISSIONS``. A name that ends in ``*`` stands for all that start
    so; without names the call is about the bucket itself.
    """

    method: str
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """One role. ``keys`` are ``seal`` or ``open``; who ``is_held_by_people`` is asked for a second factor.

    ``does`` and ``cannot`` are half-sentences for people.
    """

    name: str
    does: str
    cannot: str
    uses: tuple[Use, ...]
    keys: tuple[str, ...] = ()
    is_held_by_people: bool = False

    def for_writer(self, writer: str) -> Iterator[Use]:
        """What it does, with the id of one writer (hexadecimal) in the names."""
        for use in self.uses:
            yield Use(use.method, tuple(name.replace(WRITER_ID, writer) for name in use.objects))


def _own(folder: str) -> str:
    return f"{folder}{WRITER_ID}/*"


_OWN = (_own(names.SESSIONS), _own(names.INDEX), _own(names.MANIFESTS), _own(names.SUCCESSIONS))
_PUBLIC = (names.VAULT, f"{names.KEYRING}*", f"{names.EPOCHS}*")
#: Each carries signatures that whoever reads it checks; a checkpoint of another vault lies under witness/.
_CUSTODIANS = tuple(
    f"{folder}*"
    for folder in (names.APPROVALS, names.CERTIFICATES, names.CHECKPOINTS, names.EPOCHS, names.WITNESS)
)

WRITER = Role(
    "writer",
    "puts packs, and index objects, sessions, manifests and keys of its own; reads those of its own",
    "list, read packs or what other writers put, delete, or open any backup",
    (
        Use("put locked", (_own(names.SESSIONS), f"{names.PACKS}*", *_OWN[1:])),
        Use("get", _PUBLIC + _OWN),
        # When these came decides how far a writer relies on index objects and successions.
        Use("head", (_own(names.INDEX), _own(names.MANIFESTS), _own(names.SUCCESSIONS))),
    ),
    keys=("seal",),
)
READER = Role(
    "reader",
    "lists and reads everything, and opens session keys, to restore and to verify",
    "put, delete, or touch a lock",
    (
        Use("list"),
        Use("get version", EVERYTHING),
        Use("head version", EVERYTHING),
        Use("lock_enforcement"),
    ),
    keys=("open",),
    is_held_by_people=True,
)
CUSTODIAN = Role(
    "custodian",
    "lists and reads everything as it is stored, extends locks, and puts checkpoints, epoch objects and what "
    "approvers sign",
    "delete, put anything else, or open any backup",
    (
        Use("list"),
        Use("get version", EVERYTHING),
        Use("head version", EVERYTHING),
        Use("extend", EVERYTHING),
        Use("put locked", _CUSTODIANS),
        Use("lock_enforcement"),
    ),
)
REAPER = Role(
    "reaper",
    "lists and reads everything as it is stored, and deletes versions whose lock has ended",
    "put, touch a lock, or open any backup",
    (
        Use("list"),
        Use("get version", EVERYTHING),
        Use("head version", EVERYTHING),
        Use("delete_expired", EVERYTHING),
    ),
    is_held_by_people=True,
)
AUDITOR = Role(
    "auditor",
    "lists and reads everything as it is stored, and puts the evidence that it signs",
    "open any backup, or change anything",
    (
        Use("list"),
        Use("put locked", (f"{names.EVIDENCE}*",)),
        Use("get version", EVERYTHING),
        Use("head version", EVERYTHING),
        Use("lock_enforcement"),
    ),
)

ROLES: tuple[Role, ...] = (WRITER, READER, CUSTODIAN, REAPER, AUDITOR)
