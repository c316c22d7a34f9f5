"""Approvers as people use them: requests that go round, what is signed, and what does not count."""

from __future__ import annotations

import base64
import json
import os
import pty
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from donjon.app.wiring import open_vault_at
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure
from donjon.format.approval import ApprovalRequest, pack_request
from donjon.format.vault import Action
from donjon.repository.approvals import make_request, put_request
from donjon.repository.approver_keys import ApproverCredential, ApproverKey, choose_approvers
from donjon.repository.approving import keyring_change
from donjon.repository.certificates import deleted_points
from donjon.repository.credential import WriterCredential
from donjon.testing.folders import remove_tree
from tests.integration.cli import TIMEOUT_S, Donjon

NAMES = ("ann", "bo", "cy")


@dataclass
class Office:
    """A host with a vault, and the credentials of the approvers, who are elsewhere."""

    host: Donjon
    desk: Path

    def credential(self, name: str) -> Path:
        return self.desk / f"{name}.approver"

    def public(self, name: str) -> Path:
        return self.desk / f"{name}.approver.pub"

    def new(self, name: str) -> dict[str, Any]:
        return self.host.json("approver", "new", name, "--out", self.credential(name))

    def named(self, *who: str) -> list[str]:
        return [part for name in who for part in ("--approver", str(self.public(name)))]

    def backup(self, text: str) -> str:
        (self.host.folder / "source").mkdir(exist_ok=True)
        (self.host.folder / "source/file").write_text(text)
        point = self.host.json("backup", self.host.folder / "source")["point"]
        assert isinstance(point, str)
        return point

    def request(self, *points: str, file: str = "request.json") -> Path:
        out = self.desk / file
        self.host.json("deletion", "request", *points, "--file", out)
        return out

    def ask(self, *points: str) -> str:
        """A request in the vault; its id."""
        asked = self.host.json("deletion", "request", *points)["id"]
        assert isinstance(asked, str)
        return asked

    def apply(self, *files: Path, code: int = 0) -> str:
        """Carry out what is in these files; what it says."""
        named = [part for file in files for part in ("--file", file)]
        done = self.host.run("approve", "apply", *named, code=code)
        return (done.stdout + done.stderr).decode()

    def sign(self, request: Path | str, name: str, code: int = 0) -> str:
        """The approver has no key of the vault, and is on another machine."""
        other = self.host.without_kit()
        which = ("--file", request) if isinstance(request, Path) else (request,)
        there = ("--vault", self.host.vault, "--key", self.credential(name), "--yes")
        done = other.run("approve", "sign", *which, *there, code=code)
        return (done.stdout + done.stderr).decode()

    def deleted(self) -> set[str]:
        """What the reaper would let go early."""
        damaged: list[IntegrityFailure] = []
        found = deleted_points(open_vault_at(self.host.vault.as_uri()), damaged)
        assert damaged == []
        return {point_id.hex() for point_id in found}

    def change(self, *who: str, code: int = 0) -> dict[str, Any]:
        """Ask for these approvers, or carry that out."""
        return self.host.json("approver", "change", *self.named(*who), "--approvals", "2", code=code)

    def replace(self, *who: str, signers: tuple[str, ...]) -> None:
        """Change the approvers to these."""
        asked = self.change(*who, code=11)["request"]["id"]
        for name in signers:
            self.sign(asked, name)
        assert self.change(*who)["changed"]


@pytest.fixture
def office(host: Donjon, tmp_path: Path) -> Office:
    made = Office(host, tmp_path / "desk")
    made.desk.mkdir()
    for name in (*NAMES, "dee"):
        made.new(name)
    host.init(*made.named(*NAMES), "--approvals", "2")
    return made


def test_a_credential_is_private_and_its_public_half_is_one_line(office: Office) -> None:
    made = office.new("eve")
    assert stat.S_IMODE(office.credential("eve").stat().st_mode) == 0o600
    assert office.public("eve").read_text() == made["public"] + "\n"
    assert made["public"].endswith(" eve")
    office.host.run("approver", "new", "eve", "--out", office.credential("eve"), code=1)
    office.credential("eve").unlink()
    office.host.run("approver", "new", "eve", "--out", office.credential("eve"), code=1)
    assert not office.credential("eve").exists()


