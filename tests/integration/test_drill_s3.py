"""The attack drill on real buckets: sound ones hold, weak ones are found out, and nothing is left changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from donjon.core.errors import CredentialsRejected, Interrupted
from donjon.core.events import never_stop
from donjon.drills.base import Report, Role
from donjon.drills.canaries import Canary
from donjon.drills.s3 import ATTACKS, attack_bucket
from donjon.drills.s3_field import Field
from donjon.testing.aws.ministack import BACKUP, PRODUCTION, MiniStack
from donjon.testing.aws.people import User
from donjon.testing.aws.seaweedfs import ACCESS_KEY, SECRET_KEY, SeaweedFs
from tests.integration.cli import Donjon
from tests.integration.s3_roles import As, Roles, policy

ALL = {attack.name for attack, _ in ATTACKS}
ADMIN = User("administrator", ACCESS_KEY, SECRET_KEY)


@dataclass
class Bucket:
    """A bucket, and who attacks it; canaries are any bytes."""

    client: Any
    name: str
    now: Callable[[], int]
    made: int = 0
    asked: list[str] = field(default_factory=list)

    def make(self) -> Canary:
        self.made += 1
        return Canary(f"packs/00/{self.made:08d}", f"canary {self.made}".encode())

    def drill(
        self,
        role: Role,
        attacker: Any = None,
        *,
        eyes: Any = None,
        intrusive: bool = True,
        stop: Callable[[], None] = never_stop,
        accepted: frozenset[str] = frozenset(),
    ) -> Report:
        place = Field(
            attacker or self.client,
            eyes or self.client,
            self.name,
            "v/",
            self.make,
            self.now,
            is_aws=False,
            intrusive=intrusive,
        )
        report = Report()
        rows = list(attack_bucket(place, role, report, accepted=accepted, stop=stop))
        assert [row.tried for row in rows] == [attack.what for attack, _ in ATTACKS]
        return report

    def settings(self) -> dict[str, Any]:
        """All that a drill could change."""
        found = {}
        for setting in (
            "bucket_versioning",
            "object_lock_configuration",
            "bucket_policy",
            "bucket_lifecycle_configuration",
            "bucket_logging",
            "bucket_encryption",
        ):
            try:
                told = getattr(self.client, f"get_{setting}")(Bucket=self.name)
            except ClientError as error:
                told = error.response["Error"]["Code"]
            else:
                told.pop("ResponseMetadata")
            found[setting] = told
        return found


def _seaweed(server: SeaweedFs, *, locks: bool = True, mode: str | None = "COMPLIANCE") -> Bucket:
    client = server.client()
    name = server.make_bucket(locks=locks)
    if locks and mode:
        rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
        client.put_object_lock_configuration(
            Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
    client.put_object(Bucket=name, Key="v/vault", Body=b"the vault object")
    return Bucket(client, name, lambda: int(time.time()))


def _ministack(aws: MiniStack, *, locks: bool = True) -> Bucket:
    client, name = aws.client("s3"), aws.make_bucket(locks=locks)
    client.put_object(Bucket=name, Key="v/vault", Body=b"the vault object")
    return Bucket(client, name, lambda: int(time.time()))


def _outcomes(report: Report, *names: str) -> dict[str, str]:
    by_what = {row.tried: row.outcome.value for row in report.rows}
    return {attack.name: by_what[attack.what] for attack, _ in ATTACKS if not names or attack.name in names}


# --- sound buckets hold -----------------------------------------------------------------------------


def test_the_administrator_of_a_locked_bucket_loses_nothing_and_changes_nothing(s3_server: SeaweedFs) -> None:
    bucket = _seaweed(s3_server)
    before = bucket.settings()
    report = bucket.drill(Role.ADMINISTRATOR)
    assert report.failed == []
    outcomes = _outcomes(report)
    # What SeaweedFS does not know, or AWS alone has.
    unknown = {"update-encryption", "replication", "logging", "public"}
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == unknown
    assert bucket.settings() == before
    assert {left.name for left in report.leftovers} == {"packs/00/00000001", "packs/00/00000002"}
    assert all(left.locked_until for left in report.leftovers)
    versions = bucket.client.list_object_versions(Bucket=bucket.name)
    assert "DeleteMarkers" not in versions
    held = bucket.client.get_object_legal_hold(Bucket=bucket.name, Key="v/packs/00/00000001")
    assert held["LegalHold"]["Status"] == "OFF"


def test_a_stranger_may_do_nothing_at_all(s3_server: SeaweedFs) -> None:
    bucket = _seaweed(s3_server)
    stranger = s3_server.make_user(policy("reader", "another-bucket"))
    report = bucket.drill(Role.OUTSIDER, s3_server.client(stranger.access_key, stranger.secret_key))
    assert report.failed == []
    assert {row.seen for row in report.rows if row.outcome.value == "passed"} == {"refused"}
    assert set(_outcomes(report).values()) == {"passed", "skipped"}


def test_an_unknown_key_proves_nothing(s3_server: SeaweedFs) -> None:
    """A server refuses everything to whom it does not know, and that must not pass."""
    bucket = _seaweed(s3_server)
    with pytest.raises(CredentialsRejected):
        bucket.drill(Role.OUTSIDER, s3_server.client("nobody", "has-this-key"))


def test_production_attacks_the_backup_account(aws: MiniStack) -> None:
    """The administrator of production, whom the backup account lets assume no role, and once a weak one."""
    bucket = _ministack(aws)
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    admin = aws.make_user({"Version": "2012-10-17", **everything}, PRODUCTION)
    report = bucket.drill(Role.OUTSIDER, aws.client("s3", admin), intrusive=False)
    assert report.failed == []
    assert _outcomes(report)["delete-version"] == "passed"


def test_a_role_across_accounts_may_do_its_work_and_nothing_else(aws: MiniStack) -> None:
    bucket = _ministack(aws)
    puts = {"Effect": "Allow", "Action": ["s3:PutObject", "s3:PutObjectRetention"]}
    writes = [{**puts, "Resource": f"arn:aws:s3:::{bucket.name}/v/packs/*"}]
    wide = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    for name, statements, failed in (
        ("writer", writes, {"lock-bomb"}),
        ("too-much", wide, {"list", "read", "delete-marker", "versioning", "lock-bomb", "hold"}),
    ):
        attacker = _assumed(aws, f"{name}-{bucket.name}", statements)
        report = bucket.drill(Role.WRITER, attacker, intrusive=False)
        assert failed <= set(report.failed), report.failed
        assert name != "writer" or set(report.failed) == failed


def _assumed(aws: MiniStack, name: str, statements: list[dict[str, Any]]) -> Any:
    """A client of a role of the backup account that an administrator of production assumed."""
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{PRODUCTION}:root"}}
    trust |= {"Action": "sts:AssumeRole"}
    iam = aws.client("iam", aws.root(BACKUP))
    iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=document)
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    admin = aws.make_user({"Version": "2012-10-17", **everything}, PRODUCTION)
    made = aws.client("sts", admin).assume_role(
        RoleArn=f"arn:aws:iam::{BACKUP}:role/{name}", RoleSessionName="drill"
    )["Credentials"]
    user = User(name, made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    return aws.client("s3", user)


# --- weak ones are found out ------------------------------------------------------------------------


def test_governance_with_full_rights_is_found_out(s3_server: SeaweedFs) -> None:
    report = _seaweed(s3_server, mode="GOVERNANCE").drill(Role.ADMINISTRATOR)
    lifted = {"delete-bypass", "delete-batch-bypass", "shorten-bypass", "remove-lock"}
    assert lifted - {"remove-lock"} <= set(report.failed) <= lifted
    (row,) = [row for row in report.rows if row.tried.endswith("bypass of GOVERNANCE")]
    assert (row.seen, row.outcome.value) == ("went through: the canary is gone", "failed")


def test_versions_without_locks_are_found_out(s3_server: SeaweedFs) -> None:
    bucket = _seaweed(s3_server, locks=False)
    bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    report = bucket.drill(Role.ADMINISTRATOR)
    assert {"delete-version", "delete-batch", "suspend"} <= set(report.failed)
    assert _outcomes(report)["delete-bucket"] == "skipped"  # it would be, with all that is in it
    assert "overwrite" not in report.failed  # the version below is there
    assert report.leftovers == []  # nothing holds them
    assert bucket.settings()["bucket_versioning"] == {"Status": "Enabled"}


def test_a_bucket_without_versions_is_found_out(s3_server: SeaweedFs) -> None:
    report = _seaweed(s3_server, locks=False).drill(Role.ADMINISTRATOR)
    assert {"delete-version", "delete-marker", "overwrite"} <= set(report.failed)


def test_a_server_that_lets_versions_be_suspended_is_found_out_and_put_back(aws: MiniStack) -> None:
    bucket = _ministack(aws)
    report = bucket.drill(Role.ADMINISTRATOR)
    assert "suspend" in report.failed
    assert bucket.settings()["bucket_versioning"] == {"Status": "Enabled"}


@pytest.mark.parametrize(
    ("action", "failed"),
    [
        ("s3:GetObject", {"read"}),
        ("s3:DeleteObject", {"delete-marker"}),
        ("s3:PutObjectLegalHold", {"hold"}),
        ("s3:PutBucketPolicy", {"policy"}),
    ],
)
def test_a_writer_who_may_do_too_much_is_found_out(
    s3_server: SeaweedFs, action: str, failed: set[str]
) -> None:
    bucket = _seaweed(s3_server)
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=_deny_elsewhere(bucket.name))
    allowed = policy("writer", bucket.name, "ab" * 16)
    everywhere = [f"arn:aws:s3:::{bucket.name}", f"arn:aws:s3:::{bucket.name}/v/packs/*"]
    puts = ["s3:PutObject", "s3:PutObjectRetention"]
    allowed["Statement"].append({"Effect": "Allow", "Action": puts, "Resource": everywhere[1]})
    allowed["Statement"].append({"Effect": "Allow", "Action": action, "Resource": everywhere})
    user = s3_server.make_user(allowed)
    report = bucket.drill(
        Role.WRITER,
        s3_server.client(user.access_key, user.secret_key),
        accepted=frozenset({"lock-bomb"}),  # SeaweedFS has no condition that caps locks
    )
    assert set(report.failed) == failed
    assert _outcomes(report, "lock-bomb") == {"lock-bomb": "skipped"}


def _deny_elsewhere(bucket: str) -> str:
    """A policy that concerns nobody."""
    statement = {
        "Sid": "Nothing",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObjectTagging",
        "Resource": f"arn:aws:s3:::{bucket}/nothing/*",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# --- nothing is left changed ------------------------------------------------------------------------


class Dies:
    """A client whose process dies at a request: it and all later ones are never made, or never answered."""

    def __init__(self, client: Any, at: int, *, before: bool, dead: list[bool], count: list[int]) -> None:
        self._client, self._at, self._before = client, at, before
        self._dead, self._count = dead, count

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def call(**parameters: Any) -> Any:
            if self._dead:
                raise KeyboardInterrupt
            self._count.append(1)
            dies = len(self._count) == self._at
            if dies and self._before:
                self._dead.append(True)
                raise KeyboardInterrupt
            try:
                return method(**parameters)
            finally:
                if dies:
                    self._dead.append(True)
                    raise KeyboardInterrupt

        return call


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drills do not wait until canaries are older than a second: for tests that look at settings alone."""
    monkeypatch.setattr("donjon.drills.s3_field._SECOND_S", 0.0)


