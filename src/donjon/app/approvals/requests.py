"""Approval requests as every interface offers them: asking, listing, signing and carrying out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from donjon.app.approvals.approvers import KeyChoice, open_approver_key
from donjon.app.approvals.files import RequestFile, read_merged
from donjon.app.approvals.views import Asked, Deletion, NewKey, Suspect, Views, lines_for_files
from donjon.app.setup import open_with_root, show_labels
from donjon.app.wiring import Workspace
from donjon.codec.digest import digest, short_id
from donjon.codec.sign import Signer, SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, NotApproved, PointNotFound, UsageError
from donjon.format.approval import (
    KeyringChange,
    Parameters,
    PlanChange,
    PointDeletion,
    SuspectUse,
    WriterKey,
    approval_message,
    hide_reason,
)
from donjon.repository.allowed_keys import name_key
from donjon.repository.approvals import (
    Request,
    find_request,
    list_requests,
    make_request,
    parse,
    put_request,
    put_signature,
    read_signatures,
    require_approvers,
)
from donjon.repository.approving import State, change_keyring, check_open, state_of
from donjon.repository.certificates import SUSPICIOUS, Certificate, list_certificates, put_certificate
from donjon.repository.credential import WriterCredential
from donjon.repository.vault import Vault

DEFAULT_LIFE_S = 7 * SECONDS_PER_DAY
#: Requests for which people can still do something.
UNFINISHED = (State.OPEN, State.APPROVED)


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask: why, for how long in seconds, and into a file instead of the vault, if one is named.

    ``key`` is that of an approver who asks; else the kit with the root key does, or this host's writer.
    """

    reason: str | None = None
    life_s: int = DEFAULT_LIFE_S
    file: Path | None = None
    key: KeyChoice | None = None