def test_two_of_three_let_a_point_go_and_one_does_not(office: Office) -> None:
    first, second = office.backup("one"), office.backup("two")
    file = office.request(first[:12])
    assert first in file.read_text()  # who opens it sees what it is about
    assert second not in file.read_text()
    copies = [Path(shutil.copy(file, office.desk / name)) for name in ("ann.json", "cy.json")]
    assert first[:12] in office.sign(copies[0], "ann")
    refused = office.apply(copies[0], code=11)
    assert "1 of the 2" in refused
    assert "bo (" in refused
    assert "cy (" in refused
    assert "ann (" not in refused
    assert office.deleted() == set()
    office.sign(copies[1], "cy")
    both = [part for copy in copies for part in ("--file", copy)]
    done = office.host.without_kit().json("approve", "apply", *both)
    assert (done["new"], done["approvals"], len(done["signed"])) == (True, 2, 2)
    assert [row["id"] for row in done["points"]] == [first]
    assert office.deleted() == {first}
    assert office.host.json("verify")["ok"]
    again = office.host.json("approve", "apply", *both)
    assert (again["new"], again["certificate"]) == (False, done["certificate"])
    (listed,) = office.host.json("deletion", "list")["certificates"]
    assert (listed["standing"], listed["certificate"]) == ("counts", done["certificate"])
    assert {point["id"] for point in office.host.json("points")["points"]} == {first, second}


def test_locks_hold_all_the_same_and_the_command_says_until_when(tmp_path: Path) -> None:
    host = Donjon(tmp_path / "locked")
    host.folder.mkdir()
    office = Office(host, tmp_path / "desk")
    office.desk.mkdir()
    for name in NAMES:
        office.new(name)
    try:
        host.init(*office.named(*NAMES), "--approvals", "2", lock="7d")
        point = office.backup("one")
        file = office.request(point)
        for name in NAMES:
            office.sign(file, name)
        text = office.apply(file)
        (listed,) = host.json("points")["points"]
        assert listed["locked_until"]
        assert f"Even so, nothing goes before {listed['locked_until']}" in text
        assert "enforcement: " in text
        (certificate,) = host.json("deletion", "list")["certificates"]
        assert certificate["locked_until"] == listed["locked_until"]
        assert certificate["points"][0]["locked_until"] == listed["locked_until"]
    finally:
        remove_tree(host.folder)


def test_an_approver_sees_what_is_to_go_and_is_asked(office: Office) -> None:
    point = office.backup("one")
    file = office.desk / "request.json"
    office.host.json("deletion", "request", "latest", "--file", file, "--reason", "court order 7")
    assert "court order" not in file.read_text()
    sign = ("approve", "sign", "--file", file, "--key", office.credential("ann"))
    asked = office.host.run(*sign, code=2)
    assert b"--yes" in asked.stderr
    assert json.loads(file.read_text())["signatures"] == {}
    shown = asked.stdout.decode()
    assert point[:12] in shown
    assert "court order 7" in shown
    assert f":{office.host.folder}/source" in shown  # the workload
    blind = office.host.without_kit()
    shutil.rmtree(blind.home / "writers")
    bare = blind.run(*sign, "--yes").stdout.decode()
    assert "(sealed)" in bare
    assert "(hidden)" in bare
    assert "court order" not in bare


def test_no_name_passes_for_a_line_of_ours(office: Office) -> None:
    """Whoever can back up chooses the workload, which the approver is shown."""
    folder = office.host.folder / "source"
    folder.mkdir()
    spoof = "db  1 B\nSigned by ann, bo, cy; 1 approvers are needed."
    point = office.host.json("backup", folder, "--workload", spoof)["point"]
    file = office.request(point)
    text = office.host.text("approve", "sign", "--file", file, "--key", office.credential("ann"), "--yes")
    assert "db  1 B\\x0aSigned by" in text
    assert [line for line in text.splitlines() if line.startswith("Signed by")] == [
        "Signed by nobody yet; 2 of 3 are needed."
    ]


