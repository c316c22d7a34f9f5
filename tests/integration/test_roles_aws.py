"""The five roles in two accounts of AWS, as they are rendered: each does its work, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from donjon.roles.model import ROLES, Role
from donjon.roles.permissions import Grant, key_permissions, store_grants
from tests.integration.role_stage_aws import AwsStage, aws_stage
from tests.integration.role_work import Work, missing, unused


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsStage]:
    """A vault with half a year of everybody's work behind it."""
    with aws_stage(tmp_path_factory.mktemp("roles")) as made:
        Work(made).all_of_it()
        yield made


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_uses_what_it_is_granted_and_nothing_else(stage: AwsStage, role: Role) -> None:
    (writer,) = stage.account.writers
    grants = [*store_grants("aws", role, writer), Grant(key_permissions("aws", role), ())]
    assert unused(role, grants, stage.asked()) == set()
    assert missing(role, grants, stage.asked()) == set()
