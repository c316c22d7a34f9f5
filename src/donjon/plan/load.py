"""From the text of a plan file to the plan, or to everything that is wrong with it, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from donjon.core.errors import UsageError
from donjon.plan.lint import lint
from donjon.plan.model import Plan
from donjon.plan.problems import Finding, Path, Problem, shown
from donjon.plan.rules import RULES
from donjon.plan.schema import known_keys
from donjon.plan.syntax import Node, parse

#: After so many rounds of leaving out what is wrong, the rest is not looked at any more.
_ROUNDS: Final = 20
_SHOWN: Final = 60
#: What lint sees instead of a source that is not valid: one that selects nothing.
_STAND_IN: Final = {"kind": "command", "command": ["true"], "filename": "-"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a file: the plan, unless something in it is no plan, and all problems by their place."""

    plan: Plan | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Those for which the plan cannot be carried out."""
        return tuple(problem for problem in self.problems if problem.is_error)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The others."""
        return tuple(problem for problem in self.problems if not problem.is_error)


def check(text: str) -> Checked:
    """Read a plan and find all that is wrong with it. Never raises for what the text says."""
    document = parse(text)
    problems = [Problem(*place, "", said, hint, "yaml", True) for place, said, hint in document.problems]
    plan = None
    if document.root is not None:
        plan, findings = _validate(document.root)
        problems += _placed(document.root, findings)
    elif not problems:
        problems.append(Problem(1, 1, "", "is empty", "Begin with `donjon plan example`.", "yaml", True))
    if any(problem.is_error and problem.rule == "yaml" for problem in problems):
        plan = None
    return Checked(plan, tuple(sorted(set(problems))))


def load(text: str, what: str) -> Plan:
    """The plan of a text. Raises ``UsageError`` that tells everything that is wrong with ``what``."""
    checked = check(text)
    if checked.plan is None or checked.errors:
        raise UsageError(told(checked.errors, what), hint="See `donjon plan check`.")
    return checked.plan


def load_form(text: str, what: str) -> Plan:
    """The plan of a text that was right once, whatever lint says of it today. Raises ``UsageError``."""
    checked = check(text)
    if checked.plan is None:
        raise UsageError(told(checked.errors, what), hint="It was written by another version of Donjon.")
    return checked.plan


def told(problems: Iterable[Problem], what: str) -> str:
    """Problems for people, a line each and one for what to do."""
    lines = []
    for problem in problems:
        lines.append(f"{what}:{problem.text}")
        lines += [f"    {problem.hint}"] if problem.hint else []
    return "\n".join(lines)


def _validate(root: Node) -> tuple[Plan | None, list[Finding]]:
    """The plan, if all of it is valid, and what is wrong; of what is valid that also lint is told of.

    What is not valid is left out, so that the rest can be looked at in the same go. Lint is not believed
    where it speaks of what was left out.
    """
    try:
        plan = Plan.model_validate(root.plain())
        return plan, list(lint(plan))
    except ValidationError as error:
        first = error
    details = first.errors(include_url=False)
    places = [tuple(one["loc"]) for one in details]
    findings = [
        _finding(one)
        for one in details  # a list whose items are wrong also has too few that are right
        if one["type"] != "too_short" or not any(_is_below(place, one["loc"]) for place in places)
    ]
    data, wrong = root.plain(), []
    errors = first
    for _ in range(_ROUNDS):
        wrong += [tuple(details["loc"]) for details in errors.errors(include_url=False)]
        if not _leave_out(data, errors, root):
            break
        try:
            plan = Plan.model_validate(data)
        except ValidationError as error:
            errors = error
            continue
        left_out = {root.find(path)[0] for path in wrong}
        findings += [found for found in lint(plan) if not _depends(found, left_out)]
        break
    return None, findings


def _is_below(place: Path, other: Path) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _leave_out(data: Any, errors: ValidationError, root: Node) -> bool:
    """Take out of the data what is wrong with it; false if then nothing would be left."""
    paths = {_whole(details, root) for details in errors.errors(include_url=False)}
    for path in sorted(paths, key=len, reverse=True):
        if not path:
            return False
        _remove(data, path)
    return True


def _whole(details: Any, root: Node) -> Path:
    """What to leave out for an error: what misses something, and the list instead of one of its items."""
    path: Path = tuple(details["loc"])
    found = root.find(path[:-1] if details["type"] == "missing" else path)[0]
    while found and isinstance(found[-1], int):
        found = found[:-1]
    is_source = path[:1] == ("workloads",) and path[2:3] == ("source",)
    return path[:3] if is_source and len(found) < 3 else found


