"""The secrets of a host, and the search for them in what a command shows."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from donjon.core.errors import DonjonError
from donjon.keys.recovery import read_kit

_MAX_FILE_BYTES = 64 << 10
_SHORTEST = 8
#: The words of a share of a kit follow.
_WORDS = b"DONJON SHARE WORDS-----"
#: Lines of a kit that hold its payload: groups of letters and digits, and nothing that is a word.
_KIT_LINE = re.compile(rb"^(?:\d+ ) *(?:[A-Z0-9]{4,} ?){4,}", re.MULTILINE)
_SECRET_MEMBERS = ("signing_seed", "vault_secret", "private_key", "secret", "token")
_SECRET_VARIABLES = re.compile(r"SECRET|TOKEN|PASSWORD|CONNECTION_STRING")
#: A file that one of these names holds secrets.
_FILE_OPTIONS = {
    "--share",
    "--kit",
    "--passphrase-file",
    "--new-passphrase-file",
    "--out",
    "--credential",
    "--as",
}


class Secrets:
    """What must not be seen: as it is, and in the forms in which programs show bytes."""

    def __init__(self) -> None:
        self.forms: set[bytes] = set()

    def add(self, secret: bytes) -> None:
        """One secret. What is too short to be told from chance is left out."""
        secret = secret.strip()
        if len(secret) < _SHORTEST:
            return
        shown = {secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")}
        shown |= {base64.urlsafe_b64encode(secret).rstrip(b"="), repr(secret)[2:-1].encode()}
        self.forms |= shown | {form.upper() for form in (secret.hex().encode(),)}

    def add_file(self, path: Path) -> None:
        """All secrets in a kit, a credential or a file with a passphrase, if there is one."""
        if path.suffix == ".pub":  # the public half of an approver's key
            return
        try:
            data = path.read_bytes()[:_MAX_FILE_BYTES]
        except OSError:
            return
        if _WORDS in data:
            for line in data.partition(_WORDS)[2].partition(b"-----END")[0].splitlines()[1:]:
                self.add(line)
        elif data.startswith(b"{"):
            self._add_members(data)
        elif b"RECOVERY KIT" in data:
            self._add_kit(data)
        elif data.count(b"\n") <= 1:
            self.add(data)

    def _add_members(self, data: bytes) -> None:
        try:
            members = json.loads(data)
        except ValueError:
            return
        for name in _SECRET_MEMBERS:
            if isinstance(value := members.get(name), str) and value:
                self.add(value.encode())
                self.add(_decoded(value))

    def _add_kit(self, data: bytes) -> None:
        for line in _KIT_LINE.findall(data):
            self.add(line)
            self.add(b"".join(line.split()[1:]))
        try:
            kit = read_kit(data.decode())
        except (DonjonError, ValueError):  # it has a passphrase, or is damaged
            return
        self.add(kit.opening_key)
        self.add(kit.opening_key[:64])
        self.add(kit.opening_key[64:])
        self.add(kit.root_seed or b"")

    def found_in(self, *shown: bytes) -> list[bytes]:
        """The secrets that are seen in any of the texts."""
        return [form for form in self.forms if any(form in text for text in shown)]


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return b""


def secrets_of(
    home: Path,
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    input_bytes: bytes | None = None,
) -> Secrets:
    """What a command with these arguments could give away."""
    secrets = Secrets()
    words = [str(argument) for argument in arguments]
    files = [value for option, value in itertools.pairwise(words) if option in _FILE_OPTIONS]
    files += [word for word in words if word.endswith((".writer", ".json", ".kit", ".credential", ".txt"))]
    files += [environment[name] for name in ("DONJON_KIT", "DONJON_PASSPHRASE_FILE") if name in environment]
    files += [str(path) for folder in map(Path, files) if folder.is_dir() for path in folder.glob("*.txt")]
    for path in {*files, *map(str, home.glob("writers/*"))}:
        secrets.add_file(Path(path))
    for name, value in environment.items():
        if _SECRET_VARIABLES.search(name):
            secrets.add(value.encode())
    if input_bytes is not None and input_bytes.count(b"\n") == 1 and len(input_bytes) < 200:
        secrets.add(input_bytes)
    return secrets


def check_shown(secrets: Secrets, arguments: Sequence[str | Path], *shown: bytes) -> None:
    """Fail if a secret is on the command line, or in what a command showed. One command shows a kit."""
    words = [str(argument) for argument in arguments]
    assert not secrets.found_in(*(word.encode(errors="surrogateescape") for word in words)), words
    if words[:2] != ["keys", "print"]:
        assert not secrets.found_in(*shown), f"{words} shows a secret"


def open_to_others(folders: Iterable[Path]) -> Iterator[str]:
    """Files in these folders that others than their owner may read or write."""
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in names:
                status = os.lstat(os.path.join(path, name))
                if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                    yield os.path.join(path, name)
