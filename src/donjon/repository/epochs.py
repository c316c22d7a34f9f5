"""Until when objects are locked, as custodians told in epoch objects. See ``docs/format.md``, "Epochs".

So neither a writer nor a custodian has to ask the store about each object. What the store says wins.
"""

from __future__ import annotations

from collections.abc import Iterable

from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound
from donjon.format import names
from donjon.format.epoch import Epoch
from donjon.format.manifest import PackKey
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.repository.cache import Cache
from donjon.repository.chain import first_free, is_there, numbers_from
from donjon.repository.credential import CustodianCredential
from donjon.repository.fetch import fetch_object
from donjon.repository.packbits import PackBits
from donjon.repository.vault import Vault


class LockEnds:
    """What the epochs of a vault say. All times are in Unix seconds by the store's clock, 0 for nothing."""

    def __init__(self) -> None:
        self._packs: dict[tuple[bytes, int], list[tuple[int, bytes]]] = {}
        self._names: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._packs or self._names)

    def add(self, epoch: Epoch) -> None:
        """Take in one epoch."""
        for use in epoch.packs:
            told = self._packs.setdefault((use.writer, use.session), [])
            told.append((epoch.until, use.bitmap))
            told.sort(reverse=True)
        for name in epoch.names:
            self._names[name] = max(epoch.until, self._names.get(name, 0))

    def pack(self, key: PackKey) -> int:
        """Until when a pack is locked at least."""
        writer, session, ordinal = key
        for until, bits in self._packs.get((writer, session), ()):
            if ordinal >> 3 < len(bits) and bits[ordinal >> 3] >> (ordinal & 7) & 1:
                return until
        return 0

    def name(self, name: str) -> int:
        """Until when another object is locked at least."""
        return self._names.get(name, 0)


def read_epochs(vault: Vault, cache: Cache) -> LockEnds:
    """What the epochs say whose locks have not ended.

    Damaged ones, and those of revoked custodians, say nothing. Needs no permission to list. Epochs are kept
    in the cache, and checked each time.
    """
    ends = LockEnds()
    now = vault.store.now()
    for number in range(_last_number(vault, cache), 0, -1):
        try:
            epoch = _read(vault, cache, number)
        except (IntegrityFailure, ObjectNotFound):
            continue
        if epoch.until <= now:  # and so are those before it
            break
        if vault.keyring.custodians[epoch.custodian].revoked_at is None:
            ends.add(epoch)
    return ends


def _read(vault: Vault, cache: Cache, number: int) -> Epoch:
    """One epoch, checked. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    name = names.epoch(number)
    path = cache.path("epochs", f"{number:08d}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = fetch_object(vault.store, name, ObjectKind.EPOCH)
        cache.write(path, [data])
    try:
        return parse_epoch(vault, data, name)
    except IntegrityFailure:
        path.unlink(missing_ok=True)
        raise


def parse_epoch(vault: Vault, data: bytes, name: str) -> Epoch:
    """An epoch with this name, its signature checked. Raises ``IntegrityFailure``."""
    epoch = parse_object(data, ObjectKind.EPOCH, Epoch, name)
    verify_object(data, vault.vault_id, vault.keyring.custodian(epoch.custodian, name).public, name)
    if name != names.epoch(epoch.number):
        msg = f"{name}: holds another epoch"
        raise IntegrityFailure(msg, hint="Objects were swapped. Do not trust this store.")
    return epoch


def _last_number(vault: Vault, cache: Cache) -> int:
    """The number of the newest epoch object, 0 if there is none."""
    known = [int(path.name) for path in (cache.folder / "epochs").glob("[0-9]*")]
    last = max(known, default=0)
    while is_there(vault, names.epoch(last + 1)):
        if last == 0:  # nothing is known here
            return first_free(lambda number: is_there(vault, names.epoch(number))) - 1
        last += 1
    return last


def put_epoch(
    vault: Vault, credential: CustodianCredential, until: int, packs: PackBits, others: Iterable[str]
) -> str:
    """Tell what was locked until then, in an object that is locked as long; its name."""
    uses, told = packs.uses(), tuple(sorted(others))
    taken = [info.name for info in vault.store.list(names.EPOCHS)]
    first = int(taken[-1].removeprefix(names.EPOCHS)) + 1 if taken else 1
    for number in numbers_from(first):
        epoch = Epoch(credential.custodian_id, number, vault.store.now(), until, uses, told)
        data = pack_object(ObjectKind.EPOCH, epoch, vault.vault_id, credential.signing_key)
        try:
            vault.store.put(names.epoch(number), data, retain_until=until)
        except ObjectExists:  # another custodian was first
            continue
        return names.epoch(number)
    raise AssertionError