@pytest.mark.usefixtures("hasty")
def test_a_drill_that_dies_at_any_request_leaves_all_settings_as_they_were(s3_server: SeaweedFs) -> None:
    bucket = _seaweed(s3_server)
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=_deny_elsewhere(bucket.name))
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "elsewhere/"}, "Expiration": {"Days": 900}}
    bucket.client.put_bucket_lifecycle_configuration(
        Bucket=bucket.name, LifecycleConfiguration={"Rules": [rule]}
    )
    before = bucket.settings()
    assert isinstance(before["bucket_policy"], Mapping)
    assert isinstance(before["bucket_lifecycle_configuration"], Mapping)
    count: list[int] = []
    whole = Dies(bucket.client, 0, before=True, dead=[], count=count)
    bucket.drill(Role.ADMINISTRATOR, whole, eyes=whole, intrusive=False)
    assert bucket.settings() == before
    first = 45  # the attacks on objects need no test of settings at each request
    for at in [5, 20, *range(first, len(count) - 8)]:  # the last ones clean up
        for is_before in (True, False):
            dies = Dies(bucket.client, at, before=is_before, dead=[], count=[])
            with pytest.raises(KeyboardInterrupt):
                bucket.drill(Role.ADMINISTRATOR, dies, eyes=dies, intrusive=False)
            assert bucket.settings() == before, (at, is_before)


