"""What approvers sign, and the files that go between them: hostile bytes choose and delete nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from donjon.app.approvals.files import RequestFile
from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.format import names
from donjon.format.approval import decode_approval, decode_request
from donjon.format.approvers import decode_approvers
from donjon.format.certificate import decode_deletion, pack_certificate, parse_certificate
from donjon.format.objects import ObjectKind, pack_object, parse_object
from donjon.format.vault import KeyringRecord, VaultObject
from donjon.repository.approver_keys import ApproverCredential, ApproverKey
from donjon.repository.certificates import deleted_points
from donjon.repository.keyring import Keyring
from donjon.repository.vault import open_vault
from donjon.stores.memory import MemoryStore
from tests.fuzz.approvals import approvals
from tests.fuzz.fuzzing import changed_bytes, changed_values, fuzz

WHAT = "hostile"


def approver_list() -> bytes:
    """The list of record 1."""
    return bytes(msgspec.msgpack.decode(approvals()["keyring/00000001"][12:-64])[8])


def approved() -> dict[str, KeyringRecord]:
    """The records that approvers allowed, by name: one removes a recipient, one chooses others."""
    names_ = ("keyring/00000004", "keyring/00000005")
    return {name: parse_object(approvals()[name], ObjectKind.KEYRING, KeyringRecord, name) for name in names_}


def certificates() -> list[bytes]:
    return [data for name, data in approvals().items() if name.startswith("certificates/")]


def requests() -> list[bytes]:
    return [data for name, data in approvals().items() if name.endswith("/request")]


def test_lists_of_approvers() -> None:
    """2 to 16 of them are left, whatever the bytes, and each is there once."""
    vault = parse_object(approvals()["vault"], ObjectKind.VAULT, VaultObject, WHAT)
    root = SigningKey(bytes(range(32)))
    first = parse_object(approvals()["keyring/00000001"], ObjectKind.KEYRING, KeyringRecord, WHAT)

    def parse(data: bytes) -> None:
        chosen = decode_approvers(data, WHAT)
        assert 2 <= chosen.needed <= len(set(chosen.keys)) <= 16
        assert len(chosen.labels) == len(chosen.keys)
        keyring = Keyring(vault, digest(approvals()["vault"]))
        record = msgspec.structs.replace(first, subject=chosen.subject, extra=data)
        keyring.apply(pack_object(ObjectKind.KEYRING, record, vault.vault_id, root), WHAT)
        assert keyring.approvers is not None
        assert keyring.approvers.needed <= len(keyring.approvers.members)

    assert fuzz(parse, changed_values([msgspec.msgpack.decode(approver_list())]))


@pytest.mark.parametrize("name", approved())
def test_approvals_in_records(name: str) -> None:
    """What the root key and nobody else signed chooses and removes nobody."""
    vault = parse_object(approvals()["vault"], ObjectKind.VAULT, VaultObject, WHAT)
    root = SigningKey(bytes(range(32)))
    assert root.public == vault.root_public
    good = approved()[name]

    def parse(data: bytes) -> None:
        assert decode_request(decode_approval(data, WHAT).request, WHAT)
        keyring = Keyring(vault, digest(approvals()["vault"]))
        for number in range(1, good.number):
            keyring.apply(approvals()[names.keyring(number)], WHAT)
        before = keyring.approvers, set(keyring.members)
        record = msgspec.structs.replace(good, extra=data)
        try:
            keyring.apply(pack_object(ObjectKind.KEYRING, record, vault.vault_id, root), WHAT)
        except IntegrityFailure:
            assert (keyring.approvers, set(keyring.members)) == before
            return
        request = decode_approval(data, WHAT).request
        assert request == decode_approval(good.extra, WHAT).request  # what they signed

    assert fuzz(parse, changed_values([msgspec.msgpack.decode(good.extra)]))


def test_requests_in_certificates() -> None:
    """A request that was changed is none, or nobody signed it."""
    store = MemoryStore(lambda: 1_800_000_000)
    for name, data in approvals().items():
        if not name.startswith("certificates/"):
            store.put(name, data)
    vault = open_vault(store)
    good = {parse_certificate(data, WHAT)[0] for data in certificates()}
    signatures = [parse_certificate(data, WHAT)[1] for data in certificates()]

    def parse(request: bytes) -> None:
        points = decode_deletion(request, WHAT)[1].points
        assert 1 <= len(set(points)) == len(points) <= 10_000
        for signed in signatures:
            data = pack_certificate(request, signed)
            name = names.certificate(digest(data))
            store.put(name, data)
            try:
                assert not deleted_points(vault) or request in good
            finally:
                store.delete_expired(name)

    seeds = [msgspec.msgpack.decode(request) for request in good]
    assert fuzz(parse, changed_values(seeds))


def test_parameters_of_requests() -> None:
    """Whatever they are, they are of a known kind, or the request is refused."""

    def parse(parameters: bytes) -> None:
        for operation in range(7):
            fields = [operation, parameters, bytes(16), 1, 2, bytes(16), b""]
            with contextlib.suppress(IntegrityFailure):
                content, found = decode_request(msgspec.msgpack.encode(fields), WHAT)
                assert operation in {1, 2, 3, 5}
                assert content.parameters == parameters
                assert msgspec.msgpack.decode(parameters)[: len(msgspec.structs.fields(found))]

    seeds = [msgspec.msgpack.decode(msgspec.msgpack.decode(data[12:-64])[1]) for data in requests()]
    seeds.append([bytes(16), 1, bytes(32), [bytes(32), bytes([1]) * 32]])  # to use a suspect point
    assert fuzz(parse, changed_values(seeds))


def test_files_of_approvers(tmp_path: Path) -> None:
    credential = ApproverCredential("ann", bytes(32))
    credential.write(tmp_path / "valid")
    request = RequestFile(bytes(16), b"request", {bytes(16): bytes(64)}, ("shown",))
    request.create(tmp_path / "request")
    seeds = [(tmp_path / name).read_bytes() for name in ("valid", "request")]
    path = tmp_path / "hostile"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(DonjonError):
            assert len(ApproverKey.read(path).public) == 32
        with contextlib.suppress(DonjonError):
            assert len(ApproverCredential.read(path).approver_id) == 16
        assert len(RequestFile.read(path).signatures) <= 16

    assert fuzz(parse, changed_bytes([*seeds, credential.public.text().encode()]))