@pytest.mark.parametrize(("answer", "code"), [(b"yes\n", 0), (b"y\n", 1), (b"\n", 1), (b"no\n", 1)])
def test_on_a_terminal_only_yes_is_yes(office: Office, answer: bytes, code: int) -> None:
    file = office.request(office.backup("one"))
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, answer)
        done = subprocess.run(
            [office.host.program, "approve", "sign", "--file", file, "--key", office.credential("ann")],
            env=office.host.environment(),
            stdin=terminal,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == code, done.stderr
    assert len(json.loads(file.read_text())["signatures"]) == (code == 0)


# --- attacks ------------------------------------------------------------------------------------------


def _edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | changes))


def _forged(file: Path, key: SigningKey, *, of: str = "") -> Mapping[str, str]:
    """A signature by this key, under its own id or that of another."""
    content = json.loads(file.read_text())
    request, vault_id = base64.b64decode(content["request"]), bytes.fromhex(content["vault_id"])
    signature = key.sign(b"donjon/v1/approval\0" + vault_id + request[12:-64])
    who = of or ApproverCredential("x", key.seed).approver_id.hex()
    return {**content["signatures"], who: base64.b64encode(signature).decode()}


def test_an_outsider_the_root_key_and_a_writer_are_no_approvers(office: Office) -> None:
    file = office.request(office.backup("one"))
    assert "does not approve" in office.sign(file, "dee", code=13)
    office.sign(file, "ann")
    with_root = (office.host.kit, next((office.host.home / "writers").iterdir()))
    for path in with_root:  # neither the kit nor a writer credential signs as an approver
        office.host.run("approve", "sign", "--file", file, "--key", path, "--yes", code=13)
    from donjon.keys.recovery import read_kit

    root = read_kit(office.host.kit, None).root
    writer = json.loads(with_root[1].read_text())["signing_seed"]
    assert root is not None
    for key in (root, SigningKey(base64.b64decode(writer)), SigningKey.generate()):
        _edit(file, signatures=_forged(file, key))
    assert "1 of the 2" in office.apply(file, code=11)
    bo = office.host.json("approver", "list")["approvers"]
    other = next(row["id"] for row in bo if row["name"] == "bo")
    _edit(file, signatures=_forged(file, root, of=other))
    assert "is wrong" in office.apply(file, code=12)
    assert office.deleted() == set()


def test_a_tampered_request_is_refused(office: Office) -> None:
    first, second = office.backup("one"), office.backup("two")
    file, other = office.request(first), office.request(second, file="other.json")
    for name in ("ann", "bo"):
        office.sign(file, name)
    signatures = json.loads(file.read_text())["signatures"]
    _edit(other, signatures=signatures)
    assert "is wrong" in office.apply(other, code=12)
    assert "is wrong" in office.sign(other, "cy", code=12)
    assert office.deleted() == set()
    assert "another request" in office.apply(file, other, code=2)


def test_what_a_file_shows_is_never_believed(office: Office) -> None:
    first, second = office.backup("one"), office.backup("two")
    file = office.request(first)
    _edit(file, shows=[f"only {second} is to go"])
    text = office.sign(file, "ann")
    assert first[:12] in text
    assert second[:12] not in text
    assert second not in file.read_text()  # the lines are written anew


def test_a_request_for_another_vault_is_refused(office: Office, tmp_path: Path) -> None:
    """The same approvers, and even the same backup: nothing serves twice."""
    other = Office(Donjon(tmp_path / "other"), office.desk)
    other.host.folder.mkdir()
    other.host.init(*office.named(*NAMES), "--approvals", "2")
    file = other.request(other.backup("one"))
    for name in ("ann", "bo"):
        other.sign(file, name)
    done = other.host.json("approve", "apply", "--file", file)
    assert "another vault" in office.apply(file, code=13)
    assert "another vault" in office.sign(file, "cy", code=13)
    _edit(file, vault_id=_vault_id(office))
    assert "whom no keyring record knows" in office.apply(file, code=12)
    planted = office.host.vault / done["certificate"]
    planted.parent.mkdir(exist_ok=True)
    shutil.copy(other.host.vault / done["certificate"], planted)
    listed = office.host.json("deletion", "list", code=12)
    assert listed["certificates"] == []
    assert "is wrong" in listed["damaged"][0]
    (problem,) = office.host.json("verify", code=12)["problems"]
    assert (problem["kind"], problem["object"]) == ("damaged", done["certificate"])


