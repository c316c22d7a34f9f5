"""Who approves, by the keyring: what the root key alone, or too few approvers, try to change."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, Refused, UsageError
from donjon.format import names
from donjon.format.approval import Approval, KeyringChange, approval_message
from donjon.format.approvers import decode_approvers
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.vault import Action, KeyringRecord
from donjon.repository.approvals import Request
from donjon.repository.approver_keys import (
    ApproverCredential,
    ApproverKey,
    check_approvers,
    choose_approvers,
)
from donjon.repository.approvers import first_record
from donjon.repository.creation import create_vault
from donjon.repository.records import writer_record
from donjon.repository.vault import add_recipient, open_vault
from donjon.stores.memory import MemoryStore
from tests.approving import Council, approver, doomed, key_id, request_for

NEW = [approver(f"new {number}") for number in range(3)]


@pytest.fixture
def council() -> Council:
    return Council.make()


def _plant(council: Council, record: KeyringRecord, root: SigningKey | None = None) -> str:
    """Put a record that the root key signed, whatever it says."""
    name = names.keyring(record.number)
    signer = root or council.root
    council.store.put(name, pack_object(ObjectKind.KEYRING, record, council.kit.vault_id, signer))
    return name


def _with(council: Council, request: Request, signatures: dict[bytes, bytes]) -> KeyringRecord:
    """The record that carries the request out, with these signatures."""
    extra = Approval.of(request.payload, signatures).encode()
    return msgspec.structs.replace(council.record(request), extra=extra)


def _refused(council: Council, record: KeyringRecord) -> str:
    """What every client says of a vault with this record."""
    name = _plant(council, record)
    with pytest.raises(IntegrityFailure, match=name) as error:
        council.open()
    return error.value.message


def test_init_makes_the_approvers_record_1_and_hides_their_names(council: Council) -> None:
    vault = council.open()
    approvers = vault.keyring.approvers
    assert approvers is not None
    assert approvers.needed == 2
    assert set(approvers.members) == {member.approver_id for member in council.members}
    shown = {vault.secret.read_label(one.label, "label") for one in approvers.members.values()}
    assert shown == {"approver 0", "approver 1", "approver 2"}
    assert b"approver 0" not in council.store.get(names.keyring(1))
    assert vault.keyring.number == 2  # and the kit came after them


def test_enough_approvers_and_the_root_key_choose_others(council: Council) -> None:
    others = [council.members[0], approver("new")]
    request = council.ask(council.change(others, 2))
    _plant(council, council.record(request, *council.members[1:], created_at=council.clock() + 9))
    present = council.open().keyring.approvers
    assert present is not None
    assert set(present.members) == {one.approver_id for one in others}
    assert present.created_at == council.clock() + 9
    assert len(council.open().keyring.approver_sets) == 2


def test_the_root_key_alone_changes_nothing(council: Council) -> None:
    request = council.ask(council.change([approver("x"), approver("y")], 2))
    assert "0 of the 2 needed" in _refused(council, council.record(request))


def test_the_root_key_without_a_word_changes_nothing(council: Council) -> None:
    keyring, chosen = council.open().keyring, council.chosen(NEW, 2)
    subject = chosen.subject
    record = KeyringRecord(keyring.number + 1, keyring.head, 9, Action.SET_APPROVERS, subject)
    assert "none of the 2" in _refused(council, record)


def test_approvers_without_the_root_key_change_nothing(council: Council) -> None:
    request = council.ask(council.change([approver("x"), approver("y")], 2))
    name = _plant(council, council.record(request, *council.members), council.members[0].signing_key)
    with pytest.raises(IntegrityFailure, match=name):
        council.open()


def _too_few(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request.payload, council.members[0])


def _with_stranger(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request.payload, council.members[0], approver("stranger"))


def _with_enough_and_a_stranger(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request.payload, *council.members, approver("stranger"))


def _with_root(council: Council, request: Request) -> dict[bytes, bytes]:
    message = approval_message(council.kit.vault_id, request.payload)
    return _too_few(council, request) | {key_id(council.root): council.root.sign(message)}


def _by_new_ones(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request.payload, *NEW)


def _other_vault(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request.payload, *council.members, vault_id=bytes(16))


def _other_request(council: Council, request: Request) -> dict[bytes, bytes]:
    """Another request for the very same, which only the nonce tells apart."""
    assert isinstance(request.parameters, KeyringChange)
    return council.signed(council.ask(request.parameters).payload, *council.members)


def _other_needed(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(council.ask(council.change(NEW, 3)).payload, *council.members)


def _for_points(council: Council, request: Request) -> dict[bytes, bytes]:
    return council.signed(request_for(doomed(1)), *council.members)


@pytest.mark.parametrize(
    "sign",
    [
        _too_few,
        _with_stranger,
        _with_root,
        _by_new_ones,
        _other_vault,
        _other_request,
        _other_needed,
        _for_points,
        _with_enough_and_a_stranger,
    ],
)
def test_signatures_that_do_not_allow_a_change(council: Council, sign: Any) -> None:
    request = council.ask(council.change(NEW, 2))
    _refused(council, _with(council, request, sign(council, request)))


def test_a_removed_approver_signs_no_more(council: Council) -> None:
    gone = council.members[2]
    council.replace([*council.members[:2], approver("new")])
    request = council.ask(council.change([gone, approver("x")], 2))
    assert "1 of the 2 needed" in _refused(council, council.record(request, council.members[0], gone))


def test_what_was_signed_for_another_list_serves_for_no_other(council: Council) -> None:
    """The record says whom, and the approval has to say the same."""
    request = council.ask(council.change(NEW, 2))
    other = council.chosen([approver("mine"), approver("mine too")], 2)
    record = council.record(request, *council.members)
    assert "something else" in _refused(council, msgspec.structs.replace(record, subject=other.subject))


def test_a_change_cannot_be_replayed_when_the_old_approvers_are_back(council: Council) -> None:
    first, request = list(council.members), council.ask(council.change(NEW, 2))
    council.members = first
    _plant(council, council.record(request, *first))
    council.members = NEW
    council.replace(first)  # the very same people as in the beginning
    assert "something else" in _refused(council, council.record(request, *first))


def test_other_changes_of_the_keyring_do_not_void_what_was_signed(council: Council) -> None:
    request = council.ask(council.change(NEW, 2))
    signatures = council.signed(request.payload, *council.members)
    council.add_kit()
    _plant(council, _with(council, request, signatures))
    present = council.open().keyring.approvers
    assert present is not None
    assert set(present.members) == {one.approver_id for one in NEW}


def test_an_approval_that_has_expired_is_refused(council: Council) -> None:
    request = council.ask(council.change(NEW, 2), life_s=60)
    record = council.record(request, *council.members, created_at=council.clock() + 61)
    assert "expired" in _refused(council, record)


def test_a_record_cannot_be_dated_back_before_others(council: Council) -> None:
    """So an approval that expired is of no use once anything else was added to the keyring."""
    request = council.ask(council.change(NEW, 2), life_s=60)
    council.clock.advance(3600)
    writer = SigningKey.generate()
    vault = council.open()
    vault.keyring.add(
        council.store,
        council.root,
        lambda n, p: writer_record(writer.public, "w", vault.secret, council.clock(), n, p),
        None,
    )
    record = council.record(request, *council.members, created_at=council.clock() - 3600)
    assert "earlier records" in _refused(council, record)


def test_a_vault_without_approvers_never_gets_any() -> None:
    council, other = Council.make(0), Council.make()
    keyring, chosen = council.open().keyring, council.chosen(NEW, 2)
    for extra in (chosen.encode(), other.record(other.ask(other.change(NEW, 2)), *other.members).extra):
        store = council.store.snapshot()
        record = KeyringRecord(
            keyring.number + 1, keyring.head, 9, Action.SET_APPROVERS, chosen.subject, extra=extra
        )
        assert "made without any" in _refused(council, record)
        council.store = MemoryStore.from_snapshot(store)


def test_the_first_set_cannot_be_repeated_as_a_later_record(council: Council) -> None:
    keyring = council.open().keyring
    record = first_record(council.chosen(council.members, 2), 1, keyring.number + 1, keyring.head)
    assert "request" in _refused(council, record)


def test_a_first_record_with_an_approval_is_refused(council: Council) -> None:
    record = council.record(council.ask(council.change(NEW, 2)), *council.members)
    council = Council.make(0)
    head = open_vault(council.store).keyring._heads[0]
    council.store.delete_expired(names.keyring(1))
    first = msgspec.structs.replace(record, number=1, previous=head)
    assert "list of approvers" in _refused(council, first)


def _payload(council: Council) -> list[Any]:
    """A list of four approvers, as MessagePack tells it."""
    payload: list[Any] = msgspec.msgpack.decode(council.chosen([*NEW, approver("x")], 3).encode())
    return payload


HOSTILE: dict[str, Any] = {
    "none needed": lambda p: [0, *p[1:]],
    "one needed": lambda p: [1, *p[1:]],
    "more needed than there are": lambda p: [5, *p[1:]],
    "a negative number": lambda p: [-2, *p[1:]],
    "nobody": lambda p: [2, [], []],
    "one approver": lambda p: [2, p[1][:1], p[2][:1]],
    "a key twice": lambda p: [p[0], [p[1][0], *p[1][:3]], p[2]],
    "keys out of order": lambda p: [p[0], p[1][::-1], p[2]],
    "a short key": lambda p: [p[0], [b"", *p[1][1:]], p[2]],
    "17 approvers": lambda p: [2, [bytes([n]) * 32 for n in range(17)], [bytes(92)] * 17],
    "a label too few": lambda p: [*p[:2], p[2][1:]],
    "a long label": lambda p: [*p[:2], [bytes(93), *p[2][1:]]],
    "a part missing": lambda p: p[:2],
    "no list": lambda p: {},
    "nested": lambda p: b"\x91" * 2000,
}


@pytest.mark.parametrize("change", HOSTILE)
def test_lists_that_none_can_have_are_refused(council: Council, change: str) -> None:
    hostile = msgspec.msgpack.encode(HOSTILE[change](_payload(council)))
    with pytest.raises(IntegrityFailure, match="list of approvers"):
        decode_approvers(hostile, "hostile")
    keyring = council.open().keyring
    asked = keyring.begun_by(Action.SET_APPROVERS, bytes(16))
    assert asked is not None
    request = council.ask(KeyringChange(asked, Action.SET_APPROVERS, bytes(16), hostile))
    assert "list of approvers" in _refused(council, council.record(request, *council.members))


APPROVALS: dict[str, Any] = {
    "a signature twice": lambda p: [p[0], [p[1][0], p[1][0]]],
    "signatures out of order": lambda p: [p[0], p[1][::-1]],
    "a short signature": lambda p: [p[0], [[p[1][0][0], b""], *p[1][1:]]],
    "too many signatures": lambda p: [p[0], [[bytes([n]) * 16, bytes(64)] for n in range(17)]],
    "no signatures": lambda p: p[:1],
    "no request": lambda p: [b"", p[1]],
    "a request as it is, not as bytes": lambda p: [[], p[1]],
    "nothing": lambda p: [],
    "a map": lambda p: {},
}


@pytest.mark.parametrize("change", APPROVALS)
def test_approvals_that_none_can_have_are_refused(council: Council, change: str) -> None:
    record = council.record(council.ask(council.change(NEW, 2)), *council.members)
    extra = msgspec.msgpack.encode(APPROVALS[change](msgspec.msgpack.decode(record.extra)))
    _refused(council, msgspec.structs.replace(record, extra=extra))


def test_a_list_of_a_megabyte_is_not_even_looked_at() -> None:
    with pytest.raises(IntegrityFailure, match="bytes"):
        decode_approvers(bytes(1 << 20), "hostile")


def test_the_subject_belongs_to_the_list(council: Council) -> None:
    change = msgspec.structs.replace(council.change(NEW, 2), subject=bytes(16))
    assert "no keyring record" in _refused(council, council.record(council.ask(change), *council.members))


def test_the_root_key_is_no_approver(council: Council) -> None:
    """Or whoever has the kit would be one of them."""
    root = ApproverCredential("root", council.root.seed)
    request = council.ask(council.change([root, approver("x")], 2))
    _refused(council, council.record(request, *council.members))


def test_every_flipped_bit_of_a_change_is_found(council: Council) -> None:
    """The root key signs again what it changed, and still cannot make it its own."""
    record = council.record(
        council.ask(council.change([approver("x"), approver("y")], 2)), *council.members[:2]
    )
    store = council.store.snapshot()
    for at in range(len(record.extra)):
        flipped = record.extra[:at] + bytes([record.extra[at] ^ 1]) + record.extra[at + 1 :]
        council.store = MemoryStore.from_snapshot(store)
        _plant(council, msgspec.structs.replace(record, extra=flipped))
        with pytest.raises(DonjonError):
            council.open()


# --- removing a recipient -----------------------------------------------------------------------------


def test_enough_approvers_and_the_root_key_remove_a_recipient(council: Council) -> None:
    gone = council.add_kit().recipient_id
    _plant(council, council.record(council.ask(council.removal(gone)), *council.members[:2]))
    assert gone not in council.open().keyring.members


def test_the_root_key_alone_removes_nobody(council: Council) -> None:
    gone = council.add_kit().recipient_id
    keyring = council.open().keyring
    bare = KeyringRecord(keyring.number + 1, keyring.head, 9, Action.REMOVE_RECIPIENT, gone)
    store = council.store.snapshot()
    assert "none of the 2" in _refused(council, bare)
    council.store = MemoryStore.from_snapshot(store, council.clock)
    vault = council.open()
    with pytest.raises(IntegrityFailure, match="none of the 2"):  # nor does any client put such a thing
        vault.keyring.add(
            council.store,
            council.root,
            lambda n, p: KeyringRecord(n, p, 9, Action.REMOVE_RECIPIENT, gone),
            None,
        )
    assert council.store.snapshot().keys() == store.keys()
    assert "1 of the 2" in _refused(
        council, council.record(council.ask(council.removal(gone)), council.members[0])
    )


def test_an_approval_removes_no_other_recipient(council: Council) -> None:
    gone, kept = council.add_kit().recipient_id, council.add_kit("third").recipient_id
    record = council.record(council.ask(council.removal(gone)), *council.members)
    assert "something else" in _refused(council, msgspec.structs.replace(record, subject=kept))


def test_an_approval_serves_once_though_the_recipient_comes_back(council: Council) -> None:
    recipient = council.add_kit()
    request = council.ask(council.removal(recipient.recipient_id))
    _plant(council, council.record(request, *council.members))
    add_recipient(council.open(), council.root, recipient)
    assert recipient.recipient_id in council.open().keyring.members
    assert "something else" in _refused(council, council.record(request, *council.members))


def test_approvals_of_a_change_of_approvers_remove_nobody(council: Council) -> None:
    gone = council.add_kit().recipient_id
    change = council.record(council.ask(council.change(NEW, 2)), *council.members)
    removal = council.record(council.ask(council.removal(gone)))
    assert "something else" in _refused(council, msgspec.structs.replace(removal, extra=change.extra))


def test_where_nobody_approves_a_removal_says_nothing_more() -> None:
    council, other = Council.make(0), Council.make()
    gone = council.add_kit().recipient_id
    extra = other.record(other.ask(other.change(NEW, 2)), *other.members).extra
    keyring = council.open().keyring
    record = KeyringRecord(keyring.number + 1, keyring.head, 9, Action.REMOVE_RECIPIENT, gone)
    store = council.store.snapshot()
    _refused(council, msgspec.structs.replace(record, extra=extra))
    council.store = MemoryStore.from_snapshot(store)
    _plant(council, record)
    assert gone not in council.open().keyring.members


# --- files ------------------------------------------------------------------------------------------


def test_too_few_or_the_same_approvers_are_no_choice() -> None:
    keys = [approver(f"a{number}").public for number in range(17)]
    for chosen, needed in ((keys[:1], 1), (keys[:2], 1), (keys[:2], 3), (keys, 2), ([], 0), ([], 2)):
        with pytest.raises(UsageError, match="approvals of"):
            check_approvers(chosen, needed)
    for twice in ([keys[0], keys[0]], [keys[0], ApproverKey(keys[0].name, keys[1].public)]):
        with pytest.raises(UsageError, match="named twice"):
            check_approvers(twice, 2)
    check_approvers(keys[:16], 16)


def test_sixteen_approvers_with_long_names_fit_a_record() -> None:
    council = Council.make(16, 16)
    others = [ApproverCredential(f"{n:02}" + "n" * 62, SigningKey.generate().seed) for n in range(16)]
    council.replace(others, 16)
    present = council.open().keyring.approvers
    assert present is not None
    assert len(present.members) == present.needed == 16


def test_credentials_and_public_keys_come_back(tmp_path: Path) -> None:
    made = approver("Ann Example")
    made.write(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    read = ApproverCredential.read(tmp_path / "a")
    assert (read.name, read.approver_id, read.public) == (made.name, made.approver_id, made.public)
    assert made.signing_key.seed.hex() not in repr(read)
    (tmp_path / "p").write_text(made.public.text() + "\n")
    assert ApproverKey.read(tmp_path / "p") == made.public
    with pytest.raises(Refused):
        made.write(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "x", "donjon-approver-1 AAAA ann", "donjon-approver-2 {} ann", "{}"])
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p").write_text(content.format("A" * 43 + "="))
    with pytest.raises(UsageError):
        ApproverKey.read(tmp_path / "p")


def test_a_public_key_with_an_odd_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("donjon-approver-1 " + "A" * 43 + "= \x1b[31mann")
    with pytest.raises(UsageError):
        ApproverKey.read(tmp_path / "p")


def test_a_public_key_is_no_credential(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(approver("a").public.text())
    for path in (tmp_path / "p", tmp_path / "none", tmp_path):
        with pytest.raises(KeyNotAvailable):
            ApproverCredential.read(path)


def test_a_vault_whose_making_failed_leaves_nothing() -> None:
    class Full(MemoryStore):
        def put(self, name, data, *, retain_until=None):  # type: ignore[no-untyped-def]
            if name == names.VAULT:
                raise Refused("no")
            return super().put(name, data, retain_until=retain_until)

    store, council = Full(), Council.make()
    keys = [member.public for member in council.members]
    with pytest.raises(Refused):
        create_vault(
            store,
            council.kit.vault_id,
            council.root,
            [council.kit.recipient("kit")],
            lock_s=0,
            approvers=lambda secret: choose_approvers(2, keys, secret),
        )
    assert list(store.list()) == []
