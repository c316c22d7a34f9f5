"""The drill of a lost KMS as every interface offers it: with which kit, and what becomes of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.app.evidence import Recorded, record_or_tell, recorder_for
from donjon.app.keys.shares import read_shares
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, KeyNotAvailable
from donjon.core.events import Progress, StopCheck
from donjon.drills.key_loss import KIND, Loss, drill_key_loss
from donjon.format.evidence import EvidenceRow, passed
from donjon.repository.vault import Vault

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for: shares that make the kit, unless it is given whole; where evidence goes."""

    shares: Sequence[Path] = ()
    chunks: int = 4
    sign: Path | None = None
    out: Path | None = None
    in_vault: bool = True


@dataclass(slots=True)
class Drilled:
    """What came of it. ``subject`` is the vault and the kit; ``failure`` is why it was not signed."""

    subject: str
    rows: list[EvidenceRow] = field(default_factory=list)
    recorded: Recorded | None = None
    failure: DonjonError | None = None

    @property
    def has_passed(self) -> bool:
        """Whether something was tried and nothing failed."""
        return passed(tuple(self.rows))


def key_loss(
    workspace: Workspace,
    wanted: Wanted,
    environment: Mapping[str, str],
    progress: Progress,
    stop: StopCheck,
) -> Drilled:
    """Open everything with the kit alone, and sign what was seen.

    Raises ``KeyNotAvailable`` if there is no kit of this vault, and what stores raise; then nothing is
    signed.
    """
    vault = workspace.open()
    kit, made_of = _kit(workspace, vault, wanted.shares)
    recorder = recorder_for(wanted, workspace, vault, environment)
    done = Drilled(f"{vault.store.url} with the kit {kit.fingerprint}{made_of}")
    loss = Loss(kit.opener(), wanted.chunks)
    for row in drill_key_loss(vault, loss, lambda opened: workspace.reader(opened, progress), progress, stop):
        stop()
        done.rows.append(row)
    done.recorded, done.failure = record_or_tell(recorder, KIND, done.subject, done.rows)
    return done


def _kit(workspace: Workspace, vault: Vault, files: Sequence[Path]) -> tuple[RecoveryKit, str]:
    """The kit of the drill, and what it was made of if it was joined; it is then in memory only."""
    if not files:
        return workspace.read_kit(vault), ""
    from donjon.keys.recovery import read_kit
    from donjon.keys.shares import join

    joined = join(read_shares(files))
    kit = read_kit(joined.text, workspace.passphrase("Passphrase of the recovery kit: "))
    if kit.vault_id != vault.vault_id:
        msg = f"the shares make the recovery kit of another vault ({kit.vault_name!r})"
        raise KeyNotAvailable(msg, hint=f"Use shares of a kit of {vault.store.url}.")
    return kit, f" made of the shares {', '.join(map(str, joined.numbers))} of {joined.count}"
