"""Access keys of an IAM user, and the profile in which this host keeps one.

API: https://docs.aws.amazon.com/IAM/latest/APIReference/; two keys at most for each user, so that one can
replace the other: https://docs.aws.amazon.com/IAM/latest/UserGuide/id-credentials-access-keys-update.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    PermissionMissing,
    Refused,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from donjon.credentials.base import Credential, NewSecret
from donjon.format import names
from donjon.stores.s3.address import S3Address

KIND: Final = "aws-access-key"
_MOST: Final = 2
_ROLE: Final = "an assumed role (role_arn with credential_source, or web identity)"

#: The permissions of each call, by the SDK's name of it (Service Authorization Reference, IAM and STS).
#: Those of the second table only make the findings fuller. GetCallerIdentity needs none.
PERMISSIONS: Final[Mapping[str, str]] = {
    "list_access_keys": "iam:ListAccessKeys",
    "create_access_key": "iam:CreateAccessKey",
    "update_access_key": "iam:UpdateAccessKey",
    "delete_access_key": "iam:DeleteAccessKey",
}
OPTIONAL_PERMISSIONS: Final[Mapping[str, str]] = {
    "get_access_key_last_used": "iam:GetAccessKeyLastUsed",
    "list_attached_user_policies": "iam:ListAttachedUserPolicies",
    "list_user_policies": "iam:ListUserPolicies",
    "get_user_policy": "iam:GetUserPolicy",
    "list_groups_for_user": "iam:ListGroupsForUser",
}

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_REJECTED = {
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "AuthFailure",
}
_BUSY = {"Throttling", "ThrottlingException", "ServiceUnavailable", "InternalFailure", "ServiceFailure"}
_MISSING = {"NoSuchEntity"}

#: Managed policies of AWS that reach far beyond any role of Donjon.
_BROAD_POLICY = re.compile(
    r"^(AdministratorAccess.*|PowerUserAccess|IAMFullAccess|AmazonS3FullAccess|SystemAdministrator)$"
)
#: What no writer of a vault needs; the policies of the roles are in docs/guide-s3.md.
_BROAD_ACTIONS = re.compile(
    r"^(\*|s3:\*|iam:\*|s3:Delete\*|s3:Put\*|s3:DeleteBucket|s3:BypassGovernanceRetention|s3:PutBucket\w*"
    r"|s3:PutLifecycleConfiguration|s3:PutObjectLegalHold)$",
    re.IGNORECASE,
)


class AwsAccessKeys:
    """The keys of one user."""

    kind = KIND
    most = _MOST
    can_disable = True

    def __init__(
        self,
        session: Any,
        *,
        current_id: str,
        stored_in: str,
        user: str | None = None,
        verify_at: S3Address | None = None,
        endpoint: str | None = None,
    ) -> None:
        """``session`` is one of botocore, and asks IAM. ``user`` is by default whoever its credential is.

        ``verify_at`` is a vault from which a new key must be able to read the vault object, ``endpoint`` a
        server other than AWS.
        """
        self._session = session
        self._current_id = current_id
        self._stored_in = stored_in
        self._verify_at = verify_at
        self._endpoint = endpoint
        self._iam = self._client("iam")
        self._named = user
        self._owner: tuple[str, str] | None = None

    @property
    def owner(self) -> str:
        """The name of the user whose keys these are, or the ARN of the root user."""
        return self._who()[0]

    def list(self) -> Sequence[Credential]:
        user, arn = self._who()
        if user == "":
            return [self._root(arn)]
        keys = [
            key
            for page in self._pages("list_access_keys", UserName=user)
            for key in page["AccessKeyMetadata"]
        ]
        powers = tuple(self._powers(user))
        return [self._fact(key, arn, powers) for key in keys]

    def create(self) -> NewSecret:
        user, arn = self._who()
        if user == "":
            msg = f"{arn}: keys of a root user are not rotated, they are deleted"
            raise Refused(
                msg, hint="Make an IAM user or, better, a role with the policy of the role instead."
            )
        made = self._call("create_access_key", UserName=user)["AccessKey"]
        return NewSecret(made["AccessKeyId"], made["SecretAccessKey"])

    def verify(self, secret: NewSecret) -> None:
        """Ask who it is; then, if a vault was named, read its vault object as the new key."""
        keys = {"aws_access_key_id": secret.id, "aws_secret_access_key": secret.secret}
        _, arn = self._who()
        seen = self._call("get_caller_identity", self._client("sts", **keys))["Arn"]
        if seen != arn:
            msg = f"the new key {secret.id} belongs to {seen} instead of {arn}"
            raise Refused(msg, hint="The old key still works. Find out who answers in place of AWS.")
        if (at := self._verify_at) is not None:
            store = self._client("s3", endpoint=at.endpoint, region=at.region, **keys)
            self._call("get_object", store, Bucket=at.bucket, Key=at.prefix + names.VAULT)["Body"].close()

    def disable(self, credential_id: str) -> None:
        user, _ = self._who()
        try:
            self._call("update_access_key", UserName=user, AccessKeyId=credential_id, Status="Inactive")
        except _Missing:
            return

    def delete(self, credential_id: str) -> None:
        user, _ = self._who()
        try:
            self._call("delete_access_key", UserName=user, AccessKeyId=credential_id)
        except _Missing:
            return

    # -- facts -----------------------------------------------------------------------------------

    def _who(self) -> tuple[str, str]:
        """Name and ARN of the user; the name of a root user is empty."""
        if self._owner is None:
            arn = str(self._call("get_caller_identity", self._client("sts"))["Arn"])
            if self._named is not None:
                arn = f"{arn.rpartition(':')[0]}:user/{self._named}"
            kind, _, name = arn.rpartition(":")[2].partition("/")
            if kind not in {"user", "root"}:
                msg = f"{arn}: is no IAM user, so it has no access keys to look after"
                raise UsageError(msg, hint="Its credentials end by themselves; nothing has to be rotated.")
            self._owner = name.rpartition("/")[2], arn
        return self._owner

    def _root(self, arn: str) -> Credential:
        power = "is the root user, whom no policy holds"
        return Credential(
            self._current_id, KIND, arn, use_is_known=False, in_use=True, stored_in=self._stored_in,
            powers=(power,),
            replaceable_by=_ROLE,
        )  # fmt: skip

    def _fact(self, key: Mapping[str, Any], arn: str, powers: tuple[str, ...]) -> Credential:
        key_id, in_use = str(key["AccessKeyId"]), key["AccessKeyId"] == self._current_id
        used: Any = None
        known = True
        try:
            told = self._call("get_access_key_last_used", AccessKeyId=key_id)["AccessKeyLastUsed"]
            used = told.get("LastUsedDate")
        except PermissionMissing:
            known = False
        return Credential(
            key_id, KIND, arn,
            created_at=int(key["CreateDate"].timestamp()),
            last_used_at=int(used.timestamp()) if used is not None else None,
            use_is_known=known,
            active=key["Status"] == "Active",
            in_use=in_use,
            stored_in=self._stored_in if in_use else "",
            powers=powers,
            replaceable_by=_ROLE if in_use else "",
        )  # fmt: skip

    def _powers(self, user: str) -> Iterator[str]:
        """What the user may do beyond any role of a vault. Who may not ask this finds out nothing."""
        try:
            for page in self._pages("list_attached_user_policies", UserName=user):
                for policy in page["AttachedPolicies"]:
                    if _BROAD_POLICY.match(policy["PolicyName"]):
                        yield f"has the policy {policy['PolicyName']}"
            for page in self._pages("list_user_policies", UserName=user):
                for name in page["PolicyNames"]:
                    told = self._call("get_user_policy", UserName=user, PolicyName=name)["PolicyDocument"]
                    for action in broad_actions(told if isinstance(told, Mapping) else json.loads(told)):
                        yield f"may {action} by the policy {name}"
            for page in self._pages("list_groups_for_user", UserName=user):
                for group in page["Groups"]:
                    yield f"is in the group {group['GroupName']}, whose policies hold for it too"
        except PermissionMissing:
            return

    # -- asking ----------------------------------------------------------------------------------

    def _client(
        self, service: str, *, endpoint: str | None = None, region: str | None = None, **keys: str
    ) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=10,
            read_timeout=30,
            retries={"total_max_attempts": 3, "mode": "standard"},
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        try:
            return self._session.create_client(
                service,
                region_name=region or self._session.get_config_variable("region") or "us-east-1",
                endpoint_url=endpoint or self._endpoint,
                config=config,
                **keys,
            )
        except Exception as error:
            raise translated(error, service) from error

    def _call(self, method: str, client: Any = None, **parameters: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(client or self._iam, method)(**parameters)
        except Exception as error:
            raise translated(error, method) from error
        return answer

    def _pages(self, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every list of IAM goes on at ``Marker`` while ``IsTruncated``."""
        while True:
            page = self._call(method, **parameters)
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["Marker"] = page["Marker"]