class Interrupts(Dies):
    """A client at whose request the user presses Ctrl-C twice; the process lives on to clean up."""

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)

        def call(**parameters: Any) -> Any:
            try:
                return method(**parameters)
            finally:
                self._dead.clear()

        return call if callable(method) else method


@pytest.mark.usefixtures("hasty")
def test_an_intrusive_drill_that_is_interrupted_puts_back_what_it_changed(aws: MiniStack) -> None:
    """MiniStack lets versioning be suspended, so there is something to put back."""
    bucket = _ministack(aws)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    bucket.client.put_object_lock_configuration(
        Bucket=bucket.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    before = bucket.settings()
    count: list[int] = []
    whole = Dies(bucket.client, 0, before=True, dead=[], count=count)
    assert "suspend" in bucket.drill(Role.ADMINISTRATOR, whole, eyes=whole).failed
    assert bucket.settings() == before
    for at in range(len(count) - 22, len(count) + 1):
        dies = Interrupts(bucket.client, at, before=False, dead=[], count=[])
        with pytest.raises(KeyboardInterrupt):
            bucket.drill(Role.ADMINISTRATOR, dies, eyes=dies)
        assert bucket.settings() == before, at


def test_ctrl_c_ends_between_attacks_and_cleans_up(s3_server: SeaweedFs) -> None:
    bucket = _seaweed(s3_server, locks=False)
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        bucket.drill(Role.ADMINISTRATOR, stop=stop)
    assert [entry["Key"] for entry in bucket.client.list_object_versions(Bucket=bucket.name)["Versions"]] == [
        "v/vault"
    ]


# --- by the command ---------------------------------------------------------------------------------


def _profiles(folder: Path, **users: User) -> dict[str, str]:
    """The environment that names these users as profiles."""
    text = ""
    for name, user in users.items():
        text += f"[{name}]\naws_access_key_id={user.access_key}\naws_secret_access_key={user.secret_key}\n"
    file = folder / "credentials"
    file.write_text(text)
    return {"AWS_SHARED_CREDENTIALS_FILE": str(file)}


def test_the_command_attacks_as_each_role_and_signs_what_it_saw(
    s3_server: SeaweedFs, host: Donjon, tmp_path: Path
) -> None:
    roles = Roles.make(s3_server, host)
    writer = roles.writer("web1")
    auditor, file = tmp_path / "eve.auditor", tmp_path / "writer.evidence"
    host.run("auditor", "add", "eve", "--out", auditor)
    assert writer.user is not None
    users = {
        "writer": writer.user,
        "reader": roles.user("reader"),
        "custodian": roles.user("custodian"),
        "reaper": roles.user("reaper"),
        "outsider": roles.user("writer", "ab" * 16),
    }
    watcher = As(writer.folder, has_kit=False, user=ADMIN)
    environment = {**_profiles(tmp_path, **users), "DONJON_AUDITOR": str(auditor)}

    def drill(*options: str, code: int = 0) -> dict[str, Any]:
        command = ["drill", "attack", *options, "--vault", roles.url, "--json"]
        told: dict[str, Any] = json.loads(watcher.run(*command, code=code, environment=environment).stdout)
        return told

    bomb = ("--known", "lock-bomb")  # SeaweedFS cannot cap locks
    ids = {}
    for role in ("writer", "reader", "custodian", "reaper"):
        extra = ("--evidence", str(file)) if role == "writer" else ()
        done = drill("--as", role, "--profile", role, *bomb, *extra)
        assert (done["passed"], done["failed"]) == (True, []), done
        ids[role] = done["evidence"]["id"]
    assert drill("--as", "administrator", "--intrusive")["passed"]
    assert drill("--as", "writer", "--profile", "writer", code=4)["failed"] == ["lock-bomb"]
    wrong = drill("--profile", "outsider", *bomb, code=4)  # an outsider with a writer's credential
    assert {"put", "overwrite", "extend"} <= set(wrong["failed"])

    listed = watcher.json("evidence", "list", "--vault", roles.url)
    assert {one["id"] for one in listed["evidence"]} >= set(ids.values())
    assert {one["name"] for one in listed["evidence"]} == {"eve"}
    assert listed["damaged"] == []
    checked = watcher.json("evidence", "check", file, "--vault", roles.url)
    assert (checked["id"], checked["passed"]) == (ids["writer"], True)
    assert len(checked["rows"]) == len(done["rows"])
    # Nothing is wrong with the vault but what was laid over canaries.
    problems = watcher.json("verify", "--vault", roles.url, code=12)["problems"]
    assert {problem["kind"] for problem in problems} == {"suspicious"}
    assert all(problem["object"].startswith("packs/") for problem in problems)


def test_the_command_says_what_it_lacks(s3_server: SeaweedFs, host: Donjon, tmp_path: Path) -> None:
    roles = Roles.make(s3_server, host)
    admin = replace(roles.admin, has_kit=False)
    vault = ("--vault", roles.url)
    assert b"whose credential attacks" in admin.run("drill", "attack", *vault, code=2).stderr
    assert b"the roles are" in admin.run("drill", "attack", "--as", "king", *vault, code=2).stderr.lower()
    unknown = admin.run("drill", "attack", "--as", "reader", "--known", "x", *vault, code=2)
    assert b"there is no attack 'x'" in unknown.stderr
    none = admin.run("drill", "attack", "--as", "administrator", *vault, code=13)
    assert b"auditor add" in none.stderr
    auditor, file = tmp_path / "eve.auditor", tmp_path / "there"
    roles.admin.run("auditor", "add", "eve", "--out", auditor)
    file.write_bytes(b"")
    options = ("--as", "administrator", "--sign", auditor, *vault)
    assert b"never overwrites" in admin.run("drill", "attack", *options, "--evidence", file, code=1).stderr
    profile = admin.run("drill", "attack", *options, "--profile", "nobody", code=2)
    assert b"there is no profile 'nobody'" in profile.stderr


def test_canaries_without_a_writer_are_evidence_that_nobody_lists(
    s3_server: SeaweedFs, host: Donjon, tmp_path: Path
) -> None:
    roles = Roles.make(s3_server, host)
    auditor = tmp_path / "eve.auditor"
    roles.admin.run("auditor", "add", "eve", "--out", auditor)
    vault = ("--vault", roles.url)
    done = roles.admin.json(
        "drill", "attack", "--as", "administrator", "--sign", auditor, "--no-evidence", *vault
    )
    assert done["evidence"] is None
    assert done["passed"]
    assert {left["object"].partition("/")[0] for left in done["stays"]} == {"evidence"}
    # An auditor may put evidence, so he may do that to canaries which are evidence.
    environment = _profiles(tmp_path, auditor=roles.user("auditor"))
    options = ("--as", "auditor", "--profile", "auditor", "--sign", auditor, "--known", "lock-bomb", *vault)
    admin = As(roles.admin.folder, has_kit=False, user=ADMIN)
    told = json.loads(admin.run("drill", "attack", *options, "--json", environment=environment).stdout)
    seen = {row["tried"]: row["seen"] for row in told["rows"]}
    assert (told["failed"], seen["put a new object"]) == ([], "allowed")
    listed = roles.admin.json("evidence", "list", *vault)
    assert ([one["kind"] for one in listed["evidence"]], listed["damaged"]) == (["attack-drill"], [])


def test_a_profile_that_asks_another_server_attacks_nothing(
    s3_server: SeaweedFs, host: Donjon, tmp_path: Path
) -> None:
    """Whatever that server refuses would prove nothing."""
    address = f"s3://{s3_server.make_bucket()}/v"
    config = tmp_path / "config"
    usual = f"[default]\nregion = us-east-1\nendpoint_url = {s3_server.endpoint}\n"
    config.write_text(f"{usual}[profile thief]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:9\n")
    environment = {**_profiles(tmp_path, thief=ADMIN), "AWS_CONFIG_FILE": str(config)}
    admin = As(host.folder, user=ADMIN)
    made = ("init", address, "--create", "--kit", host.kit, "--lock", "7d", "--single-recipient")
    admin.run(*made, environment=environment)
    done = admin.run(
        "drill", "attack", "--profile", "thief", "--no-evidence", environment=environment, code=2
    )
    assert b"asks http://127.0.0.1:9" in done.stderr
