"""The policies of an AWS account that holds a vault: of the roles, the bucket, the key, and the organization.

Sources: "Actions, resources, and condition keys" of S3 and of KMS in the Service Authorization Reference,
https://docs.aws.amazon.com/service-authorization/latest/reference/; for the cap,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
"""

from __future__ import annotations

from typing import Any

from donjon.core.errors import UsageError
from donjon.roles.account import Account, need
from donjon.roles.model import READER, REAPER, ROLES, WRITER, Role
from donjon.roles.permissions import key_permissions, store_grants

Policy = dict[str, Any]
Statement = dict[str, Any]
_VERSION = "2012-10-17"
_ACCOUNT = r"\d{12}"
#: How an administrator would get round locks; nobody has a reason for these in a vault.
_FOR_NOBODY = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteObject",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectLegalHold",
    "s3:PutReplicationConfiguration",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
    "s3:UpdateObjectEncryption",
)
#: What an administrator may have to mend one day.
_FOR_BREAK_GLASS = (
    "s3:DeleteBucketPolicy",
    "s3:PutBucketAcl",
    "s3:PutBucketLogging",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutEncryptionConfiguration",
    "s3:PutObjectAcl",
)
_KEY_ADMINISTRATION = (
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
#: What makes a key useless or opens it to others.
_KEY_FOR_NOBODY = (
    "kms:CreateGrant",
    "kms:DeleteImportedKeyMaterial",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:ScheduleKeyDeletion",
)
_KEY_USES = (
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)


def check(account: Account) -> None:
    """Raises ``UsageError`` if something is missing that AWS cannot do without."""
    need(account.owner, "--account", "the number of the account that holds the vault, of 12 digits", _ACCOUNT)
    need(account.production, "--production-account", "the number of production's account", _ACCOUNT)
    need(account.external_id, "--external-id", "a secret-looking word that production's hosts present")
    if account.operators:
        need(account.operators, "--operators-account", "the number of the operators' account", _ACCOUNT)
    if account.production in (account.owner, account.operators):
        msg = "production's account is to be neither the vault's nor the operators'"
        raise UsageError(msg, hint="Take an account that runs nothing else; see docs/roles.md.")


def role_names(account: Account) -> list[tuple[str, Role, str]]:
    """(name in IAM, role, writer's id): one writer role for each writer, and the four others."""
    found = [(f"{account.name}-writer-{writer[:12]}", WRITER, writer) for writer in account.writers]
    return found + [(f"{account.name}-{role.name}", role, "") for role in ROLES if role is not WRITER]


def role_arn(account: Account, name: str) -> str:
    """The name of a role for policies."""
    return f"arn:aws:iam::{account.owner}:role/{name}"


def break_glass(account: Account) -> str:
    """Who alone may change policies, and with whom the account is deployed."""
    return account.break_glass or role_arn(account, f"{account.name}-break-glass")


def identity_policy(account: Account, role: Role, writer: str = "") -> Policy:
    """What a role may do in the bucket. The policy of the key says what it may do there."""
    bucket = f"arn:aws:s3:::{account.bucket}"
    statements: list[Statement] = []
    for grant in store_grants("aws", role, writer):
        if grant.objects:
            arns = [f"{bucket}/{account.path(name)}" for name in grant.objects]
            statements.append(_allow(grant.permissions, arns))
            continue
        listing = tuple(p for p in grant.permissions if p == "s3:ListBucketVersions")
        rest = tuple(p for p in grant.permissions if p not in listing)
        if rest:
            statements.append(_allow(rest, [bucket]))
        if listing:
            made = _allow(listing, [bucket])
            if account.prefix:  # several vaults may share a bucket
                made["Condition"] = {"StringLike": {"s3:prefix": f"{account.prefix}/*"}}
            statements.append(made)
    return {"Version": _VERSION, "Statement": statements}


def trust_policy(account: Account, role: Role) -> Policy:
    """Who may assume a role: production's hosts that of a writer; operators the rest."""
    conditions: dict[str, Any] = {}
    principal = account.production if role is WRITER else account.operators or account.owner
    if principal != account.owner:
        conditions["StringEquals"] = {"sts:ExternalId": account.external_id}
    if role.is_held_by_people:
        conditions["Bool"] = {"aws:MultiFactorAuthPresent": "true"}
    statement: Statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{principal}:root"},
        "Action": "sts:AssumeRole",
    }
    if conditions:
        statement["Condition"] = conditions
    return {"Version": _VERSION, "Statement": [statement]}


