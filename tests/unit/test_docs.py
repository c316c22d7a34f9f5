"""What the documents tell people to type exists, and what is generated is up to date."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from typer import Context, TyperException
from typer.core import TyperCommand, TyperGroup

from donjon.cli.commands import application
from donjon.core import errors
from donjon.plan.schema import schema, schema_text
from tools import plan_reference, reference, role_tables
from tools.links import ROOT, broken_links, documents

README_LINES = 90
FIRST_LINES = {"donjon recovery kit v1", "donjon recovery share v1"}
WRITTEN = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("guide*.md")),
    ROOT / "docs/roles.md",
    ROOT / "docs/plan.md",
]
_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(donjon [^`\n{]+)`")


@cache
def command_line() -> TyperGroup:
    return cast("TyperGroup", application())


def leaves(group: TyperGroup) -> list[TyperCommand]:
    return [command for _, command in reference.commands(group, Context(group, info_name="donjon"))]


def resolve(arguments: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that the first words name, and what is left of them. Raises ``TyperException``."""
    command: TyperCommand | TyperGroup = command_line()
    left = arguments
    while isinstance(command, TyperGroup) and left and not left[0].startswith("-"):
        name, found, left = command.resolve_command(Context(command, info_name="donjon"), left)
        assert name is not None
        command = cast("TyperCommand | TyperGroup", found)
    return command, left


def parse(arguments: list[str]) -> None:
    """Take the arguments as the command would, without running it. Raises ``TyperException``."""
    command, left = resolve(arguments)
    if arguments != ["--version"]:
        command.make_context("donjon", list(left))


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of every call of `donjon` in lines of a shell, a crontab or a systemd unit."""
    for line in text.replace("\\\n", " ").splitlines():
        if "donjon" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                yield from _call(words)
                words = []
            else:
                words.append(word)


def _call(words: list[str]) -> Iterator[list[str]]:
    for place, word in enumerate(words):
        if word == "donjon" or word.endswith(("/donjon", "=donjon")):
            if words[place + 1 :]:
                yield words[place + 1 :]
            return


def examples() -> list[tuple[str, str]]:
    """(where, text) of all that shows commands: code blocks of the documents, examples of the commands."""
    found = []
    for path in WRITTEN:
        for block in _FENCED.findall(path.read_text(encoding="utf-8")):
            found.append((path.name, block))
    for command in leaves(command_line()):
        lines = (command.epilog or "").splitlines()
        shown = [re.split(r"\s{2,}", line.strip())[0] for line in lines if line.startswith("  donjon ")]
        found.append((f"donjon {command.name}", "\n".join(shown)))
    return found


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert reference.PATH.read_text(encoding="utf-8") == reference.render(), "run `make docs`"


def test_the_tables_of_the_roles_are_up_to_date() -> None:
    text = role_tables.PATH.read_text(encoding="utf-8")
    assert text == role_tables.filled(text), "run `make docs`"


def test_the_reference_of_plans_and_their_schema_are_up_to_date() -> None:
    text = plan_reference.PATH.read_text(encoding="utf-8")
    assert text == plan_reference.filled(text), "run `make docs`"
    written = plan_reference.SCHEMA_PATH.read_text(encoding="utf-8")
    assert written == schema_text(), "run `make docs`"


def test_every_key_of_a_plan_is_in_its_reference_with_its_meaning() -> None:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| ([^|]+) \|[^|]*\| (.*) \|$", plan_reference.reference(), re.MULTILINE
    )
    keys = {key for key, _, _ in rows}
    for model in schema()["$defs"].values():
        assert set(model["properties"]) <= keys
    assert [key for key, kind, meaning in rows if not meaning and not kind.startswith("`")] == []


def test_every_command_that_is_shown_is_accepted() -> None:
    seen, refused = 0, []
    for where, text in examples():
        for arguments in calls(text):
            seen += 1
            try:
                parse(arguments)
            except TyperException as error:
                refused.append(f"{where}: donjon {' '.join(arguments)}: {error.format_message()}")
    assert refused == []
    assert seen > 60


@pytest.mark.parametrize("line", ["donjon backup --no-such /etc", "a | donjon nothing", "x=donjon restore"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    (arguments,) = calls(line)
    with pytest.raises(TyperException):
        parse(arguments)


def mentions() -> list[tuple[str, str]]:
    """(where, command) of all commands in backquotes, in documents and in what the program says."""
    places = [*documents(), *(ROOT / "src").rglob("*.py")]
    return [
        (str(path.relative_to(ROOT)), text)
        for path in places
        if path != reference.PATH
        for text in _INLINE.findall(path.read_text(encoding="utf-8"))
    ]


def test_every_command_that_is_mentioned_exists_with_its_options() -> None:
    wrong = []
    for where, text in mentions():
        arguments = text.split()[1:]
        if text in FIRST_LINES or arguments[0].startswith("-") or arguments[0].isupper():
            continue
        try:
            command, left = resolve(arguments)
        except TyperException as error:
            wrong.append(f"{where}: {text}: {error.format_message()}")
            continue
        known = {name for param in command.params for name in param.opts} | {"--help"}
        wrong += [f"{where}: {text}: no {word}" for word in left if word[0] == "-" and word not in known]
    assert wrong == []


def test_every_command_has_examples_and_tells_the_shape_of_its_json() -> None:
    for command in leaves(command_line()):
        assert "Examples:" in (command.epilog or ""), command.name
        takes_json = any("--json" in param.opts for param in command.params)
        assert takes_json == ("JSON" in (command.epilog or "")), command.name


def test_the_examples_of_commands_keep_their_lines() -> None:
    for command in leaves(command_line()):
        for paragraph in (command.epilog or "").split("\n\n"):
            assert "\\b" not in paragraph, command.name
            if "Examples:" in paragraph or "JSON" in paragraph:
                assert paragraph.startswith("\b\n"), command.name


def test_every_exit_code_of_an_error_is_documented() -> None:
    raised = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DonjonError)
    }
    assert raised < set(reference.EXIT_CODES)


def test_every_variable_that_is_read_is_documented_and_none_else() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/donjon").rglob("*.py"))
    assert set(re.findall(r"\"(DONJON_[A-Z0-9_]+)\"", sources)) == set(reference.ENVIRONMENT)


def test_the_readme_stays_within_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_the_index_of_the_documents_leads_to_every_document() -> None:
    folder = ROOT / "docs"
    index = (folder / "README.md").read_text(encoding="utf-8")
    linked = {(folder / link).resolve() for link in re.findall(r"\]\(([^)#:]+)\)", index)}
    records = folder / "adr"
    there = {path for path in folder.rglob("*.md") if path.parent != records} | {records / "README.md"}
    assert there - {folder / "README.md"} - linked == set()


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One\n[a](#two) [b](b.md) [c](#one) [d](a.md#one) [e](https://example.org)\n")
    found = [line.rpartition(": ")[2] for line in broken_links(document)]
    assert found == ["no such heading", "no such file"]


def test_the_cases_of_a_table_do_not_break_at_the_signs_of_a_choice() -> None:
    rows = [line for line in reference.render().splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
