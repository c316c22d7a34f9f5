"""Changes of the keyring that approvers have to allow: asked by the first run, carried out by a later one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from donjon.app.approvals.approvers import Approvers, named
from donjon.app.approvals.requests import Asking, ask, carry_out, load, same_change, unfinished
from donjon.app.approvals.views import Asked
from donjon.app.setup import open_with_root, show_labels
from donjon.app.wiring import Workspace
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, NotApproved
from donjon.format.approval import KeyringChange, Parameters
from donjon.format.approvers import decode_approvers
from donjon.format.vault import Action
from donjon.repository.approvals import require_approvers
from donjon.repository.approver_keys import ApproverKey, check_approvers, choose_approvers
from donjon.repository.approving import State, keyring_change
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class Pending:
    """Nothing was changed: approvers were asked, by this run if ``is_new``; too few of them have signed."""

    asked: Asked
    is_new: bool


def change_or_ask(
    workspace: Workspace, vault: Vault, root: SigningKey, change: KeyringChange, asking: Asking
) -> Pending | None:
    """Change the keyring if enough approvers signed that in the vault; else see that they are asked.

    None says that it was done. Raises ``NotApproved`` if the request was overtaken just now.
    """
    asked = None if asking.file else unfinished(vault, same_change(change))
    if asked is None:
        return Pending(ask(workspace, vault, change, asking), is_new=True)
    if asked.state is not State.APPROVED:
        return Pending(asked, is_new=False)
    carry_out(workspace, vault, root, asked.request, load(vault, asked.request))
    return None


def change_approvers(
    workspace: Workspace, keys: Sequence[ApproverKey], needed: int, asking: Asking
) -> Approvers | Pending:
    """Let these approve from now on, so many of them together, or ask the present ones to allow it.

    Asking needs a key that reveals names; the change itself the kit with the root key. Raises
    ``KeyNotAvailable`` without.
    """
    check_approvers(keys, needed)
    vault = workspace.open()
    require_approvers(vault)
    show_labels(workspace, vault)
    present = named(vault, require_approvers(vault))
    if (present.needed, {(one.public, one.name) for one in present.members}) == (
        needed,
        {(key.public, key.name) for key in keys},
    ):
        return present  # and this is run again, after its end was not seen
    chosen = choose_approvers(needed, keys, vault.secret)
    change = keyring_change(vault, Action.SET_APPROVERS, chosen.subject, chosen.encode())
    asked = None if asking.file else unfinished(vault, _same_names(vault, change))
    if asked is None:
        return Pending(ask(workspace, vault, change, asking), is_new=True)
    if asked.state is not State.APPROVED:
        return Pending(asked, is_new=False)
    vault, root = open_with_root(workspace)
    if not carry_out(workspace, vault, root, asked.request, load(vault, asked.request)):
        raise NotApproved("somebody else has just done that", hint="See `donjon approver list`.")
    return named(vault, require_approvers(vault))


def _same_names(vault: Vault, change: KeyringChange) -> Callable[[Parameters], bool]:
    """Whether a request is for the same approvers, each under the same name: others can ask, too."""
    is_same, wanted = same_change(change), _names(vault, change)

    def check(asked: Parameters) -> bool:
        try:
            return isinstance(asked, KeyringChange) and is_same(asked) and _names(vault, asked) == wanted
        except IntegrityFailure:
            return False

    return check


def _names(vault: Vault, change: KeyringChange) -> dict[bytes, str]:
    chosen = decode_approvers(change.approvers, "the request")
    labels = zip(chosen.keys, chosen.labels, strict=True)
    return {key: vault.secret.read_label(label, "the request") for key, label in labels}
