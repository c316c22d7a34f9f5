"""The kinds of values that a plan has: names, durations, sizes, windows of the day, commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from donjon.core.errors import UsageError
from donjon.core.units import parse_duration, parse_size
from donjon.plan.cron import Cron

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#: What ``parse_duration`` takes, for those who check plans by their schema.
DURATION_PATTERN: Final = r"^\s*\d+\s*(s|m|h|d|w|y)\s*$"
#: A hundred years of 365.25 days: the calendar of Python has an end.
_LONGEST_S: Final = 3_155_760_000
_FASTEST: Final = 1 << 60
_TIME_OF_DAY: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")


class PlanPart(BaseModel):
    """A part of a plan: what it does not know is an error, and nothing changes it once it is read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, use_attribute_docstrings=True
    )


def _parsed(parse: Callable[[str], int], longest: int) -> Callable[[Any], Any]:
    """A validator around one of our parsers, up to some number; numbers stay for pydantic to judge."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            number = parse(value)
        except UsageError as error:
            raise ValueError(f"{error.message}. {error.hint}") from error
        except (OverflowError, ValueError) as error:  # more digits than Python takes
            raise ValueError(f"{value[:20]!r} is larger than anything") from error
        if number > longest:
            raise ValueError(f"{value[:40]!r} is more than there can be")
        return number

    return convert


def _rate(text: str) -> int:
    return parse_size(text.removesuffix("/s"))


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"{name!r} is no time zone; write one of the IANA database, such as Europe/Berlin"
        raise ValueError(msg) from error
    return name


def _cron(text: str) -> str:
    Cron.parse(text)
    return text


def _time_of_day(value: str) -> str:
    if not _TIME_OF_DAY.fullmatch(value):
        msg = f"{value!r} is no time of the day; write it between quotes, such as '22:30'"
        raise ValueError(msg)
    return value


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        msg = f"{path!r} is no absolute path. Begin it with /, and leave .. out"
        raise ValueError(msg)
    return path


def _web_address(text: str) -> str:
    if not re.match(r"https?://[^\s/]", text):
        msg = f"{text!r} is no address of a server. Begin it with https://"
        raise ValueError(msg)
    return text


def _pattern(line: str) -> str:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error) as error:  # pathspec passes on a range such as [z-a]
        msg = f"{line!r} is no pattern of .gitignore: {error}"
        raise ValueError(msg) from error
    return line


Name = Annotated[str, Field(pattern=_NAME)]
#: In seconds, written as ``30s``, ``15m``, ``4h``, ``7d``, ``8w`` or ``1y``.
Duration = Annotated[
    int,
    BeforeValidator(_parsed(parse_duration, _LONGEST_S)),
    Field(ge=0, le=_LONGEST_S),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["4h", "30d"]}),
]
#: In bytes per second, written as ``20MiB/s``.
Rate = Annotated[
    int,
    BeforeValidator(_parsed(_rate, _FASTEST)),
    Field(gt=0),
    WithJsonSchema({"type": "string", "examples": ["20MiB/s"]}),
]
#: Five fields, as crontab(5) has them.
CronText = Annotated[str, AfterValidator(_cron)]
#: On this host, as the system knows it: no ``~``, no variables.
AbsolutePath = Annotated[str, AfterValidator(_absolute), Field(json_schema_extra={"pattern": "^/"})]
#: The address of a server that speaks HTTP.
WebAddress = Annotated[str, AfterValidator(_web_address), Field(json_schema_extra={"pattern": "^https?://"})]
Pattern = Annotated[str, AfterValidator(_pattern)]
TimeZone = Annotated[str, AfterValidator(_zone)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
#: A program and its arguments. No shell reads it.
Command = Annotated[
    tuple[Annotated[str, StringConstraints(strip_whitespace=False, min_length=1)], ...], Field(min_length=1)
]