@dataclass(slots=True)
class Listed:
    """Requests in a vault, and what of them is wrong."""

    requests: list[Asked] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was carried out; ``is_new`` is false if that was so before. ``certificate`` lets points go."""

    asked: Asked
    is_new: bool
    certificate: Certificate | None


#: Shows what is to be signed and asks a person; raises ``DonjonError`` to stop.
Agree = Callable[[Asked], None]


def ask(workspace: Workspace, vault: Vault, parameters: Parameters, asking: Asking) -> Asked:
    """Ask the approvers to allow this: put the request into the vault, or write it to a file.

    Raises ``KeyNotAvailable`` if nobody is at hand who may ask, or no key that hides the reason;
    ``Refused`` if the vault has no approvers, or the file exists.
    """
    require_approvers(vault)
    reason = hide_reason(vault.secret, asking.reason) if asking.reason is not None else b""
    with _asker(workspace, vault, asking.key) as signer:
        request = make_request(vault, parameters, signer, asking.life_s, os.urandom(16), reason)
    asked = Views(vault).asked(request, {})
    if asking.file is None:
        put_request(vault, request)
    else:
        _file_of(vault, asked, {}).create(asking.file)
    return asked


@contextlib.contextmanager
def _asker(workspace: Workspace, vault: Vault, key: KeyChoice | None) -> Iterator[Signer]:
    if key is not None:
        with open_approver_key(key) as signer:
            yield signer
        return
    if workspace.settings.kit is not None and (root := workspace.read_kit(vault).root) is not None:
        yield root
    elif (path := workspace.home.writer_path(vault.vault_id)).exists():
        yield WriterCredential.read(path).signing_key
    else:
        msg = "nobody is at hand who may ask the approvers"
        hint = (
            "Give the kit with the root key (--kit), run it on an enrolled host, or name an approver's --key."
        )
        raise KeyNotAvailable(msg, hint=hint)


def unfinished(vault: Vault, is_same: Callable[[Parameters], bool]) -> Asked | None:
    """The request in the vault for the same, if one is open: of several that with the most signatures.

    One that is wrong in any way is passed over, so that nobody blocks what he may only ask for.
    """
    views, found = Views(vault), []
    for request in list_requests(vault, []):
        if not is_same(request.parameters):
            continue
        with contextlib.suppress(IntegrityFailure):
            asked = views.asked(request, read_signatures(vault, request, []))
            if asked.state in UNFINISHED:
                found.append(asked)
    return max(found, key=lambda asked: len(asked.signers), default=None)


def signed_requests(
    vault: Vault, files: Sequence[Path], is_same: Callable[[Parameters], bool]
) -> list[tuple[Request, dict[bytes, bytes]]]:
    """All requests for the same with their signatures, in the vault and in files of this vault.

    One in files comes first, with what is signed in the vault, too, then the newest. What is wrong in the
    vault is passed over; raises ``UsageError``, ``KeyNotAvailable`` and ``IntegrityFailure`` for files.
    """
    listed = reversed(list_requests(vault, []))
    found = [(one, read_signatures(vault, one, [])) for one in listed if is_same(one.parameters)]
    if files:
        merged = read_merged(files)
        _check_vault(vault, merged, files)
        request = parse(vault, merged.request, str(files[0]))
        there = next((signed for one, signed in found if one.digest == request.digest), {})
        if is_same(request.parameters):
            found.insert(0, (request, there | merged.signatures))
    return found


def list_asked(workspace: Workspace, *, finished: bool) -> Listed:
    """The requests in the vault by their time; needs no key, but shows names only with one.

    Those that are done, expired or void are left out unless ``finished``.
    """
    vault = workspace.open()
    require_approvers(vault)
    show_labels(workspace, vault)
    listed = Listed()
    done = _carried_out(vault)
    views = Views(vault, done)
    for request in list_requests(vault, listed.damaged):
        if not finished and state_of(vault, request, 0, done) not in UNFINISHED:
            continue
        signatures = read_signatures(vault, request, listed.damaged)
        try:
            asked = views.asked(request, signatures)
        except IntegrityFailure as error:
            listed.damaged.append(error)
            continue
        listed.requests.append(asked)
    return listed


def show(workspace: Workspace, wanted: str | None, files: Sequence[Path], out: Path | None) -> Asked:
    """One request, from the vault or from files; with ``out`` also as a file, with all signatures so far."""
    loaded = _load(workspace, wanted, files)
    asked = loaded.view()
    if out is not None:
        _file_of(loaded.vault, asked, loaded.signatures).create(out)
    return asked


def sign(
    workspace: Workspace, wanted: str | None, file: Path | None, choice: KeyChoice, agree: Agree
) -> Asked:
    """Sign a request with an approver's key, once a person agreed to what its bytes say.

    The signature goes into the vault, or into the file if one is given. Raises ``KeyNotAvailable`` if the
    key is of no present approver, or of one who has signed; ``NotApproved`` if the request is not open any
    more; ``PointNotFound`` if it names a point that is not there; ``IntegrityFailure`` for a signature that
    is wrong.
    """
    loaded = _load(workspace, wanted, [file] if file else [])
    vault, request = loaded.vault, loaded.request
    with open_approver_key(choice) as signer:
        approver_id = short_id(signer.public)
        if approver_id not in require_approvers(vault).members:
            msg = f"{choice.key}: its owner does not approve in {vault.store.url}, or not any more"
            raise KeyNotAvailable(msg, hint="See `donjon approver list`.")
        if approver_id in loaded.signatures:
            msg = f"{choice.key}: its owner has signed the request {request.request_id.hex()[:12]} already"
            raise KeyNotAvailable(msg, hint="One approver counts once; see `donjon approve show`.")
        check_open(vault, request)
        asked = loaded.view()
        _demand_points(asked, vault)
        agree(asked)
        check_open(vault, request)  # whoever agreed may have taken a while
        signature = signer.sign(approval_message(vault.vault_id, request.payload))
    loaded.signatures[approver_id] = signature
    asked = loaded.view()
    if file is None:
        put_signature(vault, request, approver_id, signature)
    else:
        _file_of(vault, asked, loaded.signatures).replace(file)
    return asked


def apply(
    workspace: Workspace, wanted: str | None, files: Sequence[Path], credential: Path | None = None
) -> Applied:
    """Carry out a request that enough approvers signed, in the vault, in files, or in both.

    A change of the keyring needs the kit with the root key, a writer's next key the file ``credential`` that
    holds it; to let points go needs a credential for the store that may put. Raises ``NotApproved`` if too
    few signed, naming those who did not, or if the request is not open any more; ``IntegrityFailure`` for a
    signature that is wrong.
    """
    loaded = _load(workspace, wanted, files)
    request = loaded.request
    if isinstance(request.parameters, PlanChange):
        msg = f"request {request.request_id.hex()[:12]}: is about a plan, which is not kept in the vault"
        raise UsageError(msg, hint="Run `donjon plan adopt FILE` on the host whose plan it is.")
    if isinstance(request.parameters, SuspectUse):
        msg = f"request {request.request_id.hex()[:12]}: is carried out by whoever restores the point"
        raise UsageError(msg, hint="Run `donjon restore POINT TARGET` before the request expires.")
    if isinstance(request.parameters, WriterKey):
        return _name_key(loaded, credential)
    if isinstance(request.parameters, KeyringChange):
        vault, root = open_with_root(workspace)
        asked = replace(loaded.view(), state=State.DONE)
        return Applied(asked, carry_out(workspace, vault, root, request, loaded), None)
    for there in list_certificates(loaded.vault):
        if there.counts and there.request_bytes == request.payload:
            return Applied(loaded.view(), is_new=False, certificate=there)
    with loaded.explaining():
        certificate, is_new = put_certificate(loaded.vault, request.payload, loaded.signatures)
    return Applied(replace(loaded.view(), state=State.DONE), is_new, certificate)


def _name_key(loaded: Loaded, file: Path | None) -> Applied:
    if file is None:
        msg = "which file holds the new key?"
        raise UsageError(msg, hint="Give what `donjon writer rekey` made: --credential FILE.")
    credential = WriterCredential.read(file)
    with loaded.explaining():
        is_new = name_key(loaded.vault, credential, loaded.request, loaded.signatures)
    return Applied(replace(loaded.view(), state=State.DONE), is_new, None)


@dataclass(slots=True)
class Loaded:
    """A request with all its signatures by their ids; ``damaged`` are those in the vault that are wrong."""

    vault: Vault
    request: Request
    signatures: dict[bytes, bytes]
    damaged: list[IntegrityFailure]

    def view(self) -> Asked:
        """What it says."""
        return Views(self.vault, _carried_out(self.vault)).asked(self.request, self.signatures)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """If too few signed, tell of signatures that are there and wrong."""
        try:
            yield
        except NotApproved as error:
            if not self.damaged:
                raise
            wrong = "; ".join(found.message for found in self.damaged)
            raise NotApproved(f"{error.message}; {wrong}", hint=error.hint) from error


def load(vault: Vault, request: Request) -> Loaded:
    """A request in the vault with what is signed there."""
    damaged: list[IntegrityFailure] = []
    return Loaded(vault, request, read_signatures(vault, request, damaged), damaged)


def carry_out(workspace: Workspace, vault: Vault, root: SigningKey, request: Request, loaded: Loaded) -> bool:
    """Change the keyring as enough approvers allowed; false if that was so before. Raises as ``apply``."""
    with loaded.explaining():
        is_new = change_keyring(vault, root, request, loaded.signatures)
    workspace.home.keep_pin(vault.keyring)
    return is_new


def _load(workspace: Workspace, wanted: str | None, files: Sequence[Path]) -> Loaded:
    """A request by its id, from files, or both. What files hold must be right; the vault may hold rubbish."""
    merged = read_merged(files) if files else None
    if wanted is None and merged is None:
        msg = "which request?"
        raise UsageError(msg, hint="Give its id, as `donjon approve list` shows it, or --file FILE.")
    vault = workspace.open()
    show_labels(workspace, vault)
    require_approvers(vault)
    if merged is None:
        return load(vault, find_request(vault, wanted or ""))
    _check_vault(vault, merged, files)
    request = parse(vault, merged.request, str(files[0]))
    if wanted is not None and not request.request_id.hex().startswith(wanted.lower()):
        msg = f"{files[0]}: is another request than {wanted}"
        raise UsageError(msg, hint="Give the id or the file.")
    loaded = load(vault, request)
    message = approval_message(vault.vault_id, request.payload)
    require_approvers(vault).signers(message, merged.signatures, str(files[0]))
    loaded.signatures.update(merged.signatures)
    return loaded


def _check_vault(vault: Vault, merged: RequestFile, files: Sequence[Path]) -> None:
    if merged.vault_id != vault.vault_id:
        msg = f"{files[0]}: is a request for another vault than {vault.store.url}"
        raise KeyNotAvailable(msg, hint="Choose the vault that it is for with --vault.")


def _file_of(vault: Vault, asked: Asked, signatures: dict[bytes, bytes]) -> RequestFile:
    return RequestFile(vault.vault_id, asked.request.data, signatures, lines_for_files(asked))


def _demand_points(asked: Asked, vault: Vault) -> None:
    named = asked.what.points if isinstance(asked.what, Deletion) else ()
    if isinstance(asked.what, NewKey) and asked.what.last is not None:
        named = (asked.what.last,)
    if isinstance(asked.what, Suspect):
        named = (asked.what.point,)
    for doomed in named:
        if doomed.point is None:
            msg = (
                f"the request names the point {doomed.point_id.hex()[:12]}, which is not in {vault.store.url}"
            )
            raise PointNotFound(msg, hint="Sign nothing that you cannot see. Ask for a new request.")


def _carried_out(vault: Vault) -> set[bytes]:
    """The digests of requests whose certificates are in the vault."""
    found = list_certificates(vault)
    return {digest(one.request_bytes) for one in found if one.standing not in SUSPICIOUS}


def same_points(points: PointDeletion) -> Callable[[Parameters], bool]:
    """Whether a request is for just these points."""
    return lambda asked: asked == points


def same_change(change: KeyringChange) -> Callable[[Parameters], bool]:
    """Whether a request is for the same change; names of approvers are hidden anew in each."""
    key = (change.ends, change.action, change.subject)
    return lambda asked: isinstance(asked, KeyringChange) and (asked.ends, asked.action, asked.subject) == key
