"""Client secrets of Microsoft Entra, through the SDK's pipeline; Graph is a fake that obeys its documents."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.core.errors import CredentialsRejected, KeyNotAvailable, PermissionMissing
from donjon.credentials.azure_secrets import AzureClientSecrets, AzureEnvironmentFile
from donjon.credentials.findings import Limits, find
from donjon.credentials.rotation import Rotation
from donjon.testing.azure.entra import APPLICATION, Entra, client
from donjon.testing.clock import ManualClock
from tests.dying import Dying, Killed

DAY = 86_400


@dataclass
class Setup:
    entra: Entra
    clock: ManualClock
    file: Path
    old: str

    @property
    def place(self) -> AzureEnvironmentFile:
        return AzureEnvironmentFile(self.file)

    def service(self) -> AzureClientSecrets:
        return AzureClientSecrets(client(self.entra), self.place, clock=self.clock, login=self.entra.log_in)

    def rotation(self, wrap: Any = lambda thing: thing) -> Rotation:
        return Rotation(wrap(self.service()), wrap(self.place), clock=self.clock, sleep=lambda _: None)

    def works(self) -> bool:
        self.entra.log_in("t", APPLICATION, self.place.value("AZURE_CLIENT_SECRET"))
        return True


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    clock = ManualClock()
    entra = Entra(clock)
    key_id, text = entra.add()
    file = tmp_path / "azure.env"
    file.write_text(
        f"# for the backup\nAZURE_TENANT_ID=t\nAZURE_CLIENT_ID={APPLICATION}\nAZURE_CLIENT_SECRET='{text}'\n"
        f"AZURE_CLIENT_SECRET_ID={key_id}\nOTHER=1"
    )
    return Setup(entra, clock, file, key_id)


def test_a_secret_is_replaced_and_the_old_one_removed_after_a_while(setup: Setup) -> None:
    setup.clock.advance(100 * DAY)
    checks = [one.check for one in find(setup.service().list(), Limits(), setup.clock())]
    assert checks == ["over-age", "stored-secret"]
    done = setup.rotation().rotate()
    assert (done.old, done.disabled) == (setup.old, False)
    assert setup.works()
    assert "still works" in done.remains[0]
    assert set(setup.entra.secrets) == {done.old, done.new}
    text = setup.file.read_text()
    assert text.startswith("# for the backup\nAZURE_TENANT_ID=t\n")
    assert text.endswith("OTHER=1\n")
    assert stat.S_IMODE(setup.file.stat().st_mode) == 0o600
    assert setup.rotation().retire(7 * DAY).waiting[0][0] == setup.old
    setup.clock.advance(7 * DAY)
    assert setup.rotation().retire(7 * DAY).deleted == (setup.old,)
    assert set(setup.entra.secrets) == {done.new}
    assert setup.works()


def test_a_secret_that_ends_is_a_finding(setup: Setup) -> None:
    setup.clock.advance(170 * DAY)
    assert "expires-soon" in {one.check for one in find(setup.service().list(), Limits(), setup.clock())}
    setup.clock.advance(11 * DAY)
    assert "expired" in {one.check for one in find(setup.service().list(), Limits(), setup.clock())}


def test_secrets_of_others_that_came_later_are_not_removed(setup: Setup) -> None:
    later, _ = setup.entra.add(started_at=setup.clock() + 60)
    setup.clock.advance(30 * DAY)
    assert setup.rotation().retire(0).deleted == ()
    assert later in setup.entra.secrets


def test_without_permission_nothing_is_changed(setup: Setup) -> None:
    setup.entra.may_write = False
    with pytest.raises(PermissionMissing, match="Insufficient privileges"):
        setup.rotation().rotate()
    assert set(setup.entra.secrets) == {setup.old}
    assert setup.works()


def test_a_secret_that_does_not_log_in_is_not_adopted(setup: Setup) -> None:
    service = setup.service()

    def refuse(*_: str) -> None:
        raise CredentialsRejected("AADSTS7000215")

    service._login = refuse
    waited: list[float] = []
    with pytest.raises(CredentialsRejected):
        Rotation(service, setup.place, clock=setup.clock, sleep=waited.append).rotate()
    assert waited == [1, 2, 4, 8, 15]
    assert setup.place.current() == setup.old
    done = setup.rotation().rotate()  # what was made is kept and tried again
    assert done.resumed
    assert len(setup.entra.secrets) == 2


@pytest.mark.parametrize("missing", ["AZURE_CLIENT_SECRET_ID", "AZURE_CLIENT_ID"])
def test_a_file_without_a_line_is_named(setup: Setup, missing: str) -> None:
    lines = [line for line in setup.file.read_text().splitlines() if not line.startswith(f"{missing}=")]
    setup.file.write_text("\n".join(lines))
    with pytest.raises(KeyNotAvailable, match=missing):
        setup.rotation().rotate()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", ["create", "verify", "put"])
def test_a_kill_at_any_step_leaves_a_working_secret_and_a_second_run_goes_on(
    setup: Setup, step: str, after: bool
) -> None:
    with pytest.raises(Killed):
        setup.rotation(lambda thing: Dying(thing, step, after=after)).rotate()
    assert setup.works()
    done = setup.rotation().rotate()
    assert setup.works()
    assert set(setup.entra.secrets) == {done.old, done.new}
    assert [path.name for path in setup.file.parent.iterdir()] == ["azure.env"]
