"""Deletion certificates: which count, and what a thief of some keys, or of the store, makes of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, NotApproved, Refused, UsageError
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.approval import DoomedPoint, decode_request, hide_reason
from donjon.format.certificate import decode_deletion, pack_certificate, parse_certificate
from donjon.format.objects import ObjectKind, unsigned_object
from donjon.repository.approver_keys import ApproverCredential
from donjon.repository.certificates import (
    Standing,
    deleted_points,
    list_certificates,
    put_certificate,
)
from donjon.repository.check import check_structure
from donjon.repository.records import writer_record
from donjon.repository.vault import open_vault
from tests.approving import Council, approver, doomed, request_for

DAY = 86_400


@pytest.fixture
def council() -> Council:
    return Council.make()


def _plant(council: Council, data: bytes, name: str = "") -> str:
    """What anybody who may put can do."""
    name = name or names.certificate(digest(data))
    council.store.put(name, data)
    return name


def _refused(council: Council, name: str) -> str:
    """The certificate counts for nothing, the reason is told, and `verify` tells it too."""
    damaged: list[IntegrityFailure] = []
    vault = open_vault(council.store)
    assert deleted_points(vault, damaged) == {}
    assert deleted_points(vault) == {}
    (error,) = damaged
    assert error.message.startswith(name)
    findings = check_structure(open_vault(council.store), Silent()).findings
    assert [(finding.object, finding.kind) for finding in findings] in (
        [(name, "damaged")],
        [(name, "suspicious")],
    )
    return error.message


def test_enough_approvers_count_without_any_key(council: Council) -> None:
    request = request_for(doomed(1), doomed(2))
    certificate, is_new = put_certificate(
        open_vault(council.store), request, council.signed(request, *council.members[:2])
    )
    assert is_new
    damaged: list[IntegrityFailure] = []
    found = deleted_points(open_vault(council.store), damaged)
    assert (set(found), damaged) == ({doomed(1).point_id, doomed(2).point_id}, [])
    assert found[doomed(1).point_id] == certificate
    assert set(certificate.signers) == {member.approver_id for member in council.members[:2]}
    assert check_structure(open_vault(council.store), Silent()).findings == []


def test_all_may_sign(council: Council) -> None:
    request = request_for(doomed(1))
    put_certificate(council.open(), request, council.signed(request, *council.members))
    (certificate,) = list_certificates(council.open())
    assert len(certificate.signers) == 3


def test_it_is_locked_like_everything_else() -> None:
    council = Council.make(lock_s=30 * DAY)
    request = request_for(doomed(1))
    certificate, _ = put_certificate(council.open(), request, council.signed(request, *council.members))
    held = council.store.head(certificate.name).retain_until
    assert held is not None
    assert held >= council.clock() + 30 * DAY


def test_too_few_are_refused_and_the_missing_ones_named(council: Council) -> None:
    request = request_for(doomed(1))
    for signers in ([], council.members[:1], [council.members[0], approver("stranger")]):
        with pytest.raises(NotApproved) as error:
            put_certificate(council.open(), request, council.signed(request, *signers))
        assert "approver 1" in error.value.hint
    assert list(council.store.list(names.CERTIFICATES)) == []


def test_signatures_of_strangers_are_left_out(council: Council) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, *council.members[:2], approver("stranger"))
    certificate, _ = put_certificate(council.open(), request, signatures)
    _, kept = parse_certificate(council.store.get(certificate.name), "x")
    assert set(kept) == {member.approver_id for member in council.members[:2]}


def test_one_approver_is_not_enough(council: Council) -> None:
    request = request_for(doomed(1))
    name = _plant(council, pack_certificate(request, council.signed(request, council.members[0])))
    assert "1 of the 2" in _refused(council, name)


def test_an_outsider_the_root_key_and_a_writer_count_for_nothing(council: Council) -> None:
    vault, writer = council.open(), SigningKey.generate()
    vault.keyring.add(
        council.store,
        council.root,
        lambda n, p: writer_record(writer.public, "w", vault.secret, 1, n, p),
        None,
    )
    request = request_for(doomed(1))
    others = [
        approver("outsider"),
        ApproverCredential("root", council.root.seed),
        ApproverCredential("writer", writer.seed),
    ]
    name = _plant(council, pack_certificate(request, council.signed(request, council.members[0], *others)))
    assert "1 of the 2" in _refused(council, name)


def test_a_signature_under_the_id_of_another_is_refused(council: Council) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, council.members[0])
    (own,) = signatures.values()
    for forged in (own, bytes(64), council.root.sign(request)):
        data = pack_certificate(request, signatures | {council.members[1].approver_id: forged})
        name = _plant(council, data)
        assert "is wrong" in _refused(council, name)
        council.store.delete_expired(name)


def test_one_approver_signing_twice_is_one(council: Council) -> None:
    """The object with his signature at both places is no object of its kind."""
    request = request_for(doomed(1))
    ((who, signature),) = council.signed(request, council.members[0]).items()
    data = unsigned_object(ObjectKind.CERTIFICATE, _Loose(request, who, [[who, signature]])) + signature
    assert "cannot be read" in _refused(council, _plant(council, data))


class _Loose(msgspec.Struct, array_like=True):
    request: Any
    first: Any
    others: Any


def test_a_certificate_of_another_vault_is_refused(council: Council) -> None:
    """The same people approve in both."""
    other = Council.make()
    other.replace(council.members)
    request = request_for(doomed(1))
    certificate, _ = put_certificate(other.open(), request, other.signed(request, *council.members))
    name = _plant(council, other.store.get(certificate.name), certificate.name)
    assert "is wrong" in _refused(council, name)


def test_a_changed_request_is_refused(council: Council) -> None:
    signatures = council.signed(request_for(doomed(1)), *council.members)
    name = _plant(council, pack_certificate(request_for(doomed(1), doomed(2)), signatures))
    assert "is wrong" in _refused(council, name)
    council.store.delete_expired(name)
    with pytest.raises(IntegrityFailure):
        put_certificate(council.open(), request_for(doomed(2)), signatures)


def test_a_signature_of_a_change_of_approvers_deletes_nothing(council: Council) -> None:
    payload = council.ask(council.change([approver("x"), approver("y")], 2)).payload
    signatures = council.signed(payload, *council.members)
    with pytest.raises(IntegrityFailure, match="no request to delete"):
        put_certificate(council.open(), payload, signatures)
    name = _plant(council, pack_certificate(payload, signatures))
    assert "no request to delete" in _refused(council, name)
    council.store.delete_expired(name)
    with pytest.raises(IntegrityFailure, match="is wrong"):
        put_certificate(council.open(), request_for(doomed(1)), signatures)


def test_a_name_that_is_not_the_digest_is_refused(council: Council) -> None:
    request = request_for(doomed(1))
    data = pack_certificate(request, council.signed(request, *council.members))
    name = _plant(council, data, names.certificate(bytes(32)))
    assert "holds another object" in _refused(council, name)


def test_who_takes_the_name_is_noticed(council: Council) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, *council.members)
    _plant(council, b"rubbish", names.certificate(digest(pack_certificate(request, signatures))))
    with pytest.raises(IntegrityFailure, match="taken"):
        put_certificate(council.open(), request, signatures)
    put_certificate(council.open(), request, council.signed(request, *council.members[:2]))
    assert set(deleted_points(council.open())) == {doomed(1).point_id}


def test_a_vault_without_approvers_lets_nothing_go() -> None:
    council, other = Council.make(0), Council.make()
    request = request_for(doomed(1))
    signatures = council.signed(request, *other.members)
    with pytest.raises(Refused, match="without approvers"):
        put_certificate(council.open(), request, signatures)
    name = _plant(council, pack_certificate(request, signatures))
    assert "without approvers" in _refused(council, name)


# --- approvers that change ----------------------------------------------------------------------------


def test_what_replaced_approvers_signed_is_outdated_and_no_alarm(council: Council) -> None:
    request = request_for(doomed(1))
    put_certificate(council.open(), request, council.signed(request, *council.members[:2]))
    council.clock.advance(10)
    council.replace([council.members[0], approver("x"), approver("y")])
    damaged: list[IntegrityFailure] = []
    assert deleted_points(council.open(), damaged) == {}
    assert damaged == []
    (certificate,) = list_certificates(council.open())
    assert certificate.standing is Standing.OUTDATED
    assert check_structure(council.open(), Silent()).findings == []


def test_it_still_counts_if_enough_of_those_who_stayed_signed(council: Council) -> None:
    request = request_for(doomed(1))
    put_certificate(council.open(), request, council.signed(request, *council.members))
    council.replace([*council.members[:2], approver("x")])
    assert set(deleted_points(council.open())) == {doomed(1).point_id}


def test_replaced_approvers_cannot_put_one_later(council: Council) -> None:
    request, old = request_for(doomed(1)), council.members
    council.clock.advance(10)
    council.replace([approver("x"), approver("y")])
    council.clock.advance(10)
    with pytest.raises(NotApproved):
        put_certificate(council.open(), request, council.signed(request, *old))
    name = _plant(council, pack_certificate(request, council.signed(request, *old)))
    assert "after those who signed it had been replaced" in _refused(council, name)


# --- requests that expire -----------------------------------------------------------------------------


def test_an_expired_request_lets_nothing_go(council: Council) -> None:
    """By the store's clock, when the certificate comes; one that came in time counts for ever."""
    request, late = request_for(doomed(1)), request_for(doomed(2))
    put_certificate(council.open(), request, council.signed(request, *council.members))
    council.clock.advance(7 * DAY + 1)
    assert set(deleted_points(council.open())) == {doomed(1).point_id}
    again, is_new = put_certificate(council.open(), request, council.signed(request, *council.members))
    assert (again.counts, is_new) == (True, False)
    with pytest.raises(NotApproved, match="expired at") as error:
        put_certificate(council.open(), late, council.signed(late, *council.members))
    assert error.value.exit_code == 11
    council.store.delete_expired(again.name)
    name = _plant(council, pack_certificate(late, council.signed(late, *council.members)))
    assert "had expired" in _refused(council, name)


