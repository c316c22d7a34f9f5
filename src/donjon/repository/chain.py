"""The chain of manifests of one writer: numbered without gaps, each with the digest of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.clock import Clock, iso
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectHidden, ObjectNotFound
from donjon.format import names
from donjon.format.manifest import Manifest
from donjon.format.objects import ObjectKind, pack_object, parse_object
from donjon.repository.cache import Cache
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault

_FUTURE_S = 366 * 86_400
_PAST_S = 300
_MOST_TAKEN = 10_000
_NUMBER_BITS = 27  # names have eight digits


class ManifestChain:
    """The end of the chain, where the next manifest goes. ``warnings`` tells what was odd there."""

    def __init__(
        self, vault: Vault, signing_key: SigningKey, writer: bytes, cache: Cache, clock: Clock
    ) -> None:
        self.warnings: list[str] = []
        self._vault = vault
        self._signer = signing_key
        self._writer = writer
        self._clock = clock
        self._path = cache.path("index", writer.hex(), "sequence")
        self._cache = cache

    def append(self, make: Callable[[int, bytes], Manifest], lock_until: int) -> bytes:
        """Put what ``make`` returns for a sequence number and the digest before it; the bytes put.

        Raises ``IntegrityFailure`` if the manifest before is gone and this host did not see it itself.
        """
        for sequence in numbers_from(self._next_number()):
            manifest = make(sequence, self._previous_digest(sequence))
            data = pack_object(ObjectKind.MANIFEST, manifest, self._vault.vault_id, self._signer)
            name = names.manifest(self._writer, sequence)
            try:
                self._vault.store.put(name, data, retain_until=lock_until or None)
            except ObjectExists:  # a concurrent session of this writer was first
                continue
            self._cache.write(self._path, [f"{sequence} {digest(data).hex()}\n".encode()])
            return data
        raise AssertionError

    def _last_seen(self) -> tuple[int, bytes] | None:
        """Number and digest of the last manifest that this cache has seen."""
        try:
            sequence, last = self._path.read_text().split()
            return int(sequence), bytes.fromhex(last)
        except (FileNotFoundError, ValueError):
            return None

    def _next_number(self) -> int:
        if last := self._last_seen():
            return last[0] + 1
        return first_free(lambda n: is_there(self._vault, names.manifest(self._writer, n)))

    def _previous_digest(self, sequence: int) -> bytes:
        """The digest of the manifest before, with a look at its time, as clocks go wrong."""
        if sequence == 1:
            return bytes(32)
        name = names.manifest(self._writer, sequence - 1)
        last = self._last_seen()
        pinned = last[1] if last and last[0] == sequence - 1 else None
        try:
            data = fetch_object(self._vault.store, name, ObjectKind.MANIFEST)
        except ObjectNotFound as error:
            msg = f"{name}: is missing: somebody deleted or hid a recovery point"
            if pinned is None:
                raise IntegrityFailure(msg, hint="Run `donjon verify`; ask who can delete there.") from error
            self.warnings.append(msg)
            return pinned
        manifest = parse_object(data, ObjectKind.MANIFEST, Manifest, name)
        self._vault.verify_by_writer(data, self._writer, name)
        if pinned not in (None, digest(data)):
            self.warnings.append(f"{name}: is not the manifest that this host put there")
        if warning := clock_warning(self._clock(), manifest.created_at):
            self.warnings.append(warning)
        return pinned or digest(data)


def clock_warning(now: int, last: int) -> str | None:
    """What is odd about a clock that shows ``now`` when the backup before was made at ``last``."""
    if now < last - _PAST_S:
        return f"the clock shows {iso(now)}, before the last backup ({iso(last)}): check the clock"
    if now > last + _FUTURE_S:
        return f"the clock shows {iso(now)}, over a year after the last backup ({iso(last)}): check the clock"
    return None


def is_there(vault: Vault, name: str) -> bool:
    """Whether the store has this object."""
    try:
        vault.store.get(name, length=1)
    except ObjectHidden:  # a put under a delete marker would be covered by what is below it
        return True
    except ObjectNotFound:
        return False
    return True


def numbers_from(number: int) -> Iterator[int]:
    """The numbers to try one after the other, as others may take them at the same time.

    Raises ``IntegrityFailure`` where no honest store would still say that the next one is taken.
    """
    yield from range(number, number + _MOST_TAKEN)
    msg = f"the store says that {_MOST_TAKEN} new numbers are taken already"
    raise IntegrityFailure(msg, hint="Do not trust this store; find out what answers there.")


def first_free(taken: Callable[[int], bool]) -> int:
    """The smallest number from 1 on that is not taken, when all below it are: O(log n) questions.

    Raises ``IntegrityFailure`` if every number that a name can hold is said to be taken.
    """
    step = next((1 << k for k in range(_NUMBER_BITS) if not taken(1 << k)), None)
    if step is None:
        msg = "the store says that it has every object it is asked for"
        raise IntegrityFailure(msg, hint="Do not trust this store; find out what answers there.")
    low, high = step // 2, step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return high
