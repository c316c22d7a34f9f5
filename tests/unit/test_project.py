"""The project's own papers agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from donjon.version import __version__
from tools.links import broken_links, documents

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked_versions() -> dict[str, str]:
    lock = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", lock, re.MULTILINE))


def normalised(requirement: str) -> str:
    name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    found = project()
    extras = found["project"]["optional-dependencies"]
    groups = found["dependency-groups"]
    lists = [found["project"]["dependencies"], *extras.values(), *groups.values()]
    texts = [item for items in lists for item in items if isinstance(item, str)]
    return sorted({normalised(text) for text in texts} - {"donjon"})


def test_the_lock_names_no_registry() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        code = line.split(" #")[0].strip()
        assert "://" not in line
        assert not re.match(r"-(i|f|-index-url|-extra-index-url|-find-links|-trusted-host)\b", code)
        assert " @ " not in code


def test_the_lock_holds_every_requirement_with_hashes() -> None:
    locked = locked_versions()
    assert [name for name in wanted() if name not in locked] == []
    blocks = re.split(r"^(?=[a-z0-9-]+==)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert [block.split("\n")[0] for block in blocks[1:] if "--hash=sha256:" not in block] == []


def test_the_lock_agrees_with_exact_pins() -> None:
    groups = project()["dependency-groups"]
    pins = [item for items in groups.values() for item in items if isinstance(item, str) and "==" in item]
    pins += project()["build-system"]["requires"]
    locked = locked_versions()
    for pin in pins:
        name, version = pin.split("==")
        assert locked[normalised(name)] == version


def test_the_changelog_tells_of_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = ".dev" not in __version__
    assert not released or __version__ in headings


def test_no_link_between_the_documents_is_broken() -> None:
    assert [problem for document in documents() for problem in broken_links(document)] == []
