"""One profile of the shared credentials file of the AWS tools.

Form: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html. Everything else in the file,
comments and other profiles, stays byte for byte.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from pathlib import Path

from donjon.core.errors import KeyNotAvailable
from donjon.credentials.base import NewSecret
from donjon.keys.private import replace_private

_SECTION = re.compile(r"^\s*\[\s*(?P<name>[^\]]+?)\s*\]")
_OPTION = re.compile(
    r"^(?P<name>aws_access_key_id|aws_secret_access_key|aws_session_token)\s*=\s*(?P<value>.*?)\s*$"
)

#: Settings of a profile whose keys come from elsewhere and are stored in neither file.
_KEYLESS = {
    "credential_source", "web_identity_token_file", "sso_session", "sso_start_url", "credential_process",
}  # fmt: skip


def credentials_file(environment: Mapping[str, str]) -> Path:
    """The shared credentials file."""
    return Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()


def key_profile(profile: str, environment: Mapping[str, str]) -> str | None:
    """The profile with the access key that a profile works with: the source of a role, or itself.

    None if none is stored: https://docs.aws.amazon.com/sdkref/latest/guide/access-assume-role.html. Raises
    ``KeyNotAvailable`` if no file has the profile, or a file cannot be read.
    """
    config = Path(environment.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    known = _settings(config, "profile ")
    for name, stored in _settings(credentials_file(environment), "").items():
        known[name] = known.get(name, {}) | stored
    seen: set[str] = set()
    while profile not in seen:
        seen.add(profile)
        if profile not in known:
            msg = f"neither {config} nor {credentials_file(environment)} has the profile {profile!r}"
            raise KeyNotAvailable(msg, hint="Correct the name, or add the profile.")
        own = known[profile]
        if "role_arn" in own and "source_profile" in own:
            profile = own["source_profile"]
        elif "aws_access_key_id" not in own and own.keys() & _KEYLESS:
            return None
    return profile


def _settings(file: Path, prefix: str) -> dict[str, dict[str, str]]:
    """The settings of a file by profile, empty if there is no such file."""
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        msg = f"{file}: cannot be read as a file of the AWS tools"
        raise KeyNotAvailable(msg, hint="Look at its owner, and at its form.") from error
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    return {name.removeprefix(prefix).strip(): values for name, values in sections.items()}


class AwsProfile:
    """Where a host keeps an access key."""

    def __init__(self, file: Path, profile: str) -> None:
        """A link is followed, so that what it points to is replaced and not the link."""
        self._file = file.resolve()
        self.profile = profile

    @property
    def path(self) -> str:
        return str(self._file)

    def current(self) -> str:
        return self._value("aws_access_key_id")

    def secret(self) -> str:
        """The secret half. Raises ``KeyNotAvailable``."""
        return self._value("aws_secret_access_key")

    def put(self, new: NewSecret) -> None:
        lines = self._read().splitlines(keepends=True)
        begin, end = self._section(lines)
        values = {"aws_access_key_id": new.id, "aws_secret_access_key": new.secret}
        kept = []
        for line in lines[begin:end]:
            match = _OPTION.match(line.rstrip("\r\n"))
            if match is None:
                kept.append(line)
            elif (name := match["name"]) in values:
                kept.append(f"{name} = {values.pop(name)}\n")
        head = [f"{name} = {value}\n" for name, value in values.items()]
        text = "".join([*lines[:begin], *head, *kept, *lines[end:]])
        replace_private(self._file, text.encode())

    def _value(self, option: str) -> str:
        lines = self._read().splitlines(keepends=True)
        begin, end = self._section(lines)
        for line in lines[begin:end]:
            match = _OPTION.match(line.rstrip("\r\n"))
            if match is not None and match["name"] == option and match["value"]:
                return match["value"]
        msg = f"{self._file}: the profile {self.profile!r} has no {option}"
        raise KeyNotAvailable(msg, hint="Name the profile that holds the access key, with --profile.")

    def _section(self, lines: list[str]) -> tuple[int, int]:
        """Where the lines of the profile begin and end."""
        begin = None
        for number, line in enumerate(lines):
            match = _SECTION.match(line)
            if match is None:
                continue
            if begin is not None:
                return begin, number
            if match["name"] == self.profile:
                begin = number + 1
        if begin is None:
            msg = f"{self._file}: has no profile {self.profile!r}"
            raise KeyNotAvailable(msg, hint="Name one that is there, with --profile.")
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return begin, len(lines)

    def _read(self) -> str:
        try:
            return self._file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            msg = f"{self._file}: there is no such file"
            raise KeyNotAvailable(msg, hint="Name the shared credentials file with --file.") from error
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{self._file}: cannot be read"
            raise KeyNotAvailable(msg, hint="Run donjon as the user whose file it is.") from error
