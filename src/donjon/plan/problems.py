"""What is wrong with a plan, and where."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.plan.rules import RULES

#: A place in the plan: keys, and numbers of items in lists.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, as the rule that found it says it. ``hint`` says what to do.

    ``rule`` is one of ``RULES``. With ``at_key`` it is about the key itself, else about what it holds.
    ``needs`` is a place that would have to be there.
    """

    rule: str
    path: Path
    message: str
    hint: str = ""
    at_key: bool = False
    needs: Path = ()

    @property
    def is_error(self) -> bool:
        """Whether plans with this are not carried out; else it is a warning."""
        return RULES[self.rule].is_error


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A finding, and where in the file it is; lines and columns count from 1."""

    line: int
    column: int
    path: str
    message: str
    hint: str
    rule: str
    is_error: bool

    @property
    def text(self) -> str:
        """For people, without the hint."""
        where = f"{self.path}: " if self.path else ""
        return f"{self.line}:{self.column}: {where}{self.message}"


def shown(path: Path) -> str:
    """``workloads.web.copies[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