def test_a_request_from_the_future_is_refused(council: Council) -> None:
    """Else a client whose clock is ahead would make requests that last longer than they may."""
    ahead = request_for(doomed(1), created_at=council.clock() + DAY)
    with pytest.raises(NotApproved, match="only"):
        put_certificate(council.open(), ahead, council.signed(ahead, *council.members))
    slightly = request_for(doomed(1), created_at=council.clock() + 60)
    put_certificate(council.open(), slightly, council.signed(slightly, *council.members))


def test_a_change_that_came_since_the_vault_was_opened_counts(council: Council) -> None:
    vault = open_vault(council.store)
    request = request_for(doomed(1))
    put_certificate(council.open(), request, council.signed(request, *council.members[:2]))
    newcomers = [approver("x"), approver("y")]
    council.replace(newcomers)
    assert deleted_points(vault) == {}
    stale = Council.make()
    opened = open_vault(stale.store)
    stale.replace(newcomers)
    put_certificate(stale.open(), request, stale.signed(request, *newcomers))
    assert check_structure(opened, Silent()).findings == []


# --- hostile bytes ------------------------------------------------------------------------------------


def _fields(council: Council) -> list[Any]:
    request = request_for(doomed(1), doomed(2))
    data = pack_certificate(request, council.signed(request, *council.members))
    payload: list[Any] = msgspec.msgpack.decode(data[12:-64])
    return payload