def _vault_id(office: Office) -> str:
    (known,) = (office.host.home / "vaults").glob("*.json")
    found = json.loads(known.read_text())["vault_id"]
    assert isinstance(found, str)
    return found


def test_points_that_do_not_exist_are_neither_asked_for_nor_signed(office: Office) -> None:
    point = office.backup("one")
    out = office.desk / "x.json"
    assert b"no point" in office.host.run("deletion", "request", "00" * 32, "--file", out, code=1).stderr
    assert not out.exists()
    file = office.request(point)
    fields = msgspec.msgpack.decode(base64.b64decode(json.loads(file.read_text())["request"])[12:-64])
    ((row,),) = msgspec.msgpack.decode(fields[1])
    ann = ApproverCredential.read(office.credential("ann"))
    for change in ([row[0], 7, row[2]], [*row[:2], bytes(32)]):
        parameters = msgspec.msgpack.encode([[change]])
        asked = ApprovalRequest(1, parameters, ann.approver_id, *fields[3:])
        wrong = pack_request(asked, bytes.fromhex(_vault_id(office)), ann.signing_key)
        _edit(file, request=base64.b64encode(wrong).decode())
        assert "is not in" in office.sign(file, "ann", code=1)
    assert json.loads(file.read_text())["signatures"] == {}


# --- approvers that change ----------------------------------------------------------------------------


def test_after_a_change_the_old_ones_do_not_count(office: Office) -> None:
    first, second = office.backup("one"), office.backup("two")
    done, late = office.request(first), office.request(second, file="late.json")
    for name in ("bo", "cy"):
        office.sign(done, name)
        office.sign(late, name)
    office.apply(done)
    assert office.deleted() == {first}
    office.replace("ann", "dee", signers=("ann", "bo"))
    listed = office.host.json("approver", "list")
    assert ({row["name"] for row in listed["approvers"]}, listed["approvals"]) == ({"ann", "dee"}, 2)
    assert office.deleted() == set()
    assert "0 of the 2" in office.apply(late, code=11)
    assert "does not approve" in office.sign(late, "bo", code=13)
    (certificate,) = office.host.json("deletion", "list")["certificates"]
    assert certificate["standing"] == "outdated"
    assert office.host.json("verify")["ok"]  # nobody did anything wrong
    for name in ("ann", "dee"):
        office.sign(late, name)
    office.apply(late)
    assert office.deleted() == {second}


def test_the_kit_alone_changes_no_approvers(office: Office) -> None:
    before = office.host.json("approver", "list")
    pending = office.change("ann", "dee", code=11)
    shown = pending["request"]
    assert (pending["changed"], pending["new"], shown["operation"]) == (False, True, "change approvers")
    assert [row["name"] for row in shown["approvers"] if row["new"]] == ["dee"]
    assert len(shown["gone"]) == 2
    assert "does not approve" in office.sign(shown["id"], "dee", code=13)
    office.sign(shown["id"], "ann")
    assert "has signed" in office.sign(shown["id"], "ann", code=13)
    again = office.change("ann", "dee", code=11)
    assert (again["new"], again["request"]["id"], len(again["request"]["signed"])) == (False, shown["id"], 1)
    assert b"1 of the 2" in office.host.run("approve", "apply", shown["id"], code=11).stderr
    office.sign(shown["id"][:12], "bo")
    bare = office.host.without_kit()
    bare.run("approve", "apply", shown["id"], "--vault", office.host.vault, code=13)
    assert office.host.json("approver", "list") == before
    assert office.host.json("approve", "apply", shown["id"])["new"]
    assert len(office.host.json("approver", "list")["approvers"]) == 2
    assert office.change("ann", "dee")["approvals"] == 2
    assert office.host.json("approve", "list")["requests"] == []
    done = office.host.json("approve", "apply", shown["id"])  # done before: no harm
    assert (done["new"], done["state"]) == (False, "done")


