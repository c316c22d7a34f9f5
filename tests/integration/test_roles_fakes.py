"""The five roles in Azure and Google Cloud, as they are rendered and as our fakes judge them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from donjon.roles.model import ROLES, Role
from donjon.roles.permissions import store_grants
from tests.integration.role_stage_fakes import FakeStage, azure_stage, gcp_stage
from tests.integration.role_work import Work, missing, unused


@pytest.fixture(scope="module", params=[azure_stage, gcp_stage], ids=["azure", "gcp"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStage]:
    """A vault with half a year of everybody's work behind it."""
    with request.param(tmp_path_factory.mktemp("roles")) as made:
        Work(made, is_thorough=False).all_of_it()
        yield made


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_uses_what_it_is_granted_and_nothing_else(stage: FakeStage, role: Role) -> None:
    (writer,) = stage.account.writers
    grants = store_grants(stage.cloud, role, writer)
    assert unused(role, grants, stage.asked()) == set()
    assert missing(role, grants, stage.asked()) == set()
