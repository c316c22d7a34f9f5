"""Which copies are lost together. Pure. See ``docs/3-2-1.md``, "Shared fate"."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.plan.copies import Copy


def shared_fate(one: Copy, other: Copy) -> tuple[str, ...]:
    """What one event takes both copies with, for people; empty if they are lost only by two.

    A copy of which nobody knows where it is shares the fate of every other.
    """
    found = [f"the storage {one.storage}"] if one.storage and one.storage == other.storage else []
    if one.place is None or other.place is None:
        unknown = one if one.place is None else other
        return (*found, f"nothing tells where {unknown.title} is")
    if one.place.account_id == other.place.account_id:
        found.append(f"the account {one.place.account_id}")
    if one.place.region_id == other.place.region_id:
        found.append(f"the region {one.place.region_id}")
    found += [f"the administrator {who}" for who in sorted(administrators(one) & administrators(other))]
    if one.place.account_id != other.place.account_id and (key := _shared_key(one, other)):
        found.append(key)
    return tuple(found)


def administrators(copy: Copy) -> frozenset[str]:
    """Who can destroy a copy, as far as is known."""
    return copy.place.administrators if copy.place is not None else frozenset()


def only_owner(copy: Copy) -> str:
    """Who alone can take away all keys of a copy; empty if it takes several, or if it is not encrypted."""
    owners = {key.owner for key in copy.keys}
    return owners.pop() if len(owners) == 1 else ""


def key_fate(copy: Copy, other: Copy) -> str:
    """Whether the account that holds another copy can take away all keys of this one; empty if not."""
    owner = only_owner(copy)
    if other.place is not None and owner == other.place.account_id:
        return f"all keys of {copy.title} are in the account of {other.title}, {owner}"
    return ""


def _shared_key(one: Copy, other: Copy) -> str:
    if told := key_fate(one, other) or key_fate(other, one):
        return told
    owner = only_owner(one)
    if not owner or owner != only_owner(other):
        return ""
    ids = {key.key_id for copy in (one, other) for key in copy.keys}
    return f"the key {ids.pop()}" if len(ids) == 1 else f"keys that {owner} alone holds"


def separate(copies: Sequence[Copy]) -> int:
    """How many of these copies at most share no fate with each other, two by two.

    That is the size of the largest independent set of the graph of shared fates: a further copy never makes
    it smaller, and a further shared fate never larger.
    """
    together = {
        (i, k)
        for i, one in enumerate(copies)
        for k, other in enumerate(copies)
        if i != k and shared_fate(one, other)
    }

    def largest(left: tuple[int, ...]) -> int:
        if not left:
            return 0
        first, rest = left[0], left[1:]
        apart = tuple(k for k in rest if (first, k) not in together)
        taken = 1 + largest(apart)
        return taken if apart == rest else max(taken, largest(rest))

    return largest(tuple(range(len(copies))))
