"""Everything that can be wrong with a plan, each with a name; also the table of the guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding of this name means, and what to do. Plans with errors are not carried out."""

    is_error: bool
    meaning: str
    remedy: str


def _error(meaning: str, remedy: str) -> Rule:
    return Rule(True, meaning, remedy)


def _warning(meaning: str, remedy: str) -> Rule:
    return Rule(False, meaning, remedy)


RULES: Final = {
    "yaml": _error(
        "The file cannot be read: no YAML, a key twice, an alias of nothing",
        "Look at the indentation and the quotes at that place.",
    ),
    "unknown-key": _error("There is no such key", "Correct it; the nearest one that exists is named."),
    "missing": _error("Something without which the rest means nothing is missing", "Add it."),
    "bad-value": _error("A value that cannot be meant there", "Write one as the reference says."),
    "unknown-vault": _error(
        "A vault that the plan does not have", "Correct the name, or add it to `vaults`."
    ),
    "unknown-site": _error("A site that the plan does not have", "Correct the name, or add it to `sites`."),
    "unknown-credential": _error(
        "A credential that the plan does not have", "Correct the name, or add it to `credentials`."
    ),
    "wrong-credential": _error(
        "A credential for one provider at a site of another", "Give the field of the site's provider."
    ),
    "bad-url": _error("An address of no store that Donjon has", "Write one as in the reference."),
    "same-url": _error("Two vaults at one address", "Correct one, or drop it: it is one copy."),
    "no-vault": _error("A workload that has neither a vault nor snapshots", "Give it a vault."),
    "snapshots-only": _warning(
        "A workload that has snapshots and no vault: they go with the account that they are in",
        "Give it a vault.",
    ),
    "copies-without-vault": _error("Copies of points that are written nowhere", "Give it a vault, too."),
    "copy-to-itself": _error("A copy into the vault that it is made from, or one twice", "Name another."),
    "never-due": _error("Days that never come, such as 30 February", "Write days that there are."),
    "outside-window": _error(
        "A window that holds none of the times: each start would wait for it", "Change one of both."
    ),
    "jitter": _warning(
        "A jitter as long as the time between two starts, which makes them one", "Write less."
    ),
    "rpo": _error(
        "Starts are further apart than the recovery point objective allows, with window and jitter",
        "Start more often, or raise the objective.",
    ),
    "rpo-tight": _warning(
        "An objective that leaves a run no time: the last point is too old when the next one comes",
        "Raise it by the time that a run takes.",
    ),
    "rpo-unscheduled": _warning("An objective, and no schedule that could meet it", "Add a schedule."),
    "retention-cap": _error(
        "Points are to stay longer than the bucket of a vault allows locks to last",
        "Keep less there, or raise the cap of the bucket and of the plan.",
    ),
    "retention-endless": _warning(
        "Everything is to stay for ever, in a vault whose locks are capped", "Say how much is to stay."
    ),
    "verify": _warning("No copy is ever read back", "Add `verify`."),
    "verify-late": _warning("Points go before any was read back", "Read back more often than points go."),
    "snapshot-lock": _error(
        "Snapshots are locked longer than as many as are kept take", "Keep more, or lock them for less."
    ),
    "snapshot-gap": _warning(
        "The lock of the newest snapshot ends before the next one comes",
        "Lock them for longer.",
    ),
    "no-snapshots": _warning("A policy for snapshots of something that has none", "Leave it out."),
    "no-lock": _warning("A lock for snapshots that their provider cannot lock", "Leave it out."),
    "snapshot-copy": _error("Snapshots copied to where they are, or between providers", "Name another site."),
    "wrong-provider": _error(
        "A kind of workload that the provider of its site does not have", "Correct the kind or the site."
    ),
    "no-site": _warning("Nobody knows where production is, so no copy counts as offsite", "Add `site`."),
    "shares-fate": _warning(
        "Every vault of a workload shares the fate of production: the same site, account or administrators",
        "Add a copy elsewhere, which other people administer.",
    ),
    "overlap": _error(
        "The same thing is selected by two workloads", "Exclude it in one of both, or select it only once."
    ),
    "may-overlap": _warning(
        "Two workloads may select the same volume, by tags or by name", "Take tags that exclude each other."
    ),
    "path-twice": _warning("A path within another one of the same workload", "Leave it out."),
    "backs-up-vault": _error("A bucket that is backed up into itself", "Back up another prefix."),
    "hooks-empty": _error("Hooks without a command", "Give `before` and `after`."),
    "hooks-unreleased": _warning("Nothing releases what `before` holds", "Add `after`."),
    "hooks-long": _error(
        "Production may be at rest for as long as there is between two starts",
        "Shorten their timeout.",
    ),
    "unused": _warning("Something that no workload uses", "Remove it, or use it."),
}
