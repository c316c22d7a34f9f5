"""The token of a host, looked after by the real command on a real OpenBao, which enforces policies and
leases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.credentials.openbao_token import OpenBaoToken, connect
from donjon.credentials.rotation import Rotation
from donjon.testing.servers.openbao import OpenBao, ask, openbao
from tests.dying import Dying, Killed
from tests.integration.cli import Donjon
from tests.integration.planted import Secrets, open_to_others

_PATHS = {
    "auth/token/lookup-self": ["read"],
    "auth/token/renew-self": ["update"],
    "auth/token/create-orphan": ["update"],
    "auth/token/revoke-accessor": ["update"],
    "transit/encrypt/vault": ["update"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with openbao(tmp_path_factory.mktemp("openbao")) as running:
        running.ask("POST", "transit/keys/vault", {})
        yield running


@dataclass(frozen=True)
class Setup:
    server: OpenBao
    host: Donjon
    token: str

    @property
    def file(self) -> Path:
        return self.host.folder / "token"

    @property
    def options(self) -> list[str | Path]:
        return ["--file", self.file, "--endpoint", self.server.address]

    def alive(self, token: str) -> bool:
        try:
            ask(self.server.address, token, "GET", "auth/token/lookup-self")
        except RuntimeError:
            return False
        return True

    def works(self) -> bool:
        """Whether what the file holds may do the work of the host."""
        ask(
            self.server.address,
            self.file.read_text().strip(),
            "PUT",
            "transit/encrypt/vault",
            {"plaintext": ""},
        )
        return True

    def rotation(self, wrap: Any = lambda thing: thing) -> Rotation:
        service = OpenBaoToken(self.server.address, None, connect)
        place = service.at(self.file)
        return Rotation(wrap(service), wrap(place), clock=lambda: 1, sleep=lambda _: None)


@pytest.fixture
def setup(server: OpenBao, host: Donjon) -> Setup:
    token = server.make_token(_PATHS, ttl="100h")
    made = Setup(server, host, token)
    made.file.write_text(token + "\n")
    made.file.chmod(0o600)
    return made


def test_a_token_is_listed_checked_and_replaced_by_an_orphan(setup: Setup) -> None:
    (listed,) = setup.host.json("credentials", "list", "openbao", *setup.options)["credentials"]
    assert (listed["kind"], listed["in_use"], listed["powers"]) == ("openbao-token", True, [])
    assert listed["expires"]
    found = setup.host.json("credentials", "check", "openbao", *setup.options, code=4)["findings"]
    assert [one["check"] for one in found] == ["expires-soon", "stored-secret"]
    assert setup.host.json("credentials", "check", "openbao", *setup.options, "--renew-before", "1h")["ok"]

    done = setup.host.run("credentials", "rotate", "openbao", *setup.options, "--json")
    new = setup.file.read_text().strip()
    secrets = Secrets()
    secrets.add(new.encode())
    secrets.add(setup.token.encode())
    assert secrets.found_in(done.stdout, done.stderr) == []
    assert new != setup.token
    assert not setup.alive(setup.token)
    assert setup.works()
    facts = ask(setup.server.address, new, "GET", "auth/token/lookup-self")["data"]
    assert facts["orphan"]
    assert facts["policies"] == sorted(facts["policies"])
    assert 99 * 3600 < facts["creation_ttl"] <= 100 * 3600
    assert list(open_to_others([setup.host.folder])) == []
    retired = setup.host.json("credentials", "retire", "openbao", *setup.options, "--grace", "0s")
    assert retired == {"deleted": [], "waiting": []}
    assert setup.works()


def test_a_root_token_is_a_finding(setup: Setup) -> None:
    setup.file.write_text(setup.server.root_token)
    found = setup.host.json("credentials", "check", "openbao", *setup.options, code=4)["findings"]
    assert [one["severity"] for one in found if one["check"] == "over-privileged"] == ["critical"] * 2


def test_a_token_that_has_ended_is_told(setup: Setup) -> None:
    setup.server.ask("POST", "auth/token/revoke", {"token": setup.token})
    text = setup.host.run("credentials", "list", "openbao", *setup.options, code=11).stderr.decode()
    assert setup.token not in text
    assert "log in again" in text


def test_without_permission_the_old_one_stays(setup: Setup) -> None:
    token = setup.server.make_token({"auth/token/lookup-self": ["read"], "transit/encrypt/vault": ["update"]})
    setup.file.write_text(token)
    text = setup.host.run("credentials", "rotate", "openbao", *setup.options, code=11).stderr.decode()
    assert "auth/token/create-orphan" in text
    assert setup.works()


def test_a_server_that_does_not_answer_is_told(setup: Setup) -> None:
    options: list[str | Path] = ["--file", setup.file, "--endpoint", "http://127.0.0.1:9"]
    text = setup.host.run("credentials", "list", "openbao", *options, code=1).stderr.decode()
    assert "try again" in text
    assert setup.token not in text


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", ["create", "verify", "put", "disable"])
def test_a_kill_at_any_step_leaves_a_working_token_and_a_second_run_goes_on(
    setup: Setup, step: str, after: bool
) -> None:
    with pytest.raises(Killed):
        setup.rotation(lambda thing: Dying(thing, step, after=after)).rotate()
    assert setup.works()
    setup.rotation().rotate()
    assert setup.works()
    assert not setup.alive(setup.token)
    assert [path.name for path in setup.host.folder.iterdir()] == ["token"]