def test_approvers_can_be_changed_by_files(office: Office) -> None:
    file = office.desk / "change.json"
    change = ["approver", "change", *office.named("ann", "dee"), "--approvals", "2"]
    asked = office.host.json(*change, "--file", file, code=11)["request"]
    assert asked["file"] == str(file)
    assert office.host.json("approve", "list")["requests"] == []
    copies = [Path(shutil.copy(file, office.desk / name)) for name in ("bo.json", "cy.json")]
    office.sign(copies[0], "bo")
    assert "has signed" in office.sign(copies[0], "bo", code=13)
    office.sign(copies[1], "cy")
    assert "1 of the 2" in office.apply(copies[0], code=11)
    office.apply(*copies)
    assert {row["name"] for row in office.host.json("approver", "list")["approvers"]} == {"ann", "dee"}


def test_other_changes_of_the_keyring_do_not_void_a_request(office: Office) -> None:
    asked = office.change("ann", "dee", code=11)["request"]["id"]
    office.sign(asked, "ann")
    office.host.json("writer", "add", "web1", "--out", office.desk / "web1.writer")
    office.sign(asked, "bo")
    assert office.change("ann", "dee")["approvals"] == 2


# --- keys that go -------------------------------------------------------------------------------------


def test_the_kit_alone_removes_no_key(office: Office) -> None:
    host = office.host
    host.run("keys", "add", "kit", "--name", "safe", "--out", office.desk / "safe.kit")
    pending = host.json("keys", "revoke", "safe", "--reason", "lost on a train", code=11)
    asked = pending["request"]
    assert (pending["changed"], asked["operation"], asked["key"]["name"]) == (False, "remove key", "safe")
    assert (asked["reason"], asked["asked_by"], asked["state"]) == ("lost on a train", "the root key", "open")
    text = host.run("keys", "revoke", "safe", code=11).stdout.decode()
    assert f"donjon approve sign {asked['id'][:12]} --key KEY" in text
    office.sign(asked["id"], "ann")
    assert host.json("keys", "revoke", "safe", code=11)["request"]["missing"]
    assert len(host.json("keys", "list")["keys"]) == 3
    office.sign(asked["id"], "bo")
    assert host.json("keys", "revoke", "safe")["changed"]
    assert "safe" not in {key["name"] for key in host.json("keys", "list")["keys"]}
    host.run("keys", "revoke", "safe", code=2)
    assert host.json("approve", "list")["requests"] == []
    (listed,) = host.json("approve", "list", "--all")["requests"]
    assert (listed["id"], listed["state"]) == (asked["id"], "done")
    assert host.json("verify")["ok"]
    host.run("backup", office.desk)


def test_a_rotated_key_goes_when_approvers_allow_it(office: Office) -> None:
    """The new key opens everything at once; the old one stays until then."""
    host, new = office.host, office.desk / "third.kit"
    rotated = host.json("keys", "rotate", "second kit", "--out", new, "--revoke-old", code=11)
    assert (rotated["revoked"], rotated["still_opens"]) == (False, None)
    for name in ("ann", "cy"):
        office.sign(rotated["request"]["id"], name)
    assert host.json("keys", "revoke", rotated["old"][:12])["changed"]
    assert len(host.json("keys", "list")["keys"]) == 2


def test_signatures_in_the_vault_and_in_files_count_together(office: Office) -> None:
    point = office.backup("one")
    asked = office.ask(point[:12])
    again = office.host.json("deletion", "request", point)
    assert (again["new"], again["id"]) == (False, asked)
    file = office.desk / "carried.json"
    shown = office.host.json("approve", "show", asked[:8], "--out", file)
    assert (shown["state"], shown["file"]) == ("open", str(file))
    office.sign(asked, "ann")
    office.sign(file, "cy")
    assert "1 of the 2" in office.host.run("approve", "apply", asked, code=11).stderr.decode()
    done = office.host.json("approve", "apply", asked, "--file", file)
    assert (done["new"], done["state"], len(done["signed"])) == (True, "done", 2)
    assert office.deleted() == {point}
    office.host.run("approve", "apply", "00" * 32, "--file", file, code=2)