class _Missing(StoreError):
    """IAM knows no such key or user."""


def broad_actions(policy: Mapping[str, Any]) -> list[str]:
    """The actions that a policy document allows and that no role of a vault needs."""
    statements = policy.get("Statement", [])
    found = []
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement.get("Effect") != "Allow":
            continue
        if "NotAction" in statement:
            found.append("everything but some actions (NotAction)")
        actions = statement.get("Action", [])
        for action in actions if isinstance(actions, list) else [actions]:
            if _BROAD_ACTIONS.match(action):
                found.append(action)
    return found


def translated(error: Exception, method: str) -> DonjonError:
    """Our error for one of the SDK. What no rule of the SDK foresees is raised as it is."""
    from botocore import exceptions as sdk

    if isinstance(error, sdk.ClientError):
        return _refusal(error, method)
    if isinstance(error, (sdk.ProfileNotFound, sdk.ConfigParseError)):
        return UsageError(str(error), hint="Name a profile that ~/.aws has, with --profile.")
    if isinstance(error, (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError)):
        return CredentialsRejected(f"{method}: {error}", hint="Name a profile with --profile.")
    if isinstance(error, (sdk.HTTPClientError, sdk.BotoCoreError)):
        return StoreUnavailable(f"{method}: {error}", hint="Look at the network, and try again.")
    raise error


def _refusal(error: Any, method: str) -> DonjonError:
    details = error.response.get("Error", {})
    code, text = str(details.get("Code", "")), f"AWS: {method}: {details.get('Message', error)}"
    if code in _DENIED:
        needed = {**PERMISSIONS, **OPTIONAL_PERMISSIONS}.get(method, "")
        return PermissionMissing(text, hint=f"Allow {needed} on this user." if needed else "")
    if code in _REJECTED:
        return CredentialsRejected(text, hint="Is the key switched off or deleted? Look at the profile.")
    if code in _MISSING:
        return _Missing(text)
    if code == "LimitExceeded":
        hint = "Delete the one that nothing uses."
        return Refused(f"{text}: a user has {_MOST} keys at most", hint=hint)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _BUSY or status >= 500:
        return StoreUnavailable(text, hint="Try again later.")
    return StoreError(text)


def new_session(file: Path, profile: str) -> Any:
    """A session of the SDK with the credential of one profile, whatever the environment says.

    Raises ``UsageError`` if the SDK is not installed.
    """
    try:
        from botocore.session import Session
    except ImportError as error:
        msg = "AWS needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[aws]'") from error
    session = Session(profile=profile)
    session.set_config_variable("credentials_file", str(file))
    return session