def bucket_policy(account: Account) -> Policy:
    """What nobody may do in the bucket, whatever other policies allow."""
    bucket = f"arn:aws:s3:::{account.bucket}"
    objects, both = f"{bucket}/*", [bucket, f"{bucket}/*"]
    reaper = role_arn(account, f"{account.name}-{REAPER.name}")
    putting = [role for role in ROLES if _puts(role)]
    puts = [role_arn(account, f"{account.name}-{'writer-*' if r is WRITER else r.name}") for r in putting]
    statements = [
        _deny("NobodyWeakensLocks", _FOR_NOBODY, both),
        _deny("OnlyBreakGlassChangesTheBucket", _FOR_BREAK_GLASS, both, _but(break_glass(account))),
        _deny("OnlyTheReaperDeletes", ("s3:DeleteObjectVersion",), objects, _but(reaper)),
        _deny(
            "NoLongerLocks",
            ("s3:PutObject", "s3:PutObjectRetention"),
            objects,
            {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": str(account.max_retention)}},
        ),
        _deny(
            "NoShorterLocks",
            ("s3:PutObject", "s3:PutObjectRetention"),
            objects,
            {"NumericLessThan": {"s3:object-lock-remaining-retention-days": str(account.min_retention - 1)}},
        ),
        _deny(
            "NoLocksThatCanBeLifted",
            ("s3:PutObject", "s3:PutObjectRetention"),
            objects,
            {"StringEquals": {"s3:object-lock-mode": "GOVERNANCE"}},
        ),
        _deny(
            "OnlyNewNames",
            ("s3:PutObject",),
            objects,
            {"Null": {"s3:if-none-match": "true"}},
        ),
        _deny(
            "NoKeysOfCustomers",
            ("s3:PutObject",),
            objects,
            {"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}},
        ),
        _deny(
            "OnlyRolesThatPut",
            ("s3:PutObject", "s3:PutObjectRetention"),
            objects,
            _but(*puts, break_glass(account)),
        ),
        _deny("OnlyTls", ("s3:*",), both, {"Bool": {"aws:SecureTransport": "false"}}),
    ]
    if account.private_network:
        statements.append(_private(account, "s3:*", both))
    return {"Version": _VERSION, "Statement": statements}


def _puts(role: Role) -> bool:
    return any("s3:PutObject" in grant.permissions for grant in store_grants("aws", role))


def log_bucket_policy(account: Account) -> Policy:
    """Only the service writes the access log, and nobody takes anything away."""
    bucket = f"arn:aws:s3:::{account.logs}"
    both = [bucket, f"{bucket}/*"]
    service: Statement = {
        "Sid": "TheServiceWrites",
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"{bucket}/*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{account.bucket}"},
            "StringEquals": {"aws:SourceAccount": account.owner},
        },
    }
    changes = (
        "s3:DeleteBucket",
        "s3:DeleteBucketPolicy",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:PutBucketPolicy",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
    )
    tls = {"Bool": {"aws:SecureTransport": "false"}}
    statements = [
        service,
        _deny("OnlyBreakGlassDeletes", changes, both, _but(break_glass(account))),
        _deny("OnlyTls", ("s3:*",), both, tls),
    ]
    return {"Version": _VERSION, "Statement": statements}


