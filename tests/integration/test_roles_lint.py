"""cfn-lint and checkov find nothing in what is rendered, but what is skipped with its reason beside it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from donjon.roles.account import Account
from donjon.roles.render import render
from donjon.roles.skips import SKIPPED
from tests.rendered import account, first, private

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
#: (cloud, format) and the ending that checkov tells it by.
CHECKED = {
    ("aws", "cloudformation"): "json",
    ("aws", "terraform"): "tf",
    ("azure", "bicep"): "bicep",
    ("azure", "json"): "json",
    ("azure", "terraform"): "tf",
    ("gcp", "terraform"): "tf",
}
VARIANTS: Mapping[str, Callable[[str], Account]] = {"open": account, "private": private, "first": first}
#: Where something is wrong on purpose.
WRONG = "/wrong/"
FRAMEWORKS = ("cloudformation", "terraform", "bicep", "arm")


def tool(name: str) -> Path:
    """A tool that is installed for the tests; it is no reason to skip that one is missing."""
    path = TOOLS / name / "bin" / name
    assert path.exists(), f"install it with: tools/side-venv.sh python3 {name}"
    return path


def checkov(folder: Path) -> list[dict[str, Any]]:
    """The results of each framework."""
    command = [str(tool("checkov")), "-d", str(folder), "--framework", *FRAMEWORKS]
    options = ["--skip-download", "-o", "json"]
    done = subprocess.run(command + options, capture_output=True, timeout=300, check=False)
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


def cfn_lint(*files: Path) -> subprocess.CompletedProcess[bytes]:
    command: list[str | Path] = [tool("cfn-lint"), "--format", "json", *files]
    return subprocess.run(command, capture_output=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What checkov says of everything, each in a folder of its own; it is slow to start."""
    folder = tmp_path_factory.mktemp("rendered")
    for (cloud, form), ending in CHECKED.items():
        for variant, make in VARIANTS.items():
            place = folder / f"{cloud}-{form}-{variant}"
            place.mkdir()
            (place / f"vault.{ending}").write_text(render(cloud, form, make(cloud)), encoding="utf-8")
    wrong = render("aws", "cloudformation", account("aws"))
    (folder / WRONG.strip("/")).mkdir()
    file = folder / WRONG.strip("/") / "vault.json"
    file.write_text(wrong.replace('"BlockPublicAcls": true', '"BlockPublicAcls": false'))
    return checkov(folder)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("cloud", "form"), CHECKED)
def test_checkov_finds_nothing(found: list[dict[str, Any]], cloud: str, form: str, variant: str) -> None:
    place = f"/{cloud}-{form}-{variant}/"

    def checks(kind: str) -> list[dict[str, Any]]:
        every = [check for part in found for check in part["results"][kind]]
        return [check for check in every if check["file_path"].startswith(place)]

    assert [(check["check_id"], check["resource"]) for check in checks("failed_checks")] == []
    assert [file for part in found for file in part["results"]["parsing_errors"]] == []
    assert len(checks("passed_checks")) >= 12
    skipped = {check["check_id"]: check["check_result"] for check in checks("skipped_checks")}
    for rule, result in skipped.items():
        assert SKIPPED[rule] == result["suppress_comment"]
    text = render(cloud, form, VARIANTS[variant](cloud))
    assert {rule for rule in SKIPPED if f'"{rule}"' in text or f"{rule}:" in text} == set(skipped)


def test_every_rule_that_is_skipped_is_skipped_somewhere(found: list[dict[str, Any]]) -> None:
    skipped = {check["check_id"] for part in found for check in part["results"]["skipped_checks"]}
    assert skipped == set(SKIPPED)


def test_cfn_lint_finds_nothing_but_what_is_wrong(tmp_path: Path) -> None:
    """All at once, for it is slow to start."""
    files = []
    for variant, make in VARIANTS.items():
        text = render("aws", "cloudformation", make("aws"))
        files.append(tmp_path / f"{variant}.json")
        files[-1].write_text(text)
    files.append(tmp_path / "wrong.json")
    files[-1].write_text(text.replace("VersioningConfiguration", "Versions"))
    done = cfn_lint(*files)
    assert done.returncode != 0
    assert {Path(one["Filename"]).name for one in json.loads(done.stdout)} == {"wrong.json"}


def test_checkov_would_find_what_is_wrong(found: list[dict[str, Any]]) -> None:
    failed = [check for part in found for check in part["results"]["failed_checks"]]
    assert {check["check_id"] for check in failed if check["file_path"].startswith(WRONG)} == {"CKV_AWS_53"}