def _request_with(change: Any) -> Any:
    def changed(payload: list[Any]) -> list[Any]:
        fields = msgspec.msgpack.decode(payload[0])
        return [msgspec.msgpack.encode(change(fields)), *payload[1:]]

    return changed


def _points_with(change: Any) -> Any:
    def changed(fields: list[Any]) -> list[Any]:
        (points,) = msgspec.msgpack.decode(fields[1])
        return [fields[0], msgspec.msgpack.encode([change(points)]), *fields[2:]]

    return changed


HOSTILE: dict[str, Any] = {
    "no request": lambda p: [b"", *p[1:]],
    "a request that is none": lambda p: [b"\x91" * 3000, *p[1:]],
    "a request as it is, not as bytes": lambda p: [[], *p[1:]],
    "a short id": lambda p: [p[0], b"", p[2]],
    "others out of order": lambda p: [p[0], p[1], p[2][::-1]],
    "others before the first": lambda p: [p[0], p[2][-1][0], p[2][:1]],
    "the first among the others": lambda p: [p[0], p[1], [[p[1], bytes(64)], *p[2]]],
    "16 others": lambda p: [p[0], bytes(16), [[bytes([n + 1]) * 16, bytes(64)] for n in range(16)]],
    "a thousand others": lambda p: [*p[:2], [[n.to_bytes(16), bytes(64)] for n in range(1000)]],
    "a short signature": lambda p: [*p[:2], [[p[2][0][0], b""]]],
    "nothing": lambda p: [],
    "a map": lambda p: {"request": p[0]},
    "no points": _request_with(_points_with(lambda _: [])),
    "a point twice": _request_with(_points_with(lambda rows: [rows[0], *rows])),
    "points out of order": _request_with(_points_with(lambda rows: rows[::-1])),
    "a short point id": _request_with(_points_with(lambda rows: [[*rows[0][:2], b""]])),
    "sequence 0": _request_with(_points_with(lambda rows: [[rows[0][0], 0, rows[0][2]]])),
    "too many points": _request_with(
        _points_with(lambda _: [[bytes(16), n + 1, bytes(32)] for n in range(10_001)])
    ),
    "parameters that are none": _request_with(lambda r: [r[0], b"\x91" * 3000, *r[2:]]),
    "another operation": _request_with(lambda r: [2, *r[1:]]),
    "an unknown operation": _request_with(lambda r: [4, *r[1:]]),
    "a time that is none": _request_with(lambda r: [*r[:3], 2**62, *r[4:]]),
    "an end before its beginning": _request_with(lambda r: [*r[:4], r[3], *r[5:]]),
    "an end after 91 days": _request_with(lambda r: [*r[:4], r[3] + 91 * DAY, *r[5:]]),
    "a short nonce": _request_with(lambda r: [*r[:5], b"", r[6]]),
    "a long reason": _request_with(lambda r: [*r[:6], bytes(229)]),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_certificates_that_none_can_make_are_refused(council: Council, change: str) -> None:
    payload = msgspec.msgpack.encode(HOSTILE[change](_fields(council)))
    header = unsigned_object(ObjectKind.CERTIFICATE, _Loose(b"", b"", []))[:8]
    data = header + len(payload).to_bytes(4, "little") + payload + bytes(64)
    with pytest.raises(IntegrityFailure):
        decode_deletion(parse_certificate(data, "hostile")[0], "hostile")
    _refused(council, _plant(council, data))


def test_every_flipped_bit_is_found(council: Council) -> None:
    request = request_for(doomed(1))
    good = pack_certificate(request, council.signed(request, *council.members[:2]))
    vault = council.open()
    for at in range(len(good)):
        data = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        name = _plant(council, data)
        assert deleted_points(vault) == {}, at
        council.store.delete_expired(name)


def test_every_shortened_certificate_is_found(council: Council) -> None:
    request = request_for(doomed(1))
    good = pack_certificate(request, council.signed(request, *council.members[:2]))
    vault = council.open()
    for size in range(len(good)):
        name = _plant(council, good[:size])
        assert deleted_points(vault) == {}, size
        council.store.delete_expired(name)


def test_ten_thousand_points_fit(council: Council) -> None:
    points = [DoomedPoint(bytes(16), n + 1, n.to_bytes(32)) for n in range(10_000)]
    request = request_for(*points)
    put_certificate(council.open(), request, council.signed(request, *council.members))
    assert len(deleted_points(council.open())) == 10_000


def test_one_larger_than_any_is_not_read(council: Council) -> None:
    name = _plant(council, bytes((1 << 20) + 1))
    assert "larger" in _refused(council, name)


def test_rubbish_keeps_no_good_one_from_counting(council: Council) -> None:
    request = request_for(doomed(1))
    put_certificate(council.open(), request, council.signed(request, *council.members))
    for number in range(5):
        _plant(council, bytes([number]) * 100)
    for name in ("certificates/x", "certificates/00/00", f"certificates/{'0' * 63}"):
        _plant(council, b"x", name)
    damaged: list[IntegrityFailure] = []
    assert set(deleted_points(council.open(), damaged)) == {doomed(1).point_id}
    assert len(damaged) == 8


def test_the_reason_is_hidden_and_one_that_is_none_is_refused(council: Council) -> None:
    secret = council.open().secret
    reason = "a judge in Zürich said so"
    request = request_for(doomed(1), reason=hide_reason(secret, reason))
    assert b"judge" not in request
    assert secret.read_label(decode_request(request, "x")[0].reason, "x") == reason
    assert len(hide_reason(secret, "x")) == len(hide_reason(secret, "x" * 200)) == 228
    for bad in ("", " ", "a\nb", "x" * 201, "\x1b[31m"):
        with pytest.raises(UsageError):
            hide_reason(secret, bad)
