"""A writer's new key that approvers allow: what counts afterwards, and what nobody can make of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    KeyNotAvailable,
    NotApproved,
    ObjectExists,
    PermissionMissing,
    Refused,
    StoreUnavailable,
    UsageError,
)
from donjon.format import names
from donjon.format.approval import Approval, WriterKey, approval_message
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.succession import AllowedSuccession, make_succession, parse_succession
from donjon.format.vault import Action, VaultSecret
from donjon.keys.recovery import kit_to_text
from donjon.plan.retention import Policy
from donjon.repository.allowed_keys import name_key, next_key
from donjon.repository.approvals import Request, make_request
from donjon.repository.approver_keys import ApproverCredential, choose_approvers
from donjon.repository.approving import State, change_keyring, keyring_change, state_of
from donjon.repository.credential import WriterCredential
from donjon.repository.points import Point, list_points
from donjon.repository.records import removal_record
from donjon.repository.vault import open_vault
from donjon.repository.writer_keys import rotate_key
from donjon.stores.base import Buffer, ObjectInfo, ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.stores.wrapper import StoreWrapper
from tests import second_reader
from tests.approving import approver
from tests.integration.copying import Copying
from tests.integration.custody import Custody
from tests.integration.engine import DAY, Host, Place, change, fill
from tests.integration.test_writer_keys import late_backup
from tests.integration.witnesses import Watched

BACKUP_S = 7 * DAY


@dataclass
class Governed:
    """A vault with three approvers, two of whom are needed, and a host that has made some points."""

    place: Place
    source: Path
    folder: Path
    members: list[ApproverCredential] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, *, points: int = 2) -> Governed:
        members = [approver(name) for name in ("ann", "bo", "cy")]
        keys = [member.public for member in members]
        place = Place.make(folder / "place", approvers=lambda secret: choose_approvers(2, keys, secret))
        source = folder / "source"
        fill(source, 20, 1)
        made = cls(place, source, folder, members)
        for seed in range(points):
            made.backup(seed)
        return made

    @property
    def host(self) -> Host:
        return self.place.host

    @property
    def writer(self) -> bytes:
        return self.host.credential.writer_id

    def backup(self, seed: int) -> None:
        change(self.source, seed)
        self.place.clock.advance(60)
        self.place.backup(self.source)

    def points(self) -> list[Point]:
        return list_points(self.place.open())

    def next(self, last: Point | None, **changed: object) -> tuple[WriterCredential, WriterKey]:
        """A new key, and what to ask for."""
        made = self.host.credential.successor()
        return made, msgspec.structs.replace(
            next_key(self.place.open(), self.writer, made.signing_key.public, last), **changed
        )

    def ask(self, wanted: WriterKey, life_s: int = 7 * DAY) -> Request:
        return make_request(self.place.open(), wanted, self.members[0].signing_key, life_s, os.urandom(16))

    def signed(self, request: Request, *who: ApproverCredential) -> dict[bytes, bytes]:
        message = approval_message(self.place.kit.vault_id, request.payload)
        return {one.approver_id: one.signing_key.sign(message) for one in who or self.members[:2]}

    def rekey(self, last: Point | None) -> WriterCredential:
        """All of it, as it should be; the host goes on with the new key."""
        made, wanted = self.next(last)
        made = _numbered(made, wanted.number)
        self.place.clock.advance(60)
        request = self.ask(wanted)
        assert name_key(self.place.open(), made, request, self.signed(request))
        self.host.credential = made
        return made

    def thief(self) -> Host:
        """Somebody who has the credential as it is now, and a machine of his own."""
        cache = type(self.host.cache)(self.folder / "thief")
        return replace(self.host, cache=cache)

    def findings(self) -> set[tuple[str, str]]:
        return {(finding.kind, finding.object) for finding in self.place.verify().findings}

    def reasons(self) -> list[str]:
        vault = self.place.open()
        points = list_points(vault)
        return [vault.keyring.came_late(p.manifest, p.time, p.name, p.point_id) for p in points]

    def put(
        self, key: SigningKey, wanted: WriterKey, request: Request, signatures: dict[bytes, bytes]
    ) -> str:
        """What a program that checks nothing would put."""
        approval = Approval.of(request.payload, signatures).encode()
        return self.put_succession(key, wanted, approval)

    def put_succession(self, key: SigningKey, wanted: WriterKey, approval: bytes, created: int = 0) -> str:
        now = created or self.place.store.now()
        content = AllowedSuccession(wanted.writer, wanted.number, wanted.previous, now, key.public, approval)
        name = names.succession(wanted.writer, wanted.number)
        vault_id = self.place.kit.vault_id
        self.place.store.put(name, pack_object(ObjectKind.ALLOWED_SUCCESSION, content, vault_id, key))
        return name

    def replace_approvers(self, *members: ApproverCredential) -> None:
        vault = self.place.open()
        chosen = choose_approvers(2, [one.public for one in members], vault.secret)
        wanted = keyring_change(vault, Action.SET_APPROVERS, chosen.subject, chosen.encode())
        request = make_request(vault, wanted, self.place.root, DAY, os.urandom(16))
        assert change_keyring(vault, self.place.root, request, self.signed(request))

    def assert_second_reader_agrees(self) -> None:
        """The independent reader finds the same points, and that the same ones are cut off."""
        objects = {info.name: self.place.store.get(info.name) for info in self.place.store.list()}
        vault = second_reader.Vault(objects, second_reader.read_kit(kit_to_text(self.place.kit, None)))
        found = {point.point_id: vault.is_cut_off(point) for point in vault.points()}
        wanted = "the last point that approvers left to its key"
        points = self.points()
        assert found == {
            point.point_id: why == wanted for point, why in zip(points, self.reasons(), strict=True)
        }


def _numbered(made: WriterCredential, number: int) -> WriterCredential:
    return WriterCredential(
        vault_id=made.vault_id, url=made.url, name=made.name, root_public=made.root_public,
        seed=made.signing_key.seed, secret=made.secret.secret, writer_id=made.writer_id, key_number=number,
    )  # fmt: skip


@pytest.fixture
def governed(tmp_path: Path) -> Governed:
    return Governed.make(tmp_path)


# --- what holds -------------------------------------------------------------------------------------


def test_a_lost_key_is_replaced_and_all_points_and_packs_stay(governed: Governed) -> None:
    packs = len(list(governed.place.store.list(names.PACKS)))
    governed.host.cache = type(governed.host.cache)(governed.folder / "new disk")
    governed.rekey(governed.points()[-1])
    governed.place.clock.advance(60)
    governed.place.backup(governed.source)
    assert len(list(governed.place.store.list(names.PACKS))) - packs <= 1  # metadata: data deduplicates
    governed.place.assert_sound()
    governed.place.assert_restores(governed.source)
    assert [point.manifest.sequence for point in governed.points()] == [1, 2, 3]
    assert governed.reasons() == ["", "", ""]
    governed.assert_second_reader_agrees()


def test_what_a_thief_put_after_the_last_point_is_told_apart(governed: Governed) -> None:
    thief, good = governed.thief(), governed.points()[-1]
    governed.place.clock.advance(60)
    for seed in (7, 8):
        change(governed.source, seed)
        thief.backup(governed.place.store, governed.source)
    governed.rekey(good)
    governed.backup(9)
    bad = {names.manifest(governed.writer, sequence) for sequence in (3, 4)}
    assert governed.findings() == {("suspicious", name) for name in bad}
    assert [bool(why) for why in governed.reasons()] == [False, False, True, True, False]
    governed.place.assert_restores(governed.source)
    _, standings = Custody(Watched(governed.place, governed.source)).look(Policy(last=2))
    kept = [standing.reasons for standing in standings]
    assert [bool(why) and why[0] == "last" for why in kept] == [False, True, False, False, True]
    governed.assert_second_reader_agrees()


def test_the_old_key_starts_no_session_and_what_it_puts_all_the_same_does_not_count(
    governed: Governed,
) -> None:
    thief = governed.thief()
    governed.rekey(governed.points()[-1])
    with pytest.raises(PermissionMissing, match="another key of this writer has taken over"):
        thief.backup(governed.place.store, governed.source)
    change(governed.source, 5)
    late_backup(governed.place, governed.source, thief)  # at once: there is no grace for sessions under way
    assert governed.findings() == {("suspicious", names.manifest(governed.writer, 3))}
    governed.assert_second_reader_agrees()


def test_no_backup_relies_on_what_a_thief_says_of_packs(governed: Governed) -> None:
    """His index objects name packs that he took away; whoever believed them would not store the data."""
    good, thief = governed.points()[-1], governed.thief()
    governed.place.clock.advance(60)
    change(governed.source, 7)
    before = {info.name for info in governed.place.store.list(names.PACKS)}
    thief.backup(governed.place.store, governed.source)
    put = {info.name for info in governed.place.store.list(names.PACKS)} - before
    assert put
    for name in put:
        governed.place.store.delete_expired(name)
    governed.rekey(good)
    governed.place.clock.advance(60)
    governed.place.backup(governed.source)
    governed.place.assert_restores(governed.source)


def test_a_successor_that_a_thief_named_is_cut_off_too(governed: Governed, tmp_path: Path) -> None:
    good, stolen = governed.points()[-1], tmp_path / "stolen.json"
    governed.host.credential.write(stolen)
    governed.place.clock.advance(60)
    thief, _ = rotate_key(open_vault(governed.place.store), WriterCredential.read(stolen), stolen)
    replace(governed.thief(), credential=thief).backup(governed.place.store, governed.source)
    made = governed.rekey(good)
    assert made.key_number == 2
    governed.backup(4)
    assert governed.findings() == {("suspicious", names.manifest(governed.writer, 3))}
    governed.place.assert_restores(governed.source)
    governed.assert_second_reader_agrees()


def test_nothing_counts_if_no_point_is_trusted(governed: Governed) -> None:
    governed.rekey(None)
    governed.backup(4)
    assert [bool(why) for why in governed.reasons()] == [True, True, False]
    governed.place.assert_restores(governed.source)
    governed.assert_second_reader_agrees()


def test_the_new_key_rotates_on(governed: Governed, tmp_path: Path) -> None:
    governed.rekey(governed.points()[-1])
    path = tmp_path / "writer.json"
    governed.host.credential.write(path)
    governed.host.credential, _ = rotate_key(open_vault(governed.place.store), governed.host.credential, path)
    governed.backup(4)
    governed.place.assert_sound()
    governed.assert_second_reader_agrees()


# --- what approvers did not allow -------------------------------------------------------------------


def test_too_few_or_the_same_one_twice_is_not_enough(governed: Governed) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted)
    ann = governed.signed(request, governed.members[0])
    with pytest.raises(NotApproved, match="1 of the 2"):
        name_key(governed.place.open(), made, request, ann)
    twice = msgspec.msgpack.encode([request.payload, [list(row) for row in ann.items()] * 2])
    name = governed.put_succession(made.signing_key, wanted, twice)
    assert governed.findings() == {("damaged", name)}
    _assert_unchanged(governed)


def _sign_as(governed: Governed, request: Request, key: SigningKey) -> dict[bytes, bytes]:
    """Signatures by one key in the names of two approvers."""
    message = approval_message(governed.place.kit.vault_id, request.payload)
    return {one.approver_id: key.sign(message) for one in governed.members[:2]}


Forge = Callable[[Governed, SigningKey, WriterKey], str]


def _too_few(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    return governed.put(key, wanted, request, governed.signed(request, governed.members[0]))


def _by_nobody(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    return governed.put(key, wanted, governed.ask(wanted), {})


def _forged_by_a_writer(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    own = governed.host.credential.signing_key
    return governed.put(key, wanted, request, _sign_as(governed, request, own))


def _by_strangers(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    return governed.put(key, wanted, request, governed.signed(request, approver("dee"), approver("eve")))


def _with_one_more(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    signatures = governed.signed(request, governed.members[0], approver("eve"), governed.members[1])
    return governed.put(key, wanted, request, signatures)


def _for_another_key(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    other = msgspec.structs.replace(wanted, public=SigningKey.generate().public)
    request = governed.ask(other)
    return governed.put(key, wanted, request, governed.signed(request))


def _for_another_writer(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    other = msgspec.structs.replace(wanted, writer=governed.place.add_host().credential.writer_id)
    request = governed.ask(other)
    return governed.put(key, wanted, request, governed.signed(request))


def _for_another_number(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(msgspec.structs.replace(wanted, number=2))
    return governed.put(key, wanted, request, governed.signed(request))


def _for_something_else(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    vault = governed.place.open()
    recipient = next(iter(vault.keyring.members))
    change = keyring_change(vault, Action.REMOVE_RECIPIENT, recipient)
    request = make_request(vault, change, governed.place.root, DAY, bytes(16))
    return governed.put(key, wanted, request, governed.signed(request))


def _of_another_vault(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    message = approval_message(b"v" * 16, request.payload)
    signatures = {one.approver_id: one.signing_key.sign(message) for one in governed.members}
    return governed.put(key, wanted, request, signatures)


def _expired(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted, life_s=DAY)
    signatures = governed.signed(request)
    governed.place.clock.advance(DAY + 60)
    return governed.put(key, wanted, request, signatures)


def _before_it_was_asked(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    approval = Approval.of(request.payload, governed.signed(request)).encode()
    return governed.put_succession(key, wanted, approval, created=request.content.created_at - 1)


def _of_approvers_whom_nobody_set(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    other = msgspec.structs.replace(wanted, approvers=bytes(32))
    request = governed.ask(other)
    return governed.put(key, other, request, governed.signed(request))


def _of_replaced_approvers(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    signatures = governed.signed(request)
    governed.place.clock.advance(60)
    governed.replace_approvers(approver("dee"), approver("eve"))
    governed.place.clock.advance(60)
    approval = Approval.of(request.payload, signatures).encode()
    return governed.put_succession(key, wanted, approval, created=request.content.created_at)


def _by_another_than_the_new_key(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    request = governed.ask(wanted)
    approval = Approval.of(request.payload, governed.signed(request)).encode()
    content = AllowedSuccession(
        wanted.writer, 1, wanted.previous, request.content.created_at, wanted.public, approval
    )
    vault_id, own = governed.place.kit.vault_id, governed.host.credential.signing_key
    name = names.succession(wanted.writer, 1)
    governed.place.store.put(name, pack_object(ObjectKind.ALLOWED_SUCCESSION, content, vault_id, own))
    return name


def _replayed(governed: Governed, key: SigningKey, wanted: WriterKey) -> str:
    """Under the next number, with the approval of the one before."""
    made = governed.rekey(governed.points()[-1])
    name = names.succession(governed.writer, 1)
    data = governed.place.store.get(name)
    first = parse_succession(data, name)
    assert isinstance(first, AllowedSuccession)
    later = msgspec.structs.replace(wanted, number=2, previous=digest(data))
    return governed.put_succession(made.signing_key, later, first.approval, created=first.created_at)


@pytest.mark.parametrize(
    "forge",
    [
        _too_few, _by_nobody, _forged_by_a_writer, _by_strangers, _with_one_more, _for_another_key,
        _for_another_writer, _for_another_number, _for_something_else, _of_another_vault, _expired,
        _before_it_was_asked, _of_approvers_whom_nobody_set, _of_replaced_approvers,
        _by_another_than_the_new_key, _replayed,
    ],
)  # fmt: skip
def test_forged_approvals_count_for_nothing_and_are_reported(governed: Governed, forge: Forge) -> None:
    key = SigningKey.generate()
    last = governed.points()[-1]
    wanted = next_key(governed.place.open(), governed.writer, key.public, last)
    name = forge(governed, key, wanted)
    assert governed.findings() == {("damaged", name)}
    _assert_unchanged(governed, keys=int(name[-8:]) - 1)
    if forge is not _of_replaced_approvers:  # which is told by times, and the second reader has none
        with pytest.raises(second_reader.Wrong):
            governed.assert_second_reader_agrees()


def _assert_unchanged(governed: Governed, keys: int = 0) -> None:
    vault = governed.place.open()
    vault.read_successions()
    assert len(vault.keyring.successions.of(governed.writer)) == keys
    assert set(governed.reasons()) == {""}
    governed.backup(9)  # the host goes on with its key


def test_an_expired_or_overtaken_request_is_not_carried_out(governed: Governed, tmp_path: Path) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted, life_s=DAY)
    signatures = governed.signed(request)
    governed.place.clock.advance(DAY + 60)
    with pytest.raises(NotApproved, match="expired"):
        name_key(governed.place.open(), made, request, signatures)
    request = governed.ask(wanted)
    path = tmp_path / "writer.json"
    governed.host.credential.write(path)
    rotate_key(open_vault(governed.place.store), governed.host.credential, path)
    vault = governed.place.open()
    assert state_of(vault, request, 2, ()) is State.VOID
    with pytest.raises(NotApproved, match="changed since"):
        name_key(vault, made, request, governed.signed(request))


def test_a_request_of_replaced_approvers_or_for_a_revoked_writer_is_void(governed: Governed) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = make_request(governed.place.open(), wanted, governed.place.root, DAY, bytes(16))
    vault = governed.place.open()
    now = governed.place.store.now()
    governed.replace_approvers(governed.members[0], approver("dee"))
    assert state_of(governed.place.open(), request, 2, ()) is State.VOID
    with pytest.raises(NotApproved):
        name_key(governed.place.open(), made, request, governed.signed(request))
    vault.keyring.add(
        governed.place.store,
        governed.place.root,
        lambda number, before: removal_record(Action.REVOKE_WRITER, governed.writer, now, number, before),
        None,
    )
    with pytest.raises(PermissionMissing, match="revoked"):
        governed.next(None)


def test_another_credential_and_a_point_of_another_writer_are_refused(governed: Governed) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted)
    for other in (governed.host.credential, governed.host.credential.successor()):
        with pytest.raises(KeyNotAvailable, match="not about the key"):
            name_key(governed.place.open(), other, request, governed.signed(request))
    stranger = governed.place.add_host()
    governed.place.clock.advance(60)
    stranger.backup(governed.place.store, governed.source)
    foreign = next(p for p in governed.points() if p.manifest.writer != governed.writer)
    with pytest.raises(UsageError, match="another writer"):
        governed.next(foreign)
    assert name_key(governed.place.open(), made, request, governed.signed(request))


def test_a_vault_without_approvers_asks_nobody(tmp_path: Path) -> None:
    place = Place.make(tmp_path / "place")
    with pytest.raises(Refused, match="without approvers"):
        next_key(place.open(), place.host.credential.writer_id, SigningKey.generate().public, None)


# --- crashes, races, copies -------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Around(StoreWrapper):
    """Does something before or after a succession is put."""

    def __init__(self, inner: ObjectStore, deed: Callable[[], None], *, after: bool) -> None:
        super().__init__(inner)
        self._deed, self._after = deed, after

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        if name.startswith(names.SUCCESSIONS):
            if self._after:
                super().put(name, data, retain_until=retain_until)
            self._deed()
        return super().put(name, data, retain_until=retain_until)


class Cutting(StoreWrapper):
    """Ends the process at the second put."""

    count = 0

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        self.count += 1
        if self.count > 1:
            raise Killed
        return super().put(name, data, retain_until=retain_until)


@pytest.mark.parametrize("error", [Killed(), StoreUnavailable("no reply")])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_around_the_put_can_be_repeated(
    governed: Governed, error: BaseException, after: bool
) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted)

    def die() -> None:
        raise error

    dying = governed.place.open(Around(governed.place.store, die, after=after))
    with pytest.raises(type(error)):
        name_key(dying, made, request, governed.signed(request))
    governed.place.clock.advance(60)
    assert name_key(governed.place.open(), made, request, governed.signed(request)) is not after
    assert not name_key(governed.place.open(), made, request, governed.signed(request))
    governed.host.credential = made
    governed.backup(4)
    governed.place.assert_sound()


def test_a_thief_who_is_faster_is_told_of(governed: Governed) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request, old = governed.ask(wanted), governed.host.credential.signing_key

    def steal() -> None:
        vault_id = governed.place.kit.vault_id
        mine = make_succession(vault_id, governed.writer, 1, bytes(32), 1, SigningKey.generate())
        data = pack_object(ObjectKind.SUCCESSION, mine, vault_id, old)
        governed.place.store.put(names.succession(governed.writer, 1), data)

    racing = governed.place.open(Around(governed.place.store, steal, after=False))
    with pytest.raises(Refused, match="names another key"):
        name_key(racing, made, request, governed.signed(request))
    assert governed.rekey(governed.points()[-1]).key_number == 2  # asked anew
    governed.backup(4)
    governed.place.assert_restores(governed.source)


def test_a_copy_tells_the_same_points_apart_also_after_the_approvers_were_replaced(
    governed: Governed, tmp_path: Path
) -> None:
    good, thief = governed.points()[-1], governed.thief()
    governed.place.clock.advance(60)
    thief.backup(governed.place.store, governed.source)
    governed.rekey(good)
    governed.backup(4)
    governed.place.clock.advance(60)
    governed.replace_approvers(approver("dee"), approver("eve"))
    governed.place.clock.advance(90 * DAY)
    copying = Copying(governed.place, tmp_path, MemoryStore(governed.place.clock, url="memory:copy"))
    first = Cutting(copying.target)
    with pytest.raises(Killed):
        copying.copy(target=first)  # which begins with the succession, before there is a vault
    assert [name.split("/")[0] for name in copying.holds()] == ["successions"]
    governed.place.clock.advance(60)
    assert copying.copy().findings == []
    copied = replace(governed, place=copying.copied)
    assert copied.reasons() == governed.reasons()
    assert [bool(why) for why in copied.reasons()] == [False, False, True, False]
    assert copied.findings() == governed.findings()
    copying.assert_equal()


def test_names_of_the_vault_secret_are_not_in_a_request(governed: Governed) -> None:
    """What goes round has ids and public keys, and nothing that the provider must not see."""
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted)
    secret = governed.place.open().secret
    assert isinstance(secret, VaultSecret)
    for hidden in (made.signing_key.seed, secret.secret, governed.source.name.encode()):
        assert hidden not in request.data


def test_the_number_is_taken_once(governed: Governed) -> None:
    made, wanted = governed.next(governed.points()[-1])
    request = governed.ask(wanted)
    signatures = governed.signed(request)
    assert name_key(governed.place.open(), made, request, signatures)
    with pytest.raises(ObjectExists):
        governed.put(made.signing_key, wanted, request, signatures)
