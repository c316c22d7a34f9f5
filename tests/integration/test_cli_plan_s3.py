"""`donjon plan check --online` before a real server that enforces the policies of the roles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from donjon.testing.aws.seaweedfs import SeaweedFs
from tests.integration.cli import Donjon
from tests.integration.s3_roles import As, Roles

PLAN = """\
version: 1
name: test
sites:
  here: {{provider: on-premises, account: a, region: b}}
  there: {{provider: aws, account: "1", region: d}}
vaults:
  main: {{url: "{url}", site: there, retention_cap: 30d}}
workloads:
  files: {{site: here, vault: main, verify: {{every: 7d}}, source: {{kind: tree, paths: [{source}]}}}}
"""


@pytest.fixture
def roles(s3_server: SeaweedFs, host: Donjon) -> Roles:
    return Roles.make(s3_server, host)


def seen(host: As, plan: Path, code: int) -> dict[str, bool | None]:
    found = host.json("plan", "check", plan, "--online", code=code)["online"]
    return {one["what"].partition(":")[0]: one["good"] for one in found if one["path"] == "vaults.main"}


def test_a_writer_may_put_and_sees_no_settings_and_others_may_not_put(roles: Roles, tmp_path: Path) -> None:
    source, plan = tmp_path / "source", tmp_path / "plan.yaml"
    source.mkdir()
    plan.write_text(PLAN.format(url=roles.url, source=source))
    writer = roles.writer("web")
    writer.run("backup", source, "--vault", roles.url)
    before = roles.server.client().list_object_versions(Bucket=roles.bucket)["Versions"]

    found = seen(writer, plan, code=0)
    assert found["the store lets it put objects"] is True
    settings = "this host may not look at the settings of the bucket, which is as it should be"
    assert found[settings] is None

    auditor = replace(writer, user=roles.user("auditor"))
    assert seen(auditor, plan, code=4)["the store does not let it put objects"] is False
    after = roles.server.client().list_object_versions(Bucket=roles.bucket)["Versions"]
    assert [(one["Key"], one["ETag"]) for one in after] == [(one["Key"], one["ETag"]) for one in before]


def test_a_plan_that_promises_longer_locks_than_the_bucket_takes_is_found(
    roles: Roles, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.format(url=roles.url, source=tmp_path))
    client = roles.server.client()
    client.put_object_lock_configuration(
        Bucket=roles.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}},
        },
    )
    found = roles.admin.json("plan", "check", plan, "--online", code=4)["online"]
    wrong = [one for one in found if one["good"] is False]
    assert any("GOVERNANCE" in one["what"] and one["hint"] for one in wrong)
