"""Two accounts of AWS on MiniStack: production, and the vault's, deployed from what is rendered."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ClientError

from donjon.roles import aws_cloudformation
from donjon.roles.account import Account
from donjon.roles.aws_policies import role_arn, role_names
from donjon.testing.aws.ministack import BACKUP, PRODUCTION, MiniStack, ministack
from donjon.testing.aws.people import User
from donjon.testing.aws.s3_recorder import S3Recorder
from donjon.testing.front import Answer, Request, Upstream, serving
from tests.integration.cli import Donjon
from tests.integration.role_work import Asked, Stage
from tests.integration.s3_roles import As

DAY = 86_400
EXTERNAL_ID = "made-up-for-tests"
#: MiniStack has no TLS, and does not know the condition key of the other, so these would refuse everything.
NOT_KNOWN = ("OnlyTls", "OnlyNewNames")
STACK = "vault"


class RecorderWithRanges(S3Recorder):
    """MiniStack ignores the range of a request that names a version; this cuts it out of the answer.

    ``days`` is by how much its clock is ahead, for the answers are dated here.
    """

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream, lambda: int(time.time()) + self.days * DAY)
        self.days = 0

    def handle(self, request: Request) -> Answer:
        """See the class."""
        answer = super().handle(request)
        wanted = request.headers.get("range", "").removeprefix("bytes=")
        if answer.status != 200 or not wanted or request.method != "GET":
            return answer
        first, _, last = wanted.partition("-")
        size = len(answer.body)
        start = int(first) if first else max(0, size - int(last))
        end = min(int(last), size - 1) if first and last else size - 1
        if start >= size:
            return Answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        headers = {**answer.headers, "content-range": f"bytes {start}-{end}/{size}"}
        return Answer(206, answer.body[start : end + 1], headers)


@dataclass(frozen=True)
class AtRecorder(As):
    """A host that asks KMS through the recorder, too."""

    kms: str = ""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"AWS_ENDPOINT_URL_KMS": self.kms}


@dataclass
class AwsStage(Stage):
    """The vault's account, as CloudFormation made it from the template."""

    opens_by_key = True

    server: MiniStack
    recorder: RecorderWithRanges
    folder: Path
    account: Account
    endpoint: str = ""
    users: dict[str, str] = field(default_factory=dict)  #: role by access key

    def __post_init__(self) -> None:
        self._deploy("create_stack")
        for role in ("production", "operator"):
            self.caller(role)

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"s3://{self.account.bucket}/{self.account.prefix}?endpoint={self.endpoint}"

    def _deploy(self, how: str) -> None:
        client = self.server.client("cloudformation")
        template = aws_cloudformation.render(self.account)
        getattr(client, how)(StackName=STACK, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"])
        deadline = time.monotonic() + 60
        while (state := client.describe_stacks(StackName=STACK)["Stacks"][0])["StackStatus"].endswith(
            "IN_PROGRESS"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert state["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}, state
        self._mend()

    def _mend(self) -> None:
        """What MiniStack leaves out of a template, from that same template."""
        found = json.loads(aws_cloudformation.render(self.account))["Resources"]
        s3, bucket = self.server.client("s3"), self.account.bucket
        lock = found["VaultBucket"]["Properties"]["ObjectLockConfiguration"]
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
        policy = found["VaultBucketPolicy"]["Properties"]["PolicyDocument"]
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(as_sessions(policy)))
        kms = self.server.client("kms")
        key_policy = as_sessions(found["VaultKey"]["Properties"]["KeyPolicy"])
        kms.put_key_policy(KeyId=self.key, PolicyName="default", Policy=json.dumps(key_policy))
        for name, role, _ in role_names(self.account):
            if role.is_held_by_people:  # see test_who_has_no_second_factor_becomes_no_reader_and_no_reaper
                self.set_trust(name, without_second_factor(self.trust(name)))

    @property
    def key(self) -> str:
        """The id of the key that the template made."""
        aliases = self.server.client("kms").list_aliases()["Aliases"]
        (key,) = [alias["TargetKeyId"] for alias in aliases if self.account.bucket in alias["AliasName"]]
        return str(key)

    def trust(self, name: str) -> dict[str, Any]:
        """Who may assume a role, as it was rendered."""
        found = json.loads(aws_cloudformation.render(self.account))["Resources"]
        roles = [made["Properties"] for made in found.values() if made["Type"] == "AWS::IAM::Role"]
        (trust,) = [role["AssumeRolePolicyDocument"] for role in roles if role["RoleName"] == name]
        assert isinstance(trust, dict)
        return trust

    def set_trust(self, name: str, trust: dict[str, Any]) -> None:
        """Change who may assume a role."""
        iam = self.server.client("iam")
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))

    def caller(self, which: str) -> User:
        """Somebody in production's account, or in that of the vault, who may ask for any role."""
        account = PRODUCTION if which == "production" else BACKUP
        allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
        return self.server.make_user({"Version": "2012-10-17", "Statement": [allow]}, account)

    def assume(self, role: str, caller: User | None = None, external_id: str | None = EXTERNAL_ID) -> User:
        """A session of a role. Raises ``ClientError`` for who is not trusted."""
        (name,) = [name for name, found, _ in role_names(self.account) if found.name == role]
        by = caller or self.caller("production" if role == "writer" else "operator")
        sts = self.server.client("sts", by)
        further = {"ExternalId": external_id} if external_id and role == "writer" else {}
        arn = role_arn(self.account, name)
        with self._signing_later():
            made = sts.assume_role(RoleArn=arn, RoleSessionName="test", **further)["Credentials"]
        user = User(role, made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
        self.users[user.access_key] = role
        return user

    def _signing_later(self) -> AbstractContextManager[object]:
        """Let this process sign by the server's clock."""
        later = timedelta(days=self.recorder.days)
        return patch(
            "botocore.auth.get_current_datetime", lambda: datetime.now(UTC).replace(tzinfo=None) + later
        )

    def host(self, role: str, days: int = 0, folder: str = "") -> Donjon:
        """See the stage."""
        if days != self.recorder.days:
            self.recorder.days = days
            self.server.set_days_later(days)
        place = self.folder / (folder or role)
        place.mkdir(exist_ok=True)
        user = self.server.root() if role == "administrator" else self.assume(role)
        # The reader has no kit: the key opens the vault.
        return AtRecorder(place, has_kit=role == "administrator", user=user, kms=self.endpoint).later(days)

    def key_options(self) -> tuple[str, ...]:
        """See the stage."""
        return ("--key", f"aws-kms:arn:aws:kms:us-east-1:{self.account.owner}:key/{self.key}")

    def enrolled(self, writer: str) -> None:
        """See the stage."""
        self.account = replace(self.account, writers=(*self.account.writers, writer))
        self._deploy("update_stack")

    def asked(self) -> Iterable[Asked]:
        """See the stage."""
        prefix = f"{self.account.prefix}/"
        for one in self.recorder.asked:
            if role := self.users.get(one.access_key):
                for permission in one.permissions:
                    yield Asked(role, permission, one.key.removeprefix(prefix), one.allowed)

    def put_as_root(self, key: str) -> str:
        """An object that nobody locked by itself, put by who is above all policies here; its version."""
        with self._signing_later():
            s3 = self.server.client("s3")
            return str(s3.put_object(Bucket=self.account.bucket, Key=key, Body=b"x")["VersionId"])

    def client(self, role: str, service: str = "s3") -> Any:
        """A plain client with a session of a role."""
        return self.server.client(service, self.assume(role))


def as_sessions(policy: dict[str, Any]) -> dict[str, Any]:
    """The same policy where a session's aws:PrincipalArn is its own, and not that of the role as with AWS."""
    statements = []
    for statement in policy["Statement"]:
        if statement["Sid"] in NOT_KNOWN:
            continue
        condition = dict(statement.get("Condition", {}))
        if (who := condition.get("ArnNotLike")) is not None:
            told = who["aws:PrincipalArn"]
            arns = [told] if isinstance(told, str) else told
            sessions = [
                arn.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/*" for arn in arns
            ]
            condition["ArnNotLike"] = {"aws:PrincipalArn": [*arns, *sessions]}
        statements.append({**statement, "Condition": condition} if condition else statement)
    return {**policy, "Statement": statements}


def without_second_factor(trust: dict[str, Any]) -> dict[str, Any]:
    """The same trust for those who show none, as MiniStack knows none."""
    statements = [dict(statement) for statement in trust["Statement"]]
    for statement in statements:
        condition = {key: value for key, value in statement["Condition"].items() if key != "Bool"}
        statement.pop("Condition")
        if condition:
            statement["Condition"] = condition
    return {**trust, "Statement": statements}


def refused(call: Any) -> bool:
    """Whether a call is denied; other errors come out."""
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in {"AccessDenied", "AccessDeniedException", "403", "Forbidden"}:
            return True
        raise
    return False


@contextlib.contextmanager
def aws_stage(folder: Path) -> Iterator[AwsStage]:
    """A server of its own, for its clock moves."""
    server_folder = folder / "ministack"
    server_folder.mkdir()
    with ministack(server_folder, moves_clock=True) as server:
        port = int(server.endpoint.rpartition(":")[2])
        recorder = RecorderWithRanges(Upstream(port))
        account = Account(
            bucket="acme-vault",
            prefix="prod",
            owner=BACKUP,
            production=PRODUCTION,
            external_id=EXTERNAL_ID,
        )
        with serving(recorder) as endpoint:
            yield AwsStage(server, recorder, folder, account, endpoint)
