"""Writes the configuration language of Terraform, so far as the templates here use it.

Source of the syntax: https://developer.hashicorp.com/terraform/language/syntax/configuration
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from donjon.roles.skips import SKIPPED

#: Words that expressions begin with, or that are values.
_RESERVED = {"for", "if", "in", "null", "true", "false"}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Raw:
    """An expression that is written as it is, such as ``aws_s3_bucket.vault.id``."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its kind, its labels, and arguments and blocks within it, in their order.

    ``skips`` are ids of SKIPPED.
    """

    kind: str
    labels: tuple[str, ...]
    body: tuple[tuple[str, Any] | Block, ...]
    skips: tuple[str, ...] = ()


def block(kind: str, *labels: str, **arguments: Any) -> Block:
    """A block; an argument that is a ``Block`` or a list of them becomes a block within it.

    ``skips`` among the arguments are ids of SKIPPED.
    """
    body: list[tuple[str, Any] | Block] = []
    skips = tuple(arguments.pop("skips", ()))
    for name, value in arguments.items():
        inner = value if isinstance(value, list) and value and isinstance(value[0], Block) else [value]
        if isinstance(inner[0], Block):
            body += inner
        else:
            body.append((name, value))
    return Block(kind, labels, tuple(body), skips)


def write(head: str, blocks: Iterable[Block]) -> str:
    """A whole file, with ``head`` as a comment at its top."""
    return f"# {head}\n\n" + "\n".join(_block(block, "") for block in blocks)


def _block(block: Block, indent: str) -> str:
    lines = [f"{indent}{' '.join([block.kind, *map(json.dumps, block.labels)])} {{"]
    inner = indent + "  "
    lines += [f"{inner}# checkov:skip={rule}:{SKIPPED[rule]}" for rule in block.skips]
    rows: list[tuple[str, str]] = []
    for item in block.body:
        if isinstance(item, Block):
            lines += [*_aligned(rows, inner), _block(item, inner).rstrip("\n")]
            rows = []
        else:
            rows.append((item[0], _value(item[1], inner)))
    return "\n".join([*lines, *_aligned(rows, inner), f"{indent}}}\n"])


def _aligned(rows: list[tuple[str, str]], indent: str) -> list[str]:
    """Arguments one below the other, as ``terraform fmt`` has them: neighbours of one line are aligned."""
    lines: list[str] = []
    for long, group in itertools.groupby(rows, key=lambda row: "\n" in row[1]):
        neighbours = list(group)
        width = 0 if long else max(len(name) for name, _ in neighbours)
        lines += [
            f"{indent}{name:{width}} = {value}" if width else f"{indent}{name} = {value}"
            for name, value in neighbours
        ]
    return lines


def _value(value: object, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Json):
        return f"jsonencode({_value(value.data, indent)})"
    if isinstance(value, Mapping):
        rows = [(_key(key), _value(item, inner)) for key, item in value.items()]
        return "\n".join(["{", *_aligned(rows, inner), indent + "}"])
    if isinstance(value, (list, tuple)):
        if len(value) < 2:
            return "[" + ", ".join(_value(item, indent) for item in value) + "]"
        return "[\n" + "".join(f"{inner}{_value(item, inner)},\n" for item in value) + indent + "]"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("${", "$${").replace("%{", "%%{") if isinstance(value, str) else text


@dataclass(frozen=True, slots=True)
class Json:
    """A document that is handed over as JSON text."""

    data: Any


def _key(key: str) -> str:
    return key if _WORD.fullmatch(key) and key not in _RESERVED else json.dumps(key)
