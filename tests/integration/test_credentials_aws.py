"""Access keys of AWS, looked after by the real command on a server that enforces policies."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from donjon.core.errors import Refused, StoreUnavailable
from donjon.credentials.aws_keys import AwsAccessKeys, new_session
from donjon.credentials.aws_profile import AwsProfile
from donjon.credentials.base import NewSecret
from donjon.credentials.rotation import Rotation
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.aws.people import User
from tests.dying import Dying, Killed
from tests.integration.cli import Donjon
from tests.integration.planted import Secrets, open_to_others


def _policy(bucket: str) -> dict[str, Any]:
    """What a user needs who changes its own keys, and reads a vault object."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Resource": "*", "Action": [
                "iam:ListAccessKeys", "iam:CreateAccessKey", "iam:UpdateAccessKey", "iam:DeleteAccessKey",
                "iam:GetAccessKeyLastUsed", "iam:ListAttachedUserPolicies", "iam:ListUserPolicies",
                "iam:GetUserPolicy", "iam:ListGroupsForUser"]},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"},
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class Setup:
    server: MiniStack
    host: Donjon
    user: User
    bucket: str

    @property
    def file(self) -> Path:
        return self.host.folder / "credentials"

    @property
    def options(self) -> list[str | Path]:
        return ["--file", self.file, "--profile", "backup", "--endpoint", self.server.endpoint]

    def keys(self) -> dict[str, str]:
        """State by id, as an administrator sees it."""
        listed = self.server.client("iam").list_access_keys(UserName=self.user.name)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in listed}

    def works(self) -> bool:
        """Whether the profile holds a key that the store takes."""
        place = AwsProfile(self.file, "backup")
        user = User("now", place.current(), place.secret())
        try:
            self.server.client("s3", user).get_object(Bucket=self.bucket, Key="v/vault")
        except ClientError:
            return False
        return True

    def service(self, **changed: Any) -> AwsAccessKeys:
        place = AwsProfile(self.file, "backup")
        return AwsAccessKeys(
            new_session(self.file, "backup"), current_id=place.current(), stored_in=place.path,
            endpoint=self.server.endpoint, **changed,
        )  # fmt: skip

    def rotation(self, service: Any = None) -> Rotation:
        return Rotation(
            service or self.service(), AwsProfile(self.file, "backup"), clock=lambda: 1, sleep=lambda _: None
        )


@pytest.fixture
def setup(aws: MiniStack, host: Donjon) -> Setup:
    bucket = aws.make_bucket(locks=False)
    aws.client("s3").put_object(Bucket=bucket, Key="v/vault", Body=b"x")
    user = aws.make_user(_policy(bucket))
    made = Setup(aws, host, user, bucket)
    made.file.write_text(
        f"[backup]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
    )
    made.file.chmod(0o600)
    return made


def test_a_key_is_listed_checked_rotated_and_retired(setup: Setup) -> None:
    old = setup.user.access_key
    verify = ["--verify", f"s3://{setup.bucket}/v?endpoint={setup.server.endpoint}"]
    (listed,) = setup.host.json("credentials", "list", "aws", *setup.options)["credentials"]
    assert (listed["id"], listed["active"], listed["in_use"]) == (old, True, True)
    assert listed["owner"].endswith(f"user/{setup.user.name}")

    checked = setup.host.json("credentials", "check", "aws", *setup.options)
    assert checked["ok"]
    assert [finding["check"] for finding in checked["findings"]] == ["stored-secret"]
    setup.host.run("credentials", "check", "aws", *setup.options, "--fail-on", "advice", code=4)

    done = setup.host.json("credentials", "rotate", "aws", *setup.options, *verify)
    new = done["new"]
    assert (done["old"], done["disabled"], done["resumed"], done["removed"]) == (old, True, False, [])
    assert setup.keys() == {old: "Inactive", new: "Active"}
    assert AwsProfile(setup.file, "backup").current() == new
    assert setup.works()
    with pytest.raises(ClientError, match="InvalidClientTokenId"):  # the old one is refused
        setup.server.client("sts", setup.user).get_caller_identity()
    assert list(open_to_others([setup.host.folder])) == []
    assert [path.name for path in setup.host.folder.iterdir()] == ["credentials"]

    waits = setup.host.json("credentials", "retire", "aws", *setup.options, "--grace", "7d")
    assert (waits["deleted"], [one["id"] for one in waits["waiting"]]) == ([], [old])
    assert setup.host.json("credentials", "retire", "aws", *setup.options, "--grace", "0s")["deleted"] == [
        old
    ]
    assert setup.keys() == {new: "Active"}
    assert setup.works()


def test_the_secrets_are_never_shown(setup: Setup) -> None:
    shown = b""
    for words in (["rotate"], ["list"], ["check"], ["retire", "--grace", "0s"]):
        done = setup.host.run("credentials", words[0], "aws", *setup.options, *words[1:], "--json")
        shown += done.stdout + done.stderr
    secrets = Secrets()
    secrets.add(AwsProfile(setup.file, "backup").secret().encode())
    secrets.add(setup.user.secret_key.encode())
    assert secrets.found_in(shown) == []
    assert len(secrets.forms) > 5


def test_a_full_user_is_told_to_retire_first(setup: Setup) -> None:
    second = setup.server.client("iam").create_access_key(UserName=setup.user.name)["AccessKey"][
        "AccessKeyId"
    ]
    done = setup.host.run("credentials", "rotate", "aws", *setup.options, code=1)
    assert second in done.stderr.decode()
    assert set(setup.keys().values()) == {"Active"}
    assert setup.works()


