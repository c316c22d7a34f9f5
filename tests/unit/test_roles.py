"""The roles, what follows from them, and what is rendered, without any server."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from donjon.core.errors import UsageError
from donjon.format import names
from donjon.roles import aws_policies, azure_deny, azure_policies, gcp_policies
from donjon.roles.account import Account
from donjon.roles.hcl import Json, Raw, block, write
from donjon.roles.model import AUDITOR, CUSTODIAN, READER, REAPER, ROLES, WRITER, Role
from donjon.roles.permissions import KEYS, STORES, key_permissions, store_grants
from donjon.roles.render import RENDERERS, render
from donjon.roles.skips import SKIPPED
from donjon.testing.azure import roles as azure_roles
from donjon.testing.callers import Ask
from donjon.testing.google import roles as gcp_roles
from tests.rendered import OTHER, WRITER_ID, account, first, private

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"


def _permissions(cloud: str, role: Role) -> set[str]:
    return {permission for grant in store_grants(cloud, role) for permission in grant.permissions}


@pytest.mark.parametrize("cloud", STORES)
def test_only_the_reader_opens_and_only_a_writer_seals(cloud: str) -> None:
    if cloud not in KEYS:
        return
    opening = [role.name for role in ROLES if set(key_permissions(cloud, role)) & set(KEYS[cloud]["open"])]
    sealing = [role.name for role in ROLES if set(key_permissions(cloud, role)) & set(KEYS[cloud]["seal"])]
    assert (sealing, opening) == ([WRITER.name], [READER.name])


def test_only_the_reaper_deletes() -> None:
    for cloud, word in (("aws", "Delete"), ("azure", "delete"), ("gcp", "delete")):
        deleting = {role.name for role in ROLES if any(word in p for p in _permissions(cloud, role))}
        assert deleting == {REAPER.name}


def test_the_auditor_and_the_reader_change_nothing() -> None:
    changes = re.compile(r"put|create|delete|update|set|add/|immutable|bypass|override", re.IGNORECASE)
    for cloud in STORES:
        for role in (AUDITOR, READER):
            grants = [(p, g.objects) for g in store_grants(cloud, role) for p in g.permissions]
            changing = {objects for permission, objects in grants if changes.search(permission)}
            assert changing == ({(f"{names.EVIDENCE}*",)} if role is AUDITOR else set())


def test_no_role_has_what_weakens_locks() -> None:
    weak = {
        "s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:PutObjectLegalHold", "s3:PutBucketPolicy",
        "storage.objects.overrideUnlockedRetention", "storage.buckets.update", f"{_BLOBS}/write",
    }  # fmt: skip
    for cloud in STORES:
        for role in ROLES:
            assert not _permissions(cloud, role) & weak


def test_a_writer_has_folders_of_its_own() -> None:
    grants = store_grants("aws", WRITER, WRITER_ID)
    objects = {name for grant in grants for name in grant.objects}
    shared = {names.VAULT, f"{names.KEYRING}*", f"{names.EPOCHS}*", f"{names.PACKS}*"}
    assert all(WRITER_ID in name for name in objects - shared)
    reading = [grant.objects for grant in grants if "s3:GetObject" in grant.permissions]
    assert f"{names.PACKS}*" not in {name for objects in reading for name in objects}


@pytest.mark.parametrize(("cloud", "form"), RENDERERS)
def test_what_is_rendered_is_the_same_every_time(cloud: str, form: str) -> None:
    assert render(cloud, form, account(cloud)) == render(cloud, form, account(cloud))
    if form in {"json", "cloudformation"}:
        json.loads(render(cloud, form, account(cloud)))


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_the_private_network_changes_every_format(cloud: str) -> None:
    for known, form in RENDERERS:
        if known == cloud and (cloud, form) != ("gcp", "json"):
            assert private(cloud).private_network[0] in render(cloud, form, private(cloud))


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    with pytest.raises(UsageError) as caught:
        render("aws", "bicep", account("aws"))
    assert "azure bicep" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("cloud", "changes", "said"),
    [
        ("aws", {"owner": "12"}, "--account 12: is not right"),
        ("aws", {"external_id": ""}, "--external-id is missing"),
        ("aws", {"production": "222222222222"}, "production's account is to be neither"),
        ("aws", {"operators": "111111111111"}, "production's account is to be neither"),
        ("aws", {"allow_ip": ("10.0.0.0/8",)}, "--allow-ip means nothing for --cloud aws"),
        ("azure", {"owner": "x"}, "--account x: is not right"),
        ("azure", {"principals": ()}, f"the writer {WRITER_ID} has no identity"),
        ("azure", {"production": "111111111111"}, "--production-account means nothing"),
        ("azure", {"managed_hsm": "x y"}, "--managed-hsm x y: is not right"),
        ("azure", {"managed_hsm": "acme-hsm", "key": False}, "--managed-hsm and --no-kms"),
        ("azure", {"break_glass": "somebody"}, "--break-glass somebody: is not right"),
        ("gcp", {"managed_hsm": "acme-hsm"}, "--managed-hsm means nothing"),
        ("gcp", {"allow_ip": ("203.0.113.0/24",)}, "--allow-ip means nothing"),
        ("gcp", {"principals": ((WRITER_ID, "nobody"),)}, "--principal nobody: is not right"),
        ("gcp", {"break_glass": ""}, "--break-glass is missing"),
        ("azure", {"bucket": "with.dots"}, "--bucket with.dots: is not right"),
        ("gcp", {"private_network": ("vpc",)}, "--private-network vpc: is not right"),
        ("s3", {"owner": "222222222222"}, "--account means nothing for --cloud s3"),
        ("openbao", {"writers": (WRITER_ID,)}, "--writer means nothing for --cloud openbao"),
    ],
)
def test_a_cloud_gets_what_it_needs_and_nothing_that_it_ignores(
    cloud: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        render(cloud, "hcl" if cloud == "openbao" else "json", replace(account(cloud), **changes))
    assert said in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": "No Bucket"},
        {"bucket": 'a"b'},
        {"prefix": "../up"},
        {"prefix": 'x" OR 1'},
        {"writers": ("AB" * 16,)},
        {"writers": ("*",)},
        {"external_id": "short"},
        {"external_id": 'a"; drop it'},
        {"min_retention": 1},
        {"min_retention": 40, "max_retention": 32},
        {"allow_ip": ("999.1.1.1",)},
        {"name": "x" * 30},
    ],
)
def test_a_value_that_cannot_be_one_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not right"):
        replace(account("aws"), **changes)


def test_one_identity_has_one_role() -> None:
    made = account("gcp")
    twice = (*made.principals[:-1], ("auditor", made.principals[1][1]))
    with pytest.raises(UsageError, match="two roles"):
        render("gcp", "json", replace(made, principals=twice))


# --- AWS --------------------------------------------------------------------------------------------


def _denied(policy: dict[str, Any], action: str) -> list[dict[str, Any]]:
    found = []
    for statement in policy["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        if statement["Effect"] == "Deny" and action in actions:
            found.append(statement.get("Condition", {}))
    return found


@pytest.mark.parametrize(
    "action",
    [
        "s3:BypassGovernanceRetention",
        "s3:PutBucketObjectLockConfiguration",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "s3:PutReplicationConfiguration",
        "s3:UpdateObjectEncryption",
        "s3:DeleteBucket",
    ],
)
def test_nobody_weakens_locks_whoever_it_is(action: str) -> None:
    assert {} in _denied(aws_policies.bucket_policy(account("aws")), action)
    assert {} in _denied(aws_policies.organization_policy(account("aws")), action)


def test_a_lock_has_a_cap_a_floor_and_one_mode_and_a_put_a_new_name() -> None:
    conditions = _denied(aws_policies.bucket_policy(account("aws")), "s3:PutObject")
    days = "s3:object-lock-remaining-retention-days"
    assert {"NumericGreaterThan": {days: "32"}} in conditions
    assert {"NumericLessThan": {days: "29"}} in conditions
    assert {"StringEquals": {"s3:object-lock-mode": "GOVERNANCE"}} in conditions
    assert {"Null": {"s3:if-none-match": "true"}} in conditions
    assert {"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}} in conditions


def test_every_action_of_a_statement_fits_its_resources() -> None:
    """S3 refuses a policy of a bucket with an action that none of the resources of its statement has."""
    of_objects = re.compile(r"s3:(\w*Object(?!Lock)\w*|BypassGovernanceRetention|ReplicateDelete|\*)$")
    for made in (account("aws"), private("aws")):
        for policy in (aws_policies.bucket_policy(made), aws_policies.log_bucket_policy(made)):
            for statement in policy["Statement"]:
                actions, where = statement["Action"], statement["Resource"]
                places = {"/" in place for place in (where if isinstance(where, list) else [where])}
                for action in actions if isinstance(actions, list) else [actions]:
                    assert bool(of_objects.match(action)) in places or action == "s3:*", action


def test_a_policy_of_a_bucket_stays_below_its_limit() -> None:
    many = replace(account("aws"), writers=tuple(f"{number:032x}" for number in range(300)))
    text = json.dumps(aws_policies.bucket_policy(many), separators=(",", ":"))
    assert len(text) < 20_480  # docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html


def test_a_policy_of_the_organization_stays_below_its_limit() -> None:
    text = json.dumps(aws_policies.organization_policy(account("aws")), separators=(",", ":"))
    assert len(text) < 5120  # docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html


def test_the_policy_of_the_bucket_comes_after_what_it_forbids() -> None:
    text = render("aws", "terraform", account("aws"))
    policy = text[text.index('resource "aws_s3_bucket_policy" "vault"') :]
    assert "aws_s3_bucket_versioning.vault," in policy[: policy.index("\n}\n")]


def test_azure_locks_the_default_retention_once_there_are_writers() -> None:
    made = account("azure")
    first = replace(made, writers=(), principals=made.principals[1:])
    for form, words in (("bicep", "state: '{}'"), ("terraform", 'state                         = "{}"')):
        assert words.format("Unlocked") in render("azure", form, first)
        assert words.format("Locked") in render("azure", form, made)


def test_operators_of_another_account_present_the_external_id_too() -> None:
    there = replace(account("aws"), operators="333333333333")
    (statement,) = aws_policies.trust_policy(there, READER)["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::333333333333:root"}
    assert statement["Condition"] == {
        "StringEquals": {"sts:ExternalId": there.external_id},
        "Bool": {"aws:MultiFactorAuthPresent": "true"},
    }
    (statement,) = aws_policies.trust_policy(account("aws"), CUSTODIAN)["Statement"]
    assert "Condition" not in statement


# --- Azure and Google Cloud, as our fakes read what is rendered ----------------------------------------


def _callers(cloud: str) -> dict[str, Any]:
    made = account(cloud)
    rendered = json.loads(render(cloud, "json", made))
    told = dict(made.principals)
    if cloud == "azure":
        return {who: azure_roles.caller_of(rendered, who, told[who]) for who in told}
    return {who: gcp_roles.caller_of(rendered, who, told[who], made.bucket) for who in told}


@pytest.mark.parametrize("cloud", ["azure", "gcp"])
def test_a_condition_confines_a_writer_to_its_own(cloud: str) -> None:
    caller = _callers(cloud)[WRITER_ID]
    put = "storage.objects.create" if cloud == "gcp" else f"{_BLOBS}/add/action"
    get = "storage.objects.get" if cloud == "gcp" else f"{_BLOBS}/read"
    own, others = f"prod/manifests/{WRITER_ID}/00000001", f"prod/manifests/{OTHER}/00000001"
    assert caller.may(Ask(put, own))
    assert caller.may(Ask(put, "prod/packs/aa/bb"))
    for name in (others, "prod/keyring/00000002", "prod/vault", "other/packs/aa/bb", "packs/aa/bb"):
        assert not caller.may(Ask(put, name)), name
    assert caller.may(Ask(get, own))
    assert caller.may(Ask(get, "prod/vault"))
    for name in (others, "prod/packs/aa/bb", "prod/vaults"):
        assert not caller.may(Ask(get, name)), name
    listing = "storage.objects.list" if cloud == "gcp" else get
    assert not caller.may(Ask(listing, is_listing=True, prefix="prod/"))


def test_a_listing_on_azure_stays_within_the_prefix() -> None:
    for who, caller in _callers("azure").items():
        listing = [
            caller.may(Ask(f"{_BLOBS}/read", is_listing=True, prefix=p)) for p in ("prod/packs/", "", "x/")
        ]
        assert listing == [who != WRITER_ID, False, False]


def test_a_condition_that_the_fake_does_not_know_is_an_error() -> None:
    ask = Ask("x", "name")
    for text in (
        "@Resource[a:metadata] StringLike 'x'",
        "true",
        "(ActionMatches{'x'}",
        "ActionMatches{'x'} 1",
    ):
        with pytest.raises((ValueError, IndexError, KeyError)):
            azure_roles.holds(text, ask)
    with pytest.raises(ValueError, match="endsWith"):
        gcp_roles.holds('resource.name.endsWith("x")', "y")


def test_without_a_prefix_nothing_is_confined_but_what_roles_confine() -> None:
    bare = replace(account("azure"), prefix="")
    assert azure_policies.condition_of(bare, store_grants("azure", READER)) == ""
    assert "sessions/" in azure_policies.condition_of(bare, store_grants("azure", WRITER, WRITER_ID))
    assert all(
        not b.condition
        for b in gcp_policies.bindings(replace(account("gcp"), prefix=""))
        if b.symbol.startswith("reader")
    )


def test_the_key_of_a_managed_hsm_has_its_own_roles_and_no_key_vault_is_made() -> None:
    made = replace(account("azure"), managed_hsm="acme-hsm")
    arm = json.loads(render("azure", "json", made))
    kinds = {resource["type"] for resource in arm["resources"]}
    assert not any(kind.startswith("Microsoft.KeyVault") for kind in kinds)
    lines = arm["metadata"]["commands"]
    assert [line.split(" --")[0] for line in lines] == [
        "az stack group create", "az keyvault key create", *["az keyvault role definition create"] * 2,
        *["az keyvault role assignment create"] * 2,
    ]  # fmt: skip
    assert [f"// {line}" for line in lines] == render("azure", "bicep", made).splitlines()[1 : len(lines) + 1]
    told = [json.loads(line.partition("--role-definition '")[2][:-1]) for line in lines[2:4]]
    assert {one["roleName"].split()[1]: one["dataActions"] for one in told} == {
        "sealer": ["Microsoft.KeyVault/managedHsm/keys/wrap/action"],
        "opener": ["Microsoft.KeyVault/managedHsm/keys/unwrap/action"],
    }
    writer, reader = (dict(made.principals)[who] for who in (WRITER_ID, "reader"))
    for line, principal, role in zip(lines[4:], (writer, reader), ("sealer", "opener"), strict=True):
        assert f"--scope /keys/donjon --assignee-object-id {principal} " in line
        assert f"donjon {role} of" in line
    terraform = render("azure", "terraform", made)
    assert terraform.count("managed_hardware_security_module_role_assignment") == 2
    assert 'key_type       = "oct-HSM"' in terraform
    assert '"azurerm_key_vault"' not in terraform
    assert "/keys/donjon" not in render("azure", "terraform", account("azure"))


def test_a_stack_denies_and_spares_whom_it_is_told_to() -> None:
    spared = "00000099-0000-0000-0000-000000000000"
    line = json.loads(render("azure", "json", first("azure")))["metadata"]["commands"][0]
    assert f"--deny-settings-excluded-principals {spared}" in line
    assert "--deny-settings-mode denyWriteAndDelete --deny-settings-apply-to-child-scopes" in line
    bare = json.loads(render("azure", "json", account("azure")))["metadata"]["commands"]
    assert len(bare) == 1
    assert "excluded" not in bare[0]


def test_the_policy_denies_each_weakening_of_what_is_rendered() -> None:
    """Judged by the language of Azure Policy, as far as the rule uses it: what is made passes, and what has
    any one property changed does not.
    """
    template = json.loads(render("azure", "json", account("azure")))
    rule = azure_deny.rule()
    assert rule["then"] == {"effect": "deny"}
    kinds = {"Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults"}
    (storage, keys) = (one for one in template["resources"] if one["type"] in kinds)
    for made in (storage, keys):
        assert not _denies(rule["if"], made)
    weaker: list[tuple[dict[str, Any], str, object]] = [
        (storage, "allowSharedKeyAccess", True), (storage, "allowBlobPublicAccess", True),
        (storage, "supportsHttpsTrafficOnly", False), (storage, "networkAcls", {"defaultAction": "Allow"}),
        (keys, "enableSoftDelete", False), (keys, "enablePurgeProtection", None),
        (keys, "enableRbacAuthorization", False),
    ]  # fmt: skip
    for made, name, value in weaker:
        assert _denies(rule["if"], made | {"properties": made["properties"] | {name: value}}), name


def _denies(condition: dict[str, Any], made: dict[str, Any]) -> bool:
    if "anyOf" in condition:
        return any(_denies(one, made) for one in condition["anyOf"])
    if "allOf" in condition:
        return all(_denies(one, made) for one in condition["allOf"])
    seen: Any = made["type"] if condition["field"] == "type" else made["properties"]
    if condition["field"] != "type":
        for part in condition["field"].removeprefix(f"{made['type']}/").split("."):
            seen = seen.get(part) if isinstance(seen, dict) else None
    text = str(seen).lower()
    if "equals" in condition:
        return bool(text == condition["equals"].lower())
    return bool(text != condition["notEquals"].lower())


def test_a_perimeter_is_tried_before_it_is_enforced_and_lets_the_named_networks_in() -> None:
    tried, enforced = render("gcp", "terraform", first("gcp")), render("gcp", "terraform", private("gcp"))
    assert re.search(r"use_explicit_dry_run_spec = true\n\s+spec {", tried)
    assert "status {" not in tried
    assert re.search(r"use_explicit_dry_run_spec = false\n\s+status {", enforced)
    assert "spec {" not in enforced
    level = "google_access_context_manager_access_level"
    assert f'resource "{level}" "donjon_1"' in tried
    assert f"access_level = {level}.donjon_1.name" in tried
    assert 'ip_subnetworks = ["203.0.113.0/24"]' in tried
    for service in ("storage", "cloudkms"):
        assert f'service_name = "{service}.googleapis.com"' in tried
    assert level not in enforced  # nobody from outside


# --- the language of Terraform -------------------------------------------------------------------------


def test_what_is_no_expression_stays_text() -> None:
    text = write("head", [block("a", "b", c='${d} %{e} "f" \\', g=Raw("h.i"), j=Json({"k-l": [1, "m"]}))])
    assert text == (
        '# head\n\na "b" {\n  c = "$${d} %%{e} \\"f\\" \\\\"\n  g = h.i\n'
        '  j = jsonencode({\n    k-l = [\n      1,\n      "m",\n    ]\n  })\n}\n'
    )


def test_a_skip_stands_in_its_block_with_its_reason() -> None:
    text = write("head", [block("a", skips=["CKV_AWS_18"])])
    assert f"  # checkov:skip=CKV_AWS_18:{SKIPPED['CKV_AWS_18']}\n" in text


def test_no_account_is_made_of_nothing() -> None:
    with pytest.raises(UsageError):
        Account(bucket="", min_retention=0)