def _remove(data: Any, path: Path) -> None:
    for part in path[:-1]:
        data = data.get(part) if isinstance(data, dict) else None
    if not isinstance(data, dict):
        return
    data.pop(path[-1], None)
    if path[:1] == ("workloads",) and path[2:] == ("source",):
        data["source"] = _STAND_IN


def _depends(found: Finding, left_out: Iterable[Path]) -> bool:
    """Whether a finding is about something that was left out, or around it."""
    paths = [path for path in (found.path, found.needs) if path]
    return any(path[: len(gone)] == gone[: len(path)] for gone in left_out for path in paths)


def _placed(root: Node, findings: Iterable[Finding]) -> Iterator[Problem]:
    for found in findings:
        path, place = root.find(found.path, at_key=found.at_key)
        hint = found.hint or RULES[found.rule].remedy
        yield Problem(*place, shown(path), found.message, hint, found.rule, found.is_error)


def _finding(details: Any) -> Finding:
    """What pydantic found, in our words."""
    path, kind, context = tuple(details["loc"]), str(details["type"]), details.get("ctx", {})
    if path and path[-1] == "[key]":
        message = f"{path[-2]!r} cannot be a name"
        return Finding("bad-value", path[:-1], message, _NAMES, at_key=True)
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "missing":
        return Finding(
            "missing", path[:-1], f"{path[-1]} is missing", f"Add `{path[-1]}:` here.", at_key=True
        )
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        return _kind(path, details, context)
    return Finding("bad-value", path, *_words(kind, details, context))


_NAMES: Final = (
    "Use letters, digits, dots, hyphens and underscores, at most 63, beginning with a letter or digit."
)
_TYPES: Final = {
    "string_type": "has to be a text",
    "tuple_type": "has to be a list",
    "dict_type": "has to be a mapping of names",
    "model_type": "has to be a mapping",
    "model_attributes_type": "has to be a mapping",
    "too_short": "is empty",
    "string_too_short": "is empty",
}
_NUMBERS: Final = {
    "int_type",
    "int_parsing",
    "int_from_float",
    "float_type",
    "float_parsing",
    "int_parsing_size",
    "finite_number",
}
_BOUNDS: Final = {
    "greater_than_equal": ("ge", "has to be at least {}"),
    "greater_than": ("gt", "has to be more than {}"),
    "less_than_equal": ("le", "has to be at most {}"),
}


def _words(kind: str, details: Any, context: dict[str, Any]) -> tuple[str, str]:
    """A message and a hint for an error of pydantic."""
    value = str(details.get("input"))[:_SHOWN]
    if details.get("input") is None and kind in {*_TYPES, *_NUMBERS}:
        said = "has no value", "Write one, or leave the key out."
    elif kind in _TYPES:
        said = _TYPES[kind], ""
    elif kind in _NUMBERS:
        said = f"{value!r} is no number", ""
    elif kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        said = text.format(f"{context[name]:g}"), ""
    elif kind in {"bool_parsing", "bool_type"}:
        said = f"{value!r} is neither true nor false", ""
    elif kind == "literal_error":
        said = f"{value!r} is not known here", f"Use {context['expected']}."
    elif kind == "string_pattern_mismatch":
        said = f"{value!r} cannot be a name", _NAMES
    else:
        message, _, hint = str(details["msg"]).removeprefix("Value error, ").partition(". ")
        said = message, hint
    return said


def _unknown(path: Path) -> Finding:
    """A key that is not known, and the one that may be meant."""
    key, known = str(path[-1]), known_keys(path[:-1])
    near = get_close_matches(key, known, 1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Known are {', '.join(sorted(known))}." if known else ""
    return Finding("unknown-key", path, f"there is no key {key[:_SHOWN]!r} here", hint, at_key=True)


def _kind(path: Path, details: Any, context: dict[str, Any]) -> Finding:
    """A workload whose kind is missing or not known."""
    if details["type"] == "union_tag_not_found":
        return Finding("missing", path, "kind is missing", "Add `kind: tree`, or another kind.", at_key=True)
    hint = f"Known are {context['expected_tags']}."
    return Finding("bad-value", (*path, "kind"), f"{context['tag']!r} is no kind of workload", hint)