def test_an_approver_asks_with_an_own_key(office: Office) -> None:
    point, other, bare = office.backup("one"), office.backup("two"), office.host.without_kit()
    shutil.rmtree(bare.home / "writers")
    bare.run("deletion", "request", point, code=13)  # nobody is at hand who may ask
    asked = bare.json("deletion", "request", point, "--key", office.credential("bo"))
    assert asked["asked_by"].startswith("the approver ")
    asking = ("deletion", "request", other, "--key", office.credential("dee"))
    assert b"neither the root key nor" in bare.run(*asking, code=13).stderr


def test_requests_expire(office: Office) -> None:
    point = office.backup("one")
    office.host.run("deletion", "request", point, "--expires", "91d", code=2)
    asked = office.host.json("deletion", "request", point, "--expires", "1h")["id"]
    for name in ("ann", "bo"):
        office.sign(asked, name)
    late = office.host.later(1)
    assert b"expired at" in late.run("approve", "apply", asked, code=11).stderr
    sign = ("approve", "sign", asked, "--key", office.credential("cy"), "--yes")
    assert b"expired at" in late.run(*sign, code=11).stderr
    assert late.json("approve", "show", asked)["state"] == "expired"
    assert late.json("deletion", "request", point)["id"] != asked
    assert office.deleted() == set()


def test_requests_of_a_stolen_writer_mislead_nobody(office: Office) -> None:
    """It may ask, but it neither blocks what others ask for nor chooses the names of approvers."""
    host = office.host
    host.run("keys", "add", "kit", "--name", "safe", "--out", office.desk / "safe.kit")
    vault = open_vault_at(host.vault.as_uri())
    credential = WriterCredential.read(next((host.home / "writers").iterdir()))
    vault.use_secret(credential.secret)
    ann, dee = (ApproverKey.read(office.public(name)) for name in ("ann", "dee"))
    swapped = [ApproverKey("dee", ann.public), ApproverKey("ann", dee.public)]
    chosen = choose_approvers(2, swapped, vault.secret)
    safe = next(key for key in host.json("keys", "list")["keys"] if key["name"] == "safe")
    planted = []
    for change, reason in (
        (keyring_change(vault, Action.SET_APPROVERS, chosen.subject, chosen.encode()), b""),
        (keyring_change(vault, Action.SET_APPROVERS, chosen.subject, b"rubbish"), b""),
        (keyring_change(vault, Action.REMOVE_RECIPIENT, bytes.fromhex(safe["id"])), bytes(228)),
    ):
        made = make_request(vault, change, credential.signing_key, 3600, bytes(16), reason)
        put_request(vault, made)
        planted.append(made.request_id.hex())
    asked = [
        office.change("ann", "dee", code=11)["request"],
        host.json("keys", "revoke", "safe", code=11)["request"],
    ]
    assert not {row["id"] for row in asked} & set(planted)
    listed = host.json("approve", "list", code=12)
    assert {row["id"] for row in listed["requests"]} == {planted[0], *(row["id"] for row in asked)}
    by_writer = next(row for row in listed["requests"] if row["id"] == planted[0])
    assert by_writer["asked_by"].startswith("the writer ")
    assert len(listed["damaged"]) == 2
    for name in ("ann", "bo"):
        office.sign(asked[1]["id"], name)
    assert host.json("keys", "revoke", "safe")["changed"]


def test_what_is_forged_is_told(office: Office) -> None:
    asked = office.ask(office.backup("one"))
    folder = office.host.vault / "approvals" / asked
    other = office.host.json("approver", "list")["approvers"][0]["id"]
    (folder / other).write_bytes(b"rubbish")
    listed = office.host.json("approve", "list", code=12)
    assert [row["id"] for row in listed["requests"]] == [asked]
    assert other in listed["damaged"][0]
    assert office.host.json("verify", code=12)["problems"][0]["object"].endswith(other)
    refused = office.host.run("approve", "apply", asked, code=11).stderr.decode()
    assert "0 of the 2" in refused
    assert other in refused


