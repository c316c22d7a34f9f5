"""A write session: from the first PUT to the signed manifest that commits a recovery point.

Every request is a create-only put or a read by a name that can be derived. Order of the puts: session
object, packs, index objects, manifest. A crash before the manifest leaves packs that the next session
of this host takes over.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from donjon.codec.chunk import Chunker
from donjon.codec.digest import digest
from donjon.codec.seal import new_key
from donjon.codec.sign import SigningKey
from donjon.core.clock import Clock
from donjon.core.errors import IntegrityFailure, ObjectExists, PermissionMissing, Refused
from donjon.format import names
from donjon.format.manifest import Manifest, PointBody, Use, bitmap, seal_body
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.pack import Frame, PackKind
from donjon.format.session import SessionObject, commitment
from donjon.format.table import PackRow, Table, build_table, seal_table
from donjon.format.vault import session_info
from donjon.repository.cache import Cache
from donjon.repository.chain import ManifestChain, first_free, is_there, numbers_from
from donjon.repository.epochs import read_epochs
from donjon.repository.index import Index
from donjon.repository.journal import Journal, Orphans
from donjon.repository.packer import Packer, SessionIdentity, counter
from donjon.repository.vault import Vault

#: An index object is put whenever this many new chunks are stored, which bounds memory and what a crash
#: on a host without its cache can cost.
CHECKPOINT_CHUNKS = 16_384

#: (session number, ordinal) of a pack of the session's writer.
PackNumber = tuple[int, int]


class WriteSession:
    """One session of one writer. ``claim``, ``store`` and ``rely_on`` may be called from many threads."""

    def __init__(
        self, vault: Vault, signing_key: SigningKey, writer: bytes, cache: Cache, clock: Clock
    ) -> None:
        """Start the session: bring the index up to date, take over orphans, put the session object."""
        self.vault = vault
        self.writer = writer
        self.warnings: list[str] = []
        self._signer = signing_key
        self._clock = clock
        self._cache = cache
        self._key = new_key()
        self._lock = threading.Lock()
        self._pending: list[tuple[PackRow, list[Frame]]] = []
        self._pending_chunks = 0
        self._parts = counter()
        self._known: dict[bytes, PackNumber | None] = {}
        self._used: set[PackNumber] = set()
        self._own: set[PackNumber] = set()
        self._reliable: dict[PackNumber, int] | None = None
        self._avoided: frozenset[PackNumber] = frozenset()
        self.bytes_stored = 0
        self.protected_until = 0
        self.manifest_name = ""
        self._check_writer()
        self._chain = ManifestChain(vault, signing_key, writer, cache, clock)
        self.index = Index(cache)
        self.index.load_cached(writer)
        self._ends = read_epochs(vault, cache)
        self._orphans = Orphans.find(cache, vault, writer)
        try:
            self._started_at = vault.store.now()
            self.lock_until = vault.lock_end() or 0
            self.number = self._open_session()
            self._journal = Journal(cache, writer, self.number)
        except BaseException:
            self._orphans.release()
            raise
        for row, frames in self._orphans.packs:
            self._remember(row, frames)
        self._packers = self._make_packers()

    # -- starting --------------------------------------------------------------------------------

    def _check_writer(self) -> None:
        writer = self.vault.keyring.writers.get(self.writer)
        if writer is None or writer.revoked_at is not None:
            state = "not certified for" if writer is None else "revoked in"
            msg = f"{self.vault.store.url}: the writer of this host is {state} this vault"
            hint = "Make a new credential with `donjon writer add NAME --out FILE`."
            raise PermissionMissing(msg, hint=hint)
        successions = self.vault.keyring.successions
        successions.read_on(self.vault.store, self.writer, writer.public)
        newest = [writer.public, *(key.public for key in successions.of(self.writer))][-1]
        if newest != self._signer.public:
            msg = f"{self.vault.store.url}: another key of this writer has taken over from that of this host"
            hint = (
                "Run `donjon credentials rotate writer` if a rotation was cut off here, or `donjon enrol "
                "FILE` if approvers allowed a new key. Otherwise somebody else has this credential: revoke "
                "the writer, and make a new one."
            )
            raise PermissionMissing(msg, hint=hint)

    def _open_session(self) -> int:
        """Put the session object under the first free number of this writer."""
        asked = any(member.recipient.is_service for member in self.vault.keyring.members.values())
        for number in numbers_from(self._first_guess()):
            if asked and is_there(self.vault, names.session(self.writer, number)):
                continue  # the seals are bound to the number, and each costs a call of a key service
            data = self._session_object(number)
            try:
                self.vault.store.put(
                    names.session(self.writer, number), data, retain_until=self.lock_until or None
                )
            except ObjectExists:
                continue
            self._catch_up(number)
            return number
        raise AssertionError

    def _session_object(self, number: int) -> bytes:
        vault = self.vault
        info = session_info(vault.vault_id, self.writer, number)
        seals = tuple(
            (member.recipient.recipient_id, vault.seal(member.recipient, self._key, info))
            for member in vault.keyring.members.values()
        )
        session = SessionObject(
            self.writer,
            number,
            self._clock(),
            vault.keyring.number,
            self.lock_until,
            commitment(self._key),
            seals,
        )
        return pack_object(ObjectKind.SESSION, session, vault.vault_id, self._signer)

    def _first_guess(self) -> int:
        """One past the last session this cache knows; without a cache, found by doubling steps."""
        try:
            return int(self._state_path().read_text().split()[0]) + 1
        except (FileNotFoundError, ValueError, IndexError):
            return first_free(lambda n: is_there(self.vault, names.session(self.writer, n)))

    def _catch_up(self, number: int) -> None:
        """Fetch the index objects of sessions that this cache has not seen through."""
        try:
            seen = int(self._state_path().read_text().split()[1])
        except (FileNotFoundError, ValueError, IndexError):
            seen = 0
        finished = seen
        for session in range(seen + 1, number):
            parts = self.index.sync_session(self.vault, self.writer, session)
            if finished == session - 1 and (parts or self._is_over(session)):
                finished = session
        self._cache.write(self._state_path(), [f"{number} {finished}\n".encode()])

    def _is_over(self, session: int) -> bool:
        """Whether a session without an index can no longer commit, so it is never asked for again."""
        try:
            started = self.vault.read_session(self.writer, session).started_at
        except IntegrityFailure:
            return True
        return abs(self.vault.store.now() - started) > self.vault.object.longest_backup_s

    def _state_path(self) -> Path:
        return self._cache.path("index", self.writer.hex(), "sessions")

    def _make_packers(self) -> dict[PackKind, Packer]:
        vault = self.vault
        identity = SessionIdentity(
            vault.vault_id, self._signer, self.writer, self.number, vault.secret.index_key, self._key
        )
        ordinals, numbers = counter(), counter()
        return {
            kind: Packer(kind, identity, ordinals, numbers, self.lock_until, self._store_pack)
            for kind in PackKind
        }

    # -- storing ---------------------------------------------------------------------------------

    @property
    def chunk_id_key(self) -> bytes:
        """The key of chunk ids."""
        return self.vault.secret.chunk_id_key

    def chunker(self) -> Chunker:
        """A new chunker for one thread."""
        return Chunker(self.vault.object.chunk_sizes, self.vault.secret.chunker_seed)

    def claim(self, chunk: bytes) -> bool:
        """Whether the caller has to store this chunk. Exactly one caller is told so for each chunk."""
        if chunk not in self._known:
            if self.rely_on(chunk):
                return False
            with self._lock:
                if chunk not in self._known:
                    self._known[chunk] = None
                    return True
        if place := self._known.get(chunk):  # else it is in work, or a checkpoint just moved it
            self._used.add(place)
        return False

    def rely_on(self, chunk: bytes) -> bool:
        """Whether the vault has this chunk in a pack that may be relied on; if so it counts as used."""
        return self.place(chunk) is not None

    def place(self, chunk: bytes) -> PackNumber | None:
        """The pack in which a chunk is, or will be once this session has stored what it holds.

        The pack counts as used. None for a chunk that is in no pack that may be relied on, or whose
        frame another thread is about to fill.
        """
        if (place := self._known.get(chunk)) is None:
            row = self.index.find(chunk, self.writer, self._lock_end)
            if row is None or not self._may_rely_on(row):
                return None
            place = (row.session, row.ordinal)
        self._used.add(place)
        return place

    def has(self, chunk: bytes) -> bool:
        """Like ``rely_on``, but does not count as a use."""
        row = self.index.find(chunk, self.writer, self._lock_end)
        return bool(self._known.get(chunk)) or (row is not None and self._may_rely_on(row))

    def may_use(self, packs: frozenset[PackNumber]) -> bool:
        """Whether all these packs of this writer may be relied on."""
        reliable = self._reliable_packs()
        return all(pack in reliable for pack in packs)

    def use_packs(self, packs: frozenset[PackNumber]) -> None:
        """Count packs as used that ``may_use`` allowed."""
        self._used |= packs

    def _reliable_packs(self) -> dict[PackNumber, int]:
        if self._reliable is None:
            self._reliable = {
                (row.session, row.ordinal): self._lock_end(row)
                for owner, row in self.index.packs()
                if owner == self.writer and row.name not in self.index.bad_packs and self._may_rely_on(row)
            }
        return self._reliable

    def avoid(self, packs: frozenset[PackNumber]) -> None:
        """Rely on none of these packs: what is needed of them is stored again. Comes before anything else."""
        self._avoided = packs
        self._reliable = None

    def _may_rely_on(self, row: PackRow) -> bool:
        return (row.session, row.ordinal) not in self._avoided and self._outlasts(self._lock_end(row))

    def _lock_end(self, row: PackRow) -> int:
        """Until when a pack of this writer is locked at least; the least for one that is avoided."""
        if (row.session, row.ordinal) in self._avoided:
            return -1
        return max(row.lock_until, self._ends.pack((self.writer, row.session, row.ordinal)))

    def _outlasts(self, lock_until: int) -> bool:
        return self.vault.outlasts_backup(lock_until, self._started_at)

    def store(self, kind: PackKind, raw: memoryview, chunks: list[tuple[bytes, int]]) -> None:
        """Store claimed chunks, end to end in ``raw``, as one frame. ``chunks`` are (id, length)."""
        place = (self.number, self._packers[kind].add(raw, chunks))
        for chunk, _ in chunks:
            self._known[chunk] = place

    def _store_pack(self, row: PackRow, frames: list[Frame], data: memoryview) -> None:
        self._journal.intend(row, frames)
        # If the name is taken a reply was lost, and this writer may not read packs to find out. It is the
        # digest of bytes that nobody else has seen: what is there is this pack, locked as it was put.
        with suppress(ObjectExists):
            self.vault.store.put(names.pack(row.name), data, retain_until=row.lock_until or None)
        self._journal.stored(row)
        with self._lock:
            self.bytes_stored += row.size_bytes
            self._own.add((row.session, row.ordinal))
        self._remember(row, frames)

    def _remember(self, row: PackRow, frames: list[Frame]) -> None:
        place = (row.session, row.ordinal)
        with self._lock:
            self._pending.append((row, frames))
            for frame in frames:
                self._pending_chunks += len(frame.chunks)
                for chunk, _ in frame.chunks:
                    self._known[chunk] = place
            full = self._pending_chunks >= CHECKPOINT_CHUNKS
            if not full:
                return
            packs, self._pending, self._pending_chunks = self._pending, [], 0
        self._checkpoint(packs)

    def _checkpoint(self, packs: list[tuple[PackRow, list[Frame]]]) -> None:
        """Put an index object for packs that are stored."""
        part = next(self._parts)
        data = build_table(packs)
        name = names.index(self.writer, self.number, part)
        index = seal_table(Table(data, name), self.vault.secret.index_key, self.writer, self.number, part)
        sealed = pack_object(ObjectKind.INDEX, index, self.vault.vault_id, self._signer)
        self.vault.store.put(name, sealed, retain_until=self.lock_until or None)
        with self._lock:
            self.bytes_stored += len(sealed)
        self.index.add(self.writer, self.number, part, data)
        with self._lock:  # from here on the index knows these chunks
            for _, frames in packs:
                for frame in frames:
                    for chunk, _ in frame.chunks:
                        self._known.pop(chunk, None)

    # -- ending ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Store all that is still open, packs and index. Afterwards every chunk has its place."""
        for packer in self._packers.values():
            packer.flush()
        with self._lock:
            packs, self._pending, self._pending_chunks = self._pending, [], 0
        if packs:
            self._checkpoint(packs)

    def commit(self, body: PointBody) -> bytes:
        """Put the manifest; the 32-byte id of the new recovery point. ``flush`` comes first.

        Raises ``Refused`` if the session took longer than the vault allows: a pack that it relied on
        may have lost its lock.
        """
        elapsed = self.vault.store.now() - self._started_at
        if elapsed > self.vault.object.longest_backup_s:
            msg = f"the backup took {elapsed} s, longer than this vault allows"
            raise Refused(msg, hint="Run it again: it goes on from what is stored by now.")
        used = self._used | self._own
        self.protected_until = self._protected_until(used)
        sealed = seal_body(self._key, body)
        uses = self._uses(used)

        def manifest(sequence: int, previous: bytes) -> Manifest:
            self.manifest_name = names.manifest(self.writer, sequence)
            return Manifest(
                self.writer,
                sequence,
                previous,
                self.number,
                self._clock(),
                self.protected_until,
                uses,
                sealed,
            )

        data = self._chain.append(manifest, self.lock_until)
        self.bytes_stored += len(data)
        self.warnings += self._chain.warnings
        self._journal.discard()
        self._orphans.discard()
        return digest(data)

    def close(self) -> None:
        """End without a commit; what is stored stays for the next session. Harmless after ``commit``."""
        self._journal.close()
        self._orphans.release()

    def _uses(self, used: set[PackNumber]) -> tuple[Use, ...]:
        sessions: dict[int, set[int]] = {}
        for session, ordinal in used:
            sessions.setdefault(session, set()).add(ordinal)
        return tuple(Use(self.writer, s, bitmap(ordinals)) for s, ordinals in sorted(sessions.items()))

    def _protected_until(self, used: set[PackNumber]) -> int:
        ends = [self.lock_until]
        locks = {(row.session, row.ordinal): self._lock_end(row) for _, row in self.index.packs()}
        ends += [locks.get(pack, self.lock_until) for pack in used]
        return min(ends)