def test_a_root_key_is_a_finding_and_is_not_rotated(setup: Setup) -> None:
    root = setup.server.root()
    setup.file.write_text(
        f"[backup]\naws_access_key_id = {root.access_key}\naws_secret_access_key = {root.secret_key}\n"
    )
    found = setup.host.json("credentials", "check", "aws", *setup.options, code=4)["findings"]
    assert ("over-privileged", "critical") in {(one["check"], one["severity"]) for one in found}
    setup.host.run("credentials", "rotate", "aws", *setup.options, code=1)


def test_powers_beyond_the_role_are_findings(setup: Setup) -> None:
    iam = setup.server.client("iam")
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
    iam.put_user_policy(UserName=setup.user.name, PolicyName="broad", PolicyDocument=json.dumps(document))
    found = setup.host.json("credentials", "check", "aws", *setup.options, code=4)["findings"]
    (finding,) = [one for one in found if one["check"] == "over-privileged"]
    assert "may s3:* by the policy broad" in finding["text"]


def test_without_permission_nothing_is_changed(setup: Setup) -> None:
    setup.server.client("iam").delete_user_policy(UserName=setup.user.name, PolicyName="only")
    text = setup.host.run("credentials", "rotate", "aws", *setup.options, code=11).stderr.decode()
    assert "iam:" in text
    assert setup.keys() == {setup.user.access_key: "Active"}
    done = setup.host.run("credentials", "list", "aws", *setup.options, code=11)
    assert "iam:ListAccessKeys" in done.stderr.decode()


def test_a_key_that_cannot_read_the_vault_is_not_adopted(setup: Setup, aws: MiniStack) -> None:
    other = aws.make_bucket(locks=False)
    verify = ["--verify", f"s3://{other}/v?endpoint={aws.endpoint}"]
    setup.host.run("credentials", "rotate", "aws", *setup.options, *verify, code=11)
    assert AwsProfile(setup.file, "backup").current() == setup.user.access_key
    assert setup.works()
    text = setup.host.run("credentials", "retire", "aws", *setup.options, code=1).stderr.decode()
    assert "under way" in text
    done = setup.host.json("credentials", "rotate", "aws", *setup.options)  # the secret was kept
    assert done["resumed"]
    assert len(setup.keys()) == 2
    assert setup.works()


@pytest.mark.parametrize("profile", ["nobody", "empty"])
def test_a_profile_that_is_not_there_is_named(setup: Setup, profile: str) -> None:
    setup.file.write_text(setup.file.read_text() + "[empty]\nregion = x\n")
    options: list[str | Path] = ["--file", setup.file, "--profile", profile]
    options += ["--endpoint", setup.server.endpoint]
    text = setup.host.run("credentials", "rotate", "aws", *options, code=13).stderr.decode()
    assert profile in text


# --- crashes ----------------------------------------------------------------------------------------

STEPS = ("list", "create", "verify", "put", "disable")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_a_working_key_and_a_second_run_goes_on(
    setup: Setup, step: str, after: bool
) -> None:
    service: Any = Dying(setup.service(), step, after=after)
    place: Any = Dying(AwsProfile(setup.file, "backup"), step, after=after)
    with pytest.raises(Killed):
        Rotation(service, place, clock=lambda: 1, sleep=lambda _: None).rotate()
    assert setup.works()
    assert list(open_to_others([setup.host.folder])) == []

    done = setup.rotation().rotate()
    assert setup.works()
    assert done.old == setup.user.access_key
    assert setup.keys() == {done.old: "Inactive", done.new: "Active"}
    assert AwsProfile(setup.file, "backup").current() == done.new
    assert bool(done.removed) == (step == "create" and after)  # the secret was lost with the reply
    assert [path.name for path in setup.host.folder.iterdir()] == ["credentials"]


def test_a_lost_reply_is_a_key_that_is_removed_and_made_again(setup: Setup) -> None:
    class Losing(AwsAccessKeys):
        def create(self) -> NewSecret:
            super().create()
            raise StoreUnavailable("no reply")

    inner = setup.service()
    inner.__class__ = Losing
    with pytest.raises(StoreUnavailable):
        setup.rotation(inner).rotate()
    assert len(setup.keys()) == 2
    done = setup.rotation().rotate()
    assert len(done.removed) == 1
    assert setup.keys() == {done.old: "Inactive", done.new: "Active"}


def test_keys_that_somebody_else_made_meanwhile_are_not_removed(setup: Setup) -> None:
    with pytest.raises(Killed):
        Rotation(
            Dying(setup.service(), "create", after=True), AwsProfile(setup.file, "backup"),
            clock=lambda: 1, sleep=lambda _: None,
        ).rotate()  # fmt: skip
    setup.server.client("iam").create_access_key(UserName=setup.user.name)
    with pytest.raises(Refused, match="nobody here knows"):
        setup.rotation().rotate()
    assert len(setup.keys()) == 3
    assert setup.works()


def test_kill_9_in_the_middle_leaves_a_key_that_works(setup: Setup) -> None:
    for delay in ("0.4", "0.7", "1.0"):
        words = ["credentials", "rotate", "aws", *setup.options]
        subprocess.run(
            ["timeout", "-s", "KILL", delay, setup.host.program, *words],
            env=setup.host.environment(), capture_output=True, check=False,
        )  # fmt: skip
        assert setup.works()
        again = subprocess.run(
            [setup.host.program, *words], env=setup.host.environment(), capture_output=True, check=False
        )
        # Killed after its last step, or not at all: then there are two keys already, and no room for more.
        assert again.returncode == 0 or b"can have no more" in again.stderr
        assert setup.works()
        setup.host.run("credentials", "retire", "aws", *setup.options, "--grace", "0s")
        assert list(setup.keys().values()) == ["Active"]
