"""What is wrong with credentials, from facts alone; and the file of the AWS tools."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.core.clock import SECONDS_PER_DAY as DAY
from donjon.core.errors import KeyNotAvailable
from donjon.credentials.aws_keys import broad_actions
from donjon.credentials.aws_profile import AwsProfile
from donjon.credentials.base import Credential, NewSecret
from donjon.credentials.findings import Limits, Severity, find

NOW = 1_800_000_000
GOOD = Credential("new", "k", "anna", created_at=NOW - 10 * DAY, last_used_at=NOW - DAY, in_use=True)


def _checks(*credentials: Credential, limits: Limits | None = None) -> list[tuple[str, str]]:
    return [(one.check, one.credential) for one in find(credentials, limits or Limits(), NOW)]


def test_a_young_and_used_one_is_fine() -> None:
    assert _checks(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"created_at": NOW - 90 * DAY - 1}, "over-age"),
        ({"created_at": None}, "unknown-age"),
        ({"created_at": NOW - 60 * DAY, "last_used_at": NOW - 45 * DAY - 1}, "unused"),
        ({"created_at": NOW - 46 * DAY, "last_used_at": None}, "never-used"),
        ({"powers": ("may s3:*",)}, "over-privileged"),
        ({"replaceable_by": "a role"}, "stored-secret"),
        ({"expires_at": NOW + 3 * DAY}, "expires-soon"),
        ({"expires_at": NOW}, "expired"),
        ({"active": False}, "disabled-in-use"),
        ({"active": False, "in_use": False}, "not-retired"),
    ],
)
def test_each_fault_is_found_alone(changed: dict[str, object], check: str) -> None:
    assert _checks(replace(GOOD, **changed)) == [(check, "new")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"created_at": NOW - 90 * DAY},
        {"created_at": NOW - 60 * DAY, "last_used_at": NOW - 45 * DAY},
        {"created_at": NOW - 60 * DAY, "last_used_at": None, "use_is_known": False},
        {"expires_at": NOW + 14 * DAY},
    ],
)
def test_limits_are_allowed_themselves(changed: dict[str, object]) -> None:
    assert _checks(replace(GOOD, **changed)) == []  # type: ignore[arg-type]


def test_two_that_work_are_too_many_after_a_while() -> None:
    old = replace(GOOD, id="old", created_at=NOW - 50 * DAY, in_use=False)
    assert _checks(old, GOOD) == [("overlap", "old")]
    assert _checks(old, replace(GOOD, created_at=NOW - 7 * DAY)) == []
    assert _checks(replace(old, owner="ben"), GOOD) == []
    assert _checks(replace(old, active=False), GOOD) == [("not-retired", "old")]


def test_the_worst_comes_first() -> None:
    found = find([replace(GOOD, powers=("may *",), replaceable_by="a role")], Limits(), NOW)
    assert [finding.severity for finding in found] == [Severity.CRITICAL, Severity.ADVICE]


def test_limits_come_from_the_caller() -> None:
    assert _checks(GOOD, limits=Limits(max_age_s=9 * DAY)) == [("over-age", "new")]


@pytest.mark.parametrize(
    ("statement", "broad"),
    [
        ({"Effect": "Allow", "Action": "*"}, ["*"]),
        ({"Effect": "Allow", "Action": ["s3:PutObject", "s3:*"]}, ["s3:*"]),
        ({"Effect": "Allow", "Action": ["S3:DELETE*", "s3:bypassgovernanceretention"]},
         ["S3:DELETE*", "s3:bypassgovernanceretention"]),
        ({"Effect": "Allow", "NotAction": "iam:*"}, ["everything but some actions (NotAction)"]),
        ({"Effect": "Deny", "Action": "*"}, []),
        ({"Effect": "Allow", "Action": ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject"]}, []),
    ],
)  # fmt: skip
def test_actions_beyond_any_role_are_named(statement: dict[str, object], broad: list[str]) -> None:
    assert broad_actions({"Statement": statement}) == broad
    assert broad_actions({"Statement": [statement]}) == broad


FILE = """# mine
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=default/secret

[ backup ]
region = eu-central-1
aws_access_key_id=AKIAOLD
  # a comment
aws_secret_access_key =  old/secret
aws_session_token = gone
[other]
aws_access_key_id = AKIAOTHER"""


def test_a_profile_is_replaced_and_all_else_stays(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(FILE)
    file.chmod(0o644)
    link = tmp_path / "link"
    link.symlink_to(file)
    place = AwsProfile(link, "backup")
    assert (place.current(), place.secret()) == ("AKIAOLD", "old/secret")
    place.put(NewSecret("AKIANEW", "new/secret"))
    assert (place.current(), place.secret()) == ("AKIANEW", "new/secret")
    text = file.read_text()
    for kept in ("# mine\n", "  # a comment\n", "region = eu-central-1\n", "default/secret", "AKIAOTHER"):
        assert kept in text
    assert "old/secret" not in text
    assert "gone" not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert link.is_symlink()
    assert AwsProfile(file, "other").current() == "AKIAOTHER"


@pytest.mark.parametrize(
    ("text", "profile"), [(FILE, "nobody"), ("[backup]\nregion=x\n", "backup"), ("", "default")]
)
def test_a_file_without_the_key_is_named(tmp_path: Path, text: str, profile: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    with pytest.raises(KeyNotAvailable, match="credentials"):
        AwsProfile(file, profile).current()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyNotAvailable, match="no such file"):
        AwsProfile(tmp_path / "none", "default").current()