# --- bad input ----------------------------------------------------------------------------------------


def test_init_takes_enough_approvers_or_none(host: Donjon, tmp_path: Path) -> None:
    office = Office(host, tmp_path)
    for name in NAMES:
        office.new(name)
    init = ("init", "--single-recipient", host.vault, "--kit", host.kit, "--lock", "none")
    for options in (
        [*office.named("ann"), "--approvals", "1"],
        [*office.named("ann", "bo"), "--approvals", "1"],
        [*office.named("ann", "bo"), "--approvals", "3"],
        [*office.named("ann", "ann"), "--approvals", "2"],
        office.named("ann", "bo"),
        ["--approvals", "2"],
        ["--approver", str(office.credential("ann")), *office.named("bo"), "--approvals", "2"],
        ["--approver", str(tmp_path / "none"), *office.named("bo"), "--approvals", "2"],
    ):
        assert b"Traceback" not in host.run(*init, *options, code=2).stderr
        assert not host.vault.exists()
        assert not host.kit.exists()
    made = host.json(*init, *office.named("ann", "bo"), "--approvals", "2")
    assert (made["approvals"], len(made["approvers"])) == (2, 2)


def test_a_vault_without_approvers_says_so(donjon: Donjon, tmp_path: Path) -> None:
    office = Office(donjon, tmp_path)
    for name in NAMES:
        office.new(name)
    point = office.backup("one")
    assert donjon.json("approver", "list") == {"approvals": 0, "since": None, "approvers": []}
    out = tmp_path / "x"
    change: list[str | Path] = ["approver", "change", *office.named("ann", "bo"), "--approvals", "2"]
    for command in (["deletion", "request", point], change):
        error = donjon.run(*command, "--file", out, code=1).stderr.decode()
        assert "without approvers" in error
        assert not out.exists()
    assert donjon.json("deletion", "list") == {"certificates": [], "damaged": []}


def test_what_needs_a_key_says_so(office: Office) -> None:
    point = office.backup("one")
    bare, out = office.host.without_kit(), office.desk / "x.json"
    shutil.rmtree(bare.home / "writers")
    bare.run("deletion", "request", "latest", "--file", out, code=13)
    bare.run("deletion", "request", point, "--reason", "because", "--file", out, code=13)
    bare.run("approver", "change", *office.named("ann", "dee"), "--approvals", "2", "--file", out, code=13)
    assert not out.exists()
    bare.run("deletion", "request", point, "--file", out, "--key", office.credential("ann"))
    assert [row["name"] for row in bare.json("approver", "list")["approvers"]] == [None] * 3


def test_files_that_are_none_are_named(office: Office) -> None:
    point = office.backup("one")
    file = office.request(point)
    office.host.run("deletion", "request", point, "--file", file, code=1)  # never overwrites
    junk = office.desk / "junk"
    good = json.loads(file.read_text())
    for content in (
        b"",
        b"\xff\x00",
        file.read_bytes()[:-30],
        office.host.kit.read_bytes(),
        json.dumps(good | {"format": "donjon approver change"}).encode(),
        json.dumps(good | {"request": "?"}).encode(),
        json.dumps(good | {"vault_id": "00"}).encode(),
        json.dumps(good | {"signatures": {"00": "00"}}).encode(),
        json.dumps(good | {"signatures": {f"{n:032x}": "" for n in range(99)}}).encode(),
    ):
        junk.write_bytes(content)
        assert str(junk) in office.sign(junk, "ann", code=2)
        assert str(junk) in office.apply(junk, code=2)
    junk.write_text(json.dumps(good | {"request": base64.b64encode(b"\x91" * 5000).decode()}))
    office.sign(junk, "ann", code=12)
    junk.write_text(json.dumps(good | {"version": 2}))
    assert "newer Donjon" in office.sign(junk, "ann", code=1)
    office.apply(office.desk / "nowhere", code=2)
    office.host.run("approve", "sign", "--file", file, "--key", office.desk / "nowhere", "--yes", code=13)
    office.host.run("approve", "apply", code=2)
    assert office.deleted() == set()
