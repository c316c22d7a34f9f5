"""Tokens of PKCS #11 on this machine: SoftHSM2, from Debian.

It keeps attributes of keys and PINs as a token does. It wraps with AES by RFC 5649, and knows RSA-OAEP with
SHA-1 alone.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
_PIN = "5678-of-a-test"


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A folder with tokens of these labels, all with the same PIN.

    A process reads ``SOFTHSM2_CONF`` and sees which tokens there are when it loads the module, and never
    again.
    """

    folder: Path
    tokens: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """What reaches the tokens as their user."""
        return self.public_environment | {"DONJON_PKCS11_PIN_FILE": str(self.folder / "pin")}

    @property
    def public_environment(self) -> dict[str, str]:
        """What reaches the tokens without a PIN."""
        return {"DONJON_PKCS11_MODULE": str(_MODULE), "SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    @property
    def pin(self) -> str:
        """The PIN of every token."""
        return _PIN


def make_softhsm(folder: Path, count: int = 4) -> SoftHsm:
    """A folder with so many tokens.

    Raises ``RuntimeError`` if SoftHSM2 is missing: a suite that needs it must fail, not be skipped.
    """
    if not _MODULE.exists():
        message = "SoftHSM2 is missing; install Debian's softhsm2"
        raise RuntimeError(message)
    (folder / "tokens").mkdir()
    configuration = (
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    (folder / "softhsm2.conf").write_text(configuration)
    (folder / "pin").write_text(f"{_PIN}\n")
    made = SoftHsm(folder, tuple(f"token {number}" for number in range(count)))
    for label in made.tokens:
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            _PIN,
            "--pin",
            _PIN,
        ]
        environment = os.environ | made.public_environment
        subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603 - a fixed command
    return made
