"""Keys of a Google service account, looked after by the real command; Google is a fake that obeys its
documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from donjon.credentials.google_keys import GoogleKeyFile, GoogleServiceAccountKeys, new_session
from donjon.credentials.rotation import Rotation
from donjon.testing.google.iam import GoogleIam, google_iam
from tests.dying import Dying, Killed
from tests.integration.cli import Donjon
from tests.integration.planted import Secrets, open_to_others


@dataclass(frozen=True)
class Setup:
    google: GoogleIam
    host: Donjon
    old: str

    @property
    def file(self) -> Path:
        return self.host.folder / "key.json"

    @property
    def options(self) -> list[str | Path]:
        return ["--file", self.file, "--endpoint", self.google.address]

    def states(self) -> dict[str, bool]:
        """Whether each key is disabled."""
        return {key_id: key.get("disabled", False) for key_id, key in self.google.keys.items()}

    def works(self) -> bool:
        place = GoogleKeyFile(self.file)
        return not self.google.keys[place.current()].get("disabled", False)

    def rotation(self, wrap: Any = lambda thing: thing) -> Rotation:
        place = GoogleKeyFile(self.file)
        service = GoogleServiceAccountKeys(new_session(place), place, endpoint=self.google.address)
        return Rotation(wrap(service), wrap(place), clock=lambda: 1, sleep=lambda _: None)


@pytest.fixture
def setup(host: Donjon) -> Iterator[Setup]:
    with google_iam() as google:
        key, file = google.make(datetime.now(UTC) - timedelta(days=100))
        made = Setup(google, host, key["name"].rpartition("/")[2])
        made.file.write_text(json.dumps(file))
        made.file.chmod(0o600)
        yield made


def test_a_key_is_checked_rotated_and_retired(setup: Setup) -> None:
    found = setup.host.json("credentials", "check", "google", *setup.options, code=4)["findings"]
    assert [one["check"] for one in found] == ["over-age", "stored-secret"]
    old_file = setup.file.read_text()
    done = setup.host.run("credentials", "rotate", "google", *setup.options, "--json")
    new = json.loads(done.stdout)["new"]
    assert setup.states() == {setup.old: True, new: False}
    secrets = Secrets()
    for text in (old_file, setup.file.read_text()):
        for line in json.loads(text)["private_key"].splitlines()[1:-1]:
            secrets.add(line.encode())
    assert secrets.found_in(done.stdout, done.stderr) == []
    assert list(open_to_others([setup.host.folder])) == []
    waits = setup.host.json("credentials", "retire", "google", *setup.options)
    assert [one["id"] for one in waits["waiting"]] == [setup.old]
    setup.host.run("credentials", "retire", "google", *setup.options, "--grace", "0s")
    assert list(setup.google.keys) == [new]
    assert setup.host.json("credentials", "check", "google", *setup.options)["ok"]


def test_broad_roles_are_findings(setup: Setup) -> None:
    setup.google.roles.append("roles/editor")
    found = setup.host.json("credentials", "check", "google", *setup.options, code=4)["findings"]
    assert found[0]["check"] == "over-privileged"
    assert "roles/editor" in found[0]["text"]
    setup.google.permissions.discard("getIamPolicy")
    found = setup.host.json("credentials", "check", "google", *setup.options, code=4)["findings"]
    assert "over-privileged" not in {one["check"] for one in found}


@pytest.mark.parametrize("missing", ["list", "create", "disable"])
def test_a_missing_permission_is_named_and_the_host_keeps_a_key(setup: Setup, missing: str) -> None:
    setup.google.permissions.discard(missing)
    text = setup.host.run("credentials", "rotate", "google", *setup.options, code=11).stderr.decode()
    assert f"iam.serviceAccountKeys.{missing}" in text
    assert setup.works()
    setup.google.permissions.add(missing)
    setup.host.run("credentials", "rotate", "google", *setup.options)
    assert setup.works()
    assert sorted(setup.states().values()) == [False, True]


def test_a_key_that_is_disabled_is_told(setup: Setup) -> None:
    setup.google.keys[setup.old]["disabled"] = True
    setup.host.run("credentials", "list", "google", *setup.options, code=11)


@pytest.mark.parametrize("content", ["", "{}", '{"type": "authorized_user"}', "[1]"])
def test_a_file_that_is_no_key_is_named(setup: Setup, content: str) -> None:
    setup.file.write_text(content)
    text = setup.host.run("credentials", "rotate", "google", *setup.options, code=13).stderr.decode()
    assert "key.json" in text


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", ["create", "verify", "put", "disable"])
def test_a_kill_at_any_step_leaves_a_working_key_and_a_second_run_goes_on(
    setup: Setup, step: str, after: bool
) -> None:
    with pytest.raises(Killed):
        setup.rotation(lambda thing: Dying(thing, step, after=after)).rotate()
    assert setup.works()
    done = setup.rotation().rotate()
    assert setup.works()
    assert setup.states() == {done.old: True, done.new: False}
    assert [path.name for path in setup.host.folder.iterdir()] == ["key.json"]