def key_policy(account: Account) -> Policy:
    """Writers seal, the reader opens, nobody does both; and nobody takes the key away.

    It names the roles of the vault's account alone, so production's administrators have no say in it.
    """
    sealing, opening = [], []
    for name, role, _ in role_names(account):
        if key_permissions("aws", role) == key_permissions("aws", WRITER):
            sealing.append(role_arn(account, name))
        if key_permissions("aws", role) == key_permissions("aws", READER):
            opening.append(role_arn(account, name))
    administrator = {"AWS": break_glass(account)}
    statements: list[Statement] = [
        {
            "Sid": "BreakGlassAdministers",
            "Effect": "Allow",
            "Principal": administrator,
            "Action": list(_KEY_ADMINISTRATION),
            "Resource": "*",
        },
        {
            "Sid": "TheReaderOpens",
            "Effect": "Allow",
            "Principal": {"AWS": opening},
            "Action": list(key_permissions("aws", READER)),
            "Resource": "*",
        },
    ]
    made = {"Sid": "BreakGlassSeals", "Effect": "Allow", "Principal": administrator}  # as `init --key` does
    statements.append({**made, "Action": list(key_permissions("aws", WRITER)), "Resource": "*"})
    others = [action for action in _KEY_USES if action not in key_permissions("aws", WRITER)]
    if sealing:
        made = {"Sid": "WritersSeal", "Effect": "Allow", "Principal": {"AWS": sealing}}
        statements.append({**made, "Action": list(key_permissions("aws", WRITER)), "Resource": "*"})
    statements += [
        _deny("NobodyTakesTheKeyAway", _KEY_FOR_NOBODY, "*"),
        _deny("OnlyTheReaderOpens", tuple(others), "*", _but(*opening)),
        _deny("OnlyBreakGlassChangesThePolicy", ("kms:PutKeyPolicy",), "*", _but(break_glass(account))),
    ]
    if account.private_network:
        uses = [*key_permissions("aws", WRITER), *key_permissions("aws", READER)]
        statements.append(_private(account, uses, "*"))
    return {"Version": _VERSION, "Statement": statements}


def organization_policy(account: Account) -> Policy:
    """The same for the root user, whom a bucket's policy does not bind: an SCP for the account."""
    bucket = f"arn:aws:s3:::{account.bucket}"
    both = [bucket, f"{bucket}/*"]
    statements = [
        _deny("NobodyWeakensLocks", _FOR_NOBODY, both),
        _deny("OnlyBreakGlassChangesTheBucket", _FOR_BREAK_GLASS, both, _but(break_glass(account))),
        _deny("NobodyOpensTheAccount", ("s3:PutAccountPublicAccessBlock",), "*", _but(break_glass(account))),
        _deny("NobodyTakesTheKeyAway", _KEY_FOR_NOBODY, "*"),
        _deny("NobodyLeaves", ("account:CloseAccount", "organizations:LeaveOrganization"), "*"),
    ]
    for statement in statements:
        del statement["Principal"]  # an SCP has none
    return {"Version": _VERSION, "Statement": statements}


def _private(account: Account, actions: str | list[str], resources: str | list[str]) -> Statement:
    """Nothing but through the named endpoints; an administrator's console is elsewhere."""
    conditions = _but(break_glass(account))
    conditions["StringNotEquals"] = {"aws:SourceVpce": list(account.private_network)}
    conditions["Bool"] = {"aws:PrincipalIsAWSService": "false"}
    made = _deny("OnlyThroughThePrivateNetwork", (), resources, conditions)
    made["Action"] = actions
    return made


def _but(*arns: str) -> dict[str, Any]:
    """Whoever is none of these. For a session, the key holds the role that was assumed."""
    unique = list(dict.fromkeys(arns))
    return {"ArnNotLike": {"aws:PrincipalArn": unique if len(unique) > 1 else unique[0]}}


def _allow(actions: tuple[str, ...], resources: list[str]) -> Statement:
    return {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources if len(resources) > 1 else resources[0],
    }


def _deny(
    sid: str, actions: tuple[str, ...], resources: str | list[str], condition: dict[str, Any] | None = None
) -> Statement:
    made: Statement = {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions) if len(actions) > 1 else "".join(actions),
        "Resource": resources,
    }
    if condition:
        made["Condition"] = condition
    return made
