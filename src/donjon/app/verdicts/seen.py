"""The verdicts of a vault that this host saw, in whichever copy, so that no store takes a mark back.

No checkpoint names evidence, and its lock is not extended. What was seen counts as long as it is remembered.
Other evidence is remembered by its name alone, so that it is read only once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, KeyNotAvailable
from donjon.format import names
from donjon.keys.private import private_folder, replace_private
from donjon.repository.evidence import SignedEvidence, parse_evidence
from donjon.repository.vault import Vault

_TIME_BYTES = 8


class SeenVerdicts:
    """A folder with a file for each: the store's time in 8 bytes, little-endian, and the evidence."""

    def __init__(self, home: Path, vault: Vault) -> None:
        self._vault = vault
        self._folder = home / "pins" / f"{vault.vault_id.hex()}.verdicts"
        self._others = home / "pins" / f"{vault.vault_id.hex()}.others"

    def read(self) -> dict[bytes, SignedEvidence]:
        """Them by their digests. Raises ``KeyNotAvailable`` if one cannot be read or was changed."""
        if not self._folder.is_dir():
            return {}
        found = {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith("."):  # of a process that is writing it
                continue
            try:
                data = path.read_bytes()
                stored_at, signed = int.from_bytes(data[:_TIME_BYTES], "little"), data[_TIME_BYTES:]
                if digest(signed).hex() != path.name:
                    raise IntegrityFailure(f"{path}: holds other bytes than were kept")
                one = parse_evidence(self._vault, signed, names.evidence(digest(signed)), stored_at)
            except (IntegrityFailure, OSError) as error:
                msg = f"{path}: cannot be read: {error}"
                hint = "It remembers which points are suspect. Remove it only if nobody tampered with it."
                raise KeyNotAvailable(msg, hint=hint) from error
            found[one.digest] = one
        return found

    def read_others(self) -> set[str]:
        """The names of evidence that is no verdict; fewer if they cannot be read."""
        try:
            return set(self._others.read_text("ascii").split())
        except (OSError, ValueError):
            return set()

    def keep_others(self, others: Iterable[str]) -> None:
        """Remember the names of evidence that is no verdict."""
        private_folder(self._others.parent)
        replace_private(self._others, "".join(f"{name}\n" for name in sorted(others)).encode("ascii"))

    def keep(self, verdicts: Iterable[SignedEvidence]) -> None:
        """Remember verdicts with the time at which a store first showed to have them."""
        for one in verdicts:
            path = self._folder / one.digest.hex()
            if one.stored_at is not None and not path.exists():
                private_folder(self._folder)
                replace_private(path, one.stored_at.to_bytes(_TIME_BYTES, "little") + one.data)
