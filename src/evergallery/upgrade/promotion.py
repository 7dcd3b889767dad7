"""The verbs ``promote`` and ``rollback``: one atomic change of what answers queries, after the gate."""

from typing import TYPE_CHECKING

from evergallery.errors import InputError, RefusedError
from evergallery.gallery.items import View
from evergallery.state import Pair, now
from evergallery.upgrade.gate import Condition
from evergallery.upgrade.spaces import Space

if TYPE_CHECKING:
    from evergallery.workspace import Workspace


def conditions_of(workspace: "Workspace", generation: str) -> list[tuple[str, Condition]]:
    """See ``Workspace.conditions``."""
    candidate = Space(workspace.generation(generation))
    policy = workspace.gate
    found = []
    for space in workspace.stored(view=_view_with(workspace, generation)):
        if space.fingerprint == candidate.fingerprint:
            continue
        evidence = workspace.evidence(candidate, space)
        if evidence is None:
            raise RefusedError(
                f"The gallery holds vectors of {space.name}, and {candidate.name} has not been checked against them: "
                f"run  evergallery check {candidate.name} --against {space.name} --data HELD_OUT  first."
            )
        found += [(space.name, condition) for condition in policy.conditions(evidence)]
    return found


def promote(workspace: "Workspace", generation: str, *, force: bool, why: str | None) -> list[tuple[str, Condition]]:
    """See ``Workspace.promote``."""
    candidate = Space(workspace.generation(generation))
    if force and not why:
        raise InputError("Promoting against the evidence needs a reason: give it with --why.")
    refused: str | None = None
    try:
        conditions = workspace.conditions(generation)
        failed = [f"{space}: {condition}" for space, condition in conditions if not condition.met]
        if failed:
            raise RefusedError(
                f"The gate refuses {candidate.name}. {'; '.join(failed)}. To promote it all the same, give --force and "
                f"the reason with --why."
            )
        workspace.require_compatible(candidate, workspace.stored(view=_view_with(workspace, generation)))
    except RefusedError as refusal:
        if not force:
            workspace.journal.record("promote refused", generation=candidate.name, reason=str(refusal))
            raise
        conditions, refused = [], str(refusal)
    stored = workspace.stored(view=_view_with(workspace, generation))
    with workspace.changing("promoting a generation") as state:
        if force:
            for space in stored:
                if not state.may_compare(candidate.fingerprint, space.fingerprint):
                    state.accept(
                        Pair(new=candidate.name, old=space.name, fingerprints=(candidate.fingerprint, space.fingerprint),
                             shown_by="force", evidence=str(why), time=now())
                    )  # fmt: skip
        before = state.promoted
        state.promote(candidate.name, why or "the gate was passed")
    workspace.journal.record(
        "promote", generation=candidate.name, before=before, forced=force, why=why, refused=refused,
        conditions=[f"{space}: {condition}" for space, condition in conditions],
    )  # fmt: skip
    return conditions


def roll_back(workspace: "Workspace") -> str:
    """See ``Workspace.rollback``."""
    with workspace.changing("rolling back") as state:
        left = state.promoted
        name = state.roll_back()
        before = Space(workspace.generation(name))
        for space in workspace.stored(view=state.view()):
            if not state.may_compare(before.fingerprint, space.fingerprint):
                raise RefusedError(
                    f"The gallery holds vectors of {space.name} that {name} has not been shown to be compatible with: "
                    f"check it against them, or promote it with --force."
                )
    workspace.journal.record("rollback", generation=name, left=left)
    return name


def _view_with(workspace: "Workspace", generation: str) -> View:
    """What searches would see once ``generation`` is promoted."""
    state = workspace.state.model_copy(deep=True)
    state.promote(generation, "")
    return state.view()
