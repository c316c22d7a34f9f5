"""Write the parts of docs/plan.md that follow from the models: the reference, the example, the findings."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from donjon.plan.rules import RULES
from donjon.plan.schema import resolved, schema, schema_text
from donjon.plan.values import DURATION_PATTERN
from tools.links import ROOT

PATH: Final = ROOT / "docs/plan.md"
SCHEMA_PATH: Final = ROOT / "docs/reference/donjon.schema.json"
EXAMPLE_PATH: Final = ROOT / "src/donjon/plan/example.yaml"
_PLACE: Final = r"<!-- made: {name} -->\n.*?<!-- end -->"

_SCALARS: Final = {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}

#: Heading, model, and where its mappings stand in a plan.
_MODELS: Final = (
    ("The whole file", None, ""),
    ("Credentials", "Credential", "`credentials: NAME:`"),
    ("Sites", "Site", "`sites: NAME:`"),
    ("Vaults", "Vault", "`vaults: NAME:`"),
    ("Rules", "Rules", "`defaults:` and each of `workloads: NAME:`"),
    ("Workloads", "Protected", "`workloads: NAME:`, besides the rules"),
    ("Schedules", "Schedule", "`schedule:`"),
    ("Windows", "Window", "`schedule: window:`"),
    ("Retention", "Retention", "`retention:`"),
    ("Snapshots", "SnapshotPolicy", "`snapshots:`"),
    ("Hooks", "Hooks", "`hooks:`"),
    ("Limits", "Limits", "`limits:`"),
    ("Verification", "Verification", "`verify:`"),
)


def reference() -> str:
    """Every key of a plan."""
    whole = schema()
    kinds = resolved(whole, whole["$defs"]["Protected"]["properties"]["source"])["discriminator"]["mapping"]
    sections = [_section(whole, heading, name, where) for heading, name, where in _MODELS]
    sections += [
        _section(whole, f"kind: {kind}", target.rpartition("/")[2], "`source:`")
        for kind, target in kinds.items()
    ]
    return "\n\n".join(sections)


def _section(whole: dict[str, Any], heading: str, name: str | None, where: str) -> str:
    model = whole["$defs"][name] if name else whole
    known = whole["$defs"]["Rules"]["properties"] if name == "Protected" else {}
    rows = [_row(whole, model, key, part) for key, part in model["properties"].items() if key not in known]
    table = "\n".join(["| key | value | default | |", "|---|---|---|---|", *rows])
    about = "" if name is None else _cell(model.get("description", ""))
    return "\n\n".join(
        part for part in (f"### {heading}", about, f"At {where}." if where else "", table) if part
    )


def _row(whole: dict[str, Any], model: dict[str, Any], key: str, part: dict[str, Any]) -> str:
    default = "needed" if key in model.get("required", ()) else _default(part.get("default"))
    about = part.get("description") or resolved(whole, part).get("description", "")
    return f"| `{key}` | {_type(whole, part)} | {default} | {_cell(about)} |"


def _default(value: object) -> str:
    if value in (None, [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(whole: dict[str, Any], part: dict[str, Any]) -> str:
    part = next((one for one in part.get("anyOf", []) if one.get("type") != "null"), part)
    if "discriminator" in part or "oneOf" in part:
        text = "by its `kind`"
    elif "$ref" in part:
        text = "mapping"
    elif "const" in part or "enum" in part:
        text = ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    elif part.get("type") == "array":
        text = f"list of {_plural(_type(whole, part['items']))}"
    elif part.get("type") == "object":
        is_flat = part.get("additionalProperties", {}).get("type") == "string"
        text = "texts by name" if is_flat else "mappings by name"
    else:
        text = _scalar(part)
    return text


def _scalar(part: dict[str, Any]) -> str:
    if part.get("pattern") == DURATION_PATTERN:
        return "duration"
    examples = part.get("examples")
    if examples:
        return f"such as `{examples[0]}`"
    bounds = [str(part[name]) for name in ("minimum", "maximum") if name in part]
    name = {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}[
        part["type"]
    ]
    return f"{name}, {' to '.join(bounds)}" if len(bounds) == 2 else name


def _plural(name: str) -> str:
    return f"{name}s" if name.isalpha() else name


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|")


def example() -> str:
    """The worked example, as ``donjon plan example`` prints it."""
    return f"```yaml\n{EXAMPLE_PATH.read_text(encoding='utf-8')}```"


def findings() -> str:
    """What ``donjon plan check`` may find."""
    return "\n".join(["| finding | | it means | do |", "|---|---|---|---|", *_finding_rows()])


def _finding_rows() -> Iterator[str]:
    for name, rule in sorted(RULES.items(), key=lambda item: (not item[1].is_error, item[0])):
        yield f"| `{name}` | {'error' if rule.is_error else 'warning'} | {rule.meaning} | {rule.remedy} |"


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "example": example,
    "findings": findings,
    "reference": reference,
}


def filled(text: str) -> str:
    """The document with all parts made anew. Raises ``ValueError`` if it has no place for one."""
    for name, make in PARTS.items():
        pattern = re.compile(_PLACE.format(name=name), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(name)
        made = f"<!-- made: {name} -->\n\n{make()}\n\n<!-- end -->"
        text = pattern.sub(lambda _, made=made: made, text)  # type: ignore[misc]
    return text


def main() -> int:
    """Write the document and the schema."""
    PATH.write_text(filled(PATH.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)} and {SCHEMA_PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
