"""Approvers whose keys are on tokens of PKCS #11 (SoftHSM2): making, signing, and what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.repository.approver_keys import ApproverKey
from donjon.testing.servers.softhsm import SoftHsm, make_softhsm
from tests.integration.cli import TIMEOUT_S, Donjon

#: Makes objects on a token as the tools of its maker could: an Ed25519 pair by label, or an RSA pair.
MAKE = """
import sys, pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters
kind, token, label, pin = sys.argv[1:]
library = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so")
with library.get_token(token_label=token).open(rw=True, user_pin=pin) as s:
    if kind == "rsa":
        s.generate_keypair(KeyType.RSA, 2048, label=label, store=True)
    else:
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("1.3.101.112")}
        domain = s.create_domain_parameters(KeyType.EC_EDWARDS, curve, local=True)
        names = (label, "other") if kind == "swapped" else (label, label)
        for public, private in (names, names[::-1]) if kind == "swapped" else (names,):
            domain.generate_keypair(
                mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                store=True,
                public_template={Attribute.LABEL: public},
                private_template={Attribute.LABEL: private},
            )
"""


@dataclass
class Desk:
    """A folder with two tokens, and what reaches them."""

    host: Donjon
    folder: Path
    hsm: SoftHsm

    @property
    def environment(self) -> dict[str, str]:
        """What reaches the tokens without their PIN."""
        return self.hsm.public_environment

    def _run(self, *command: str) -> None:
        environment = {**os.environ, **self.environment}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)

    def put(self, kind: str, token: str, label: str) -> None:
        """An object that is on the token already."""
        self._run(sys.executable, "-c", MAKE, kind, token, label, self.hsm.pin)

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """What a command says that can reach the tokens."""
        pin = ("--pin-file", self.folder / "pin")
        done = self.host.run(*arguments, *pin, code=code, environment=self.environment)
        return (done.stdout + done.stderr).decode()

    def new(self, name: str, uri: str) -> Path:
        """An approver on a token; the file with the public half."""
        out = self.folder / f"{name}.pub"
        self.run("approver", "new", name, "--key", uri, "--out", out)
        return out


@pytest.fixture
def desk(host: Donjon, tmp_path: Path) -> Desk:
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(host, folder, make_softhsm(folder, 2))


ANN, BO = "pkcs11:token=token%200;object=donjon", "pkcs11:object=my%20key;token=token%201"


def _init(desk: Desk) -> str:
    """A vault with two approvers on tokens and one with a file; the id of a request in it."""
    host, named = desk.host, list[str]()
    host.run("approver", "new", "cy", "--out", desk.folder / "cy")
    for public in (desk.new("ann", ANN), desk.new("bo", BO), desk.folder / "cy.pub"):
        named += ["--approver", str(public)]
    host.init(*named, "--approvals", "2")
    (desk.folder / "source").mkdir()
    point = host.json("backup", desk.folder / "source")["point"]
    asked = host.json("deletion", "request", point)["id"]
    assert isinstance(asked, str)
    return asked


def test_two_tokens_let_a_point_go(desk: Desk) -> None:
    asked = _init(desk)
    for uri in (ANN, BO):
        assert "Signed: " in desk.run("approve", "sign", asked, "--key", uri, "--yes")
    assert "has signed" in desk.run("approve", "sign", asked, "--key", ANN, "--yes", code=13)
    done = desk.host.json("approve", "apply", asked)
    assert (done["new"], len(done["signed"])) == (True, 2)
    assert desk.host.json("verify")["ok"]


def test_tokens_and_files_sign_together_and_an_approver_asks_with_a_token(desk: Desk) -> None:
    _init(desk)
    file, point = desk.folder / "request", desk.host.json("points")["points"][0]["id"]
    desk.run("deletion", "request", point, "--file", file, "--key", BO)
    assert "Asked by the approver bo" in desk.host.text("approve", "show", "--file", file)
    desk.run("approve", "sign", "--file", file, "--key", ANN, "--yes")
    desk.host.run("approve", "sign", "--file", file, "--key", desk.folder / "cy", "--yes")
    assert desk.host.json("approve", "apply", "--file", file)["new"]


def test_a_key_never_leaves_its_token(desk: Desk) -> None:
    """And is found again under its name; one that its maker's tools made is taken as it is."""
    first = ApproverKey.read(desk.new("ann", ANN))
    again = ApproverKey.read(desk.new("again", ANN))
    assert first.public == again.public
    assert ApproverKey.read(desk.new("bo", BO)).public != first.public
    code = """
import sys, pkcs11
from pkcs11 import Attribute, ObjectClass
token = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so").get_token(token_label="token 0")
with token.open(user_pin=sys.argv[1]) as session:
    (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    print(key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE])
    try:
        key[Attribute.VALUE]
    except pkcs11.AttributeSensitive:
        print("sensitive")
"""
    environment = {**os.environ, **desk.environment}
    done = subprocess.run(
        [sys.executable, "-c", code, desk.hsm.pin],
        env=environment,
        capture_output=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout.split() == [b"True", b"False", b"sensitive"]
    desk.put("pair", "token 1", "made elsewhere")
    assert desk.new("cy", "pkcs11:token=token%201;object=made%20elsewhere").exists()


def test_what_goes_wrong_with_tokens_is_told(desk: Desk) -> None:
    desk.put("rsa", "token 0", "rsa")
    desk.put("pair", "token 0", "twice")
    desk.put("pair", "token 0", "twice")
    desk.put("swapped", "token 0", "mixed")
    asked, sign = _init(desk), ("approve", "sign", "--yes")
    for uri, message in (
        ("pkcs11:token=nobody;object=donjon", "no token of this label"),
        ("pkcs11:token=token%200;object=none", "no such Ed25519 key pair"),
        ("pkcs11:token=token%200;object=rsa", "no such Ed25519 key pair"),
        ("pkcs11:token=token%200;object=twice", "several keys"),
    ):
        assert message in desk.run(*sign, asked, "--key", uri, code=13)
    for module, message in (("/nowhere.so", "no library"), (str(desk.folder / "pin"), "no library")):
        said = desk.run(*sign, asked, "--key", ANN, "--pkcs11-module", module, code=13)
        assert message in said
    (desk.folder / "pin").write_text("wrong\n")
    assert "the PIN is wrong" in desk.run(*sign, asked, "--key", ANN, code=13)
    (desk.folder / "pin").write_text("\n")
    assert "is empty" in desk.run(*sign, asked, "--key", ANN, code=13)
    (desk.folder / "pin").unlink()
    assert "cannot be read" in desk.run(*sign, asked, "--key", ANN, code=13)
    bare = desk.host.run(*sign, asked, "--key", ANN, code=13, environment=desk.environment)
    assert b"no terminal to ask for the PIN" in bare.stderr
    without = {"SOFTHSM2_CONF": desk.environment["SOFTHSM2_CONF"]}
    assert (
        b"--pkcs11-module" in desk.host.run(*sign, asked, "--key", ANN, code=13, environment=without).stderr
    )
    assert desk.host.json("approve", "show", asked)["signed"] == []


def test_halves_that_do_not_belong_together_sign_nothing(desk: Desk) -> None:
    desk.put("swapped", "token 0", "donjon")
    asked = _init(desk)
    said = desk.run("approve", "sign", asked, "--key", ANN, "--yes", code=13)
    assert "does not verify" in said
    assert desk.host.json("approve", "show", asked)["signed"] == []


def test_a_pin_on_the_command_line_is_refused_and_not_repeated(desk: Desk) -> None:
    uri = f"{ANN}?pin-value=hunter2"
    said = desk.run("approver", "new", "x", "--key", uri, "--out", desk.folder / "x", code=2)
    assert "names no key on a token" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(("typed", "code"), [("", 0), ("mistyped", 13)])
def test_on_a_terminal_the_pin_is_asked_for_and_not_shown(desk: Desk, typed: str, code: int) -> None:
    typed = typed or desk.hsm.pin
    keyboard, terminal = pty.openpty()
    environment: dict[str, Any] = desk.host.environment() | desk.environment
    new = ("approver", "new", "ann", "--key", ANN, "--out", desk.folder / "a", "--json")
    command: list[str | Path] = [desk.host.program, *new]
    shown = bytearray()

    def talk() -> None:
        try:
            while piece := os.read(keyboard, 1000):
                shown.extend(piece)
                if b"PIN of the token token 0: " in shown and typed.encode() not in answered:
                    answered.append(typed.encode())
                    os.write(keyboard, f"{typed}\n".encode())
        except OSError:  # the other side is closed
            return

    answered: list[bytes] = []
    listener = threading.Thread(target=talk)
    listener.start()
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            start_new_session=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    finally:
        os.close(terminal)
        listener.join(TIMEOUT_S)
        os.close(keyboard)
    assert done.returncode == code, shown
    assert answered
    assert typed.encode() not in shown
    if code == 0:
        assert json.loads(done.stdout)["key"] == ANN
