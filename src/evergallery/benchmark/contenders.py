"""The rows of a table: methods with their hyper-parameters, and adapters after them, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self, TypeVar

from evergallery.adapters import ADAPTERS, ProcrustesAdapter
from evergallery.benchmark.protocol import NO_CHANGES, BenchmarkProtocol, ProtocolChanges, makes_dimension
from evergallery.errors import InputError, require_known
from evergallery.methods import METHODS, NO_TRIPLETS, Finetune, Method, Role
from evergallery.network.backbones import require_published
from evergallery.watching import Watcher

M = TypeVar("M", bound=Method)


def with_role(role: Role) -> list[str]:
    """Names of the methods that have a role in a comparison."""
    return [name for name, method in METHODS.items() if method.role == role]


INITIAL = "initial"
"""The first generation untouched."""
(BASELINE,) = with_role("baseline")
(BOUND,) = with_role("bound")
(OWN,) = with_role("own")
ADAPTED = f"{BASELINE}+{ProcrustesAdapter.kind}"
"""The simplest map after the fact."""
USUAL = (INITIAL, BASELINE, *with_role("central"), OWN, BOUND, ADAPTED)
"""The rows of a table where nobody names others."""
ALWAYS = (INITIAL, BASELINE, BOUND, ADAPTED)
"""The rows of every table: nothing done, nothing held, everything known, and a map after the fact."""
REFERENCES = (INITIAL, BASELINE, OWN)
"""The rows that every other row of a table is compared with, seed by seed."""


@dataclass(frozen=True)
class Contender:
    """A row of the table: ``METHOD[@NAME=VALUE…][+ADAPTER]``, a method, its hyper-parameters and an adapter after it.

    ``initial`` is the first generation untouched; ``procrustes`` alone is ``finetune+procrustes``.
    """

    name: str

    @classmethod
    def named(cls, name: str) -> Self:
        """The contender of a name, checked.

        Raises:
            InputError: an unknown method or adapter, a hyper-parameter that the method does not take or that is given twice, or
                an adapter after the first generation.
        """
        contender = cls(f"{BASELINE}+{name}" if name in ADAPTERS else name)
        base, adapter = contender.base, contender.adapter
        known = METHODS if contender.options else (INITIAL, *METHODS)
        more = f", each with @HYPERPARAMETER=VALUE and +ADAPTER if wanted, ADAPTER one of {', '.join(ADAPTERS)}"
        require_known("method", base, known, more)
        if "+" in contender.name:
            require_known("adapter", adapter or "", ADAPTERS)
        if len(contender.options) < contender.learner.count("@"):
            raise InputError(f"{name!r} gives a hyper-parameter twice: leave one of its values out.")
        if base == INITIAL and adapter is not None:
            raise InputError(
                f"{name!r} has nothing to map: the first generation stays as it is, so leave +{adapter} out, or name "
                f"{BASELINE}+{adapter}."
            )
        if base != INITIAL:
            METHODS[base].with_options(contender.options)
        return contender

    @property
    def learner(self) -> str:
        """The name without an adapter."""
        return self.name.partition("+")[0]

    @property
    def base(self) -> str:
        """Name of the method."""
        return self.learner.partition("@")[0]

    @property
    def options(self) -> dict[str, str]:
        """Hyper-parameters by name, in words."""
        words = self.learner.split("@")[1:]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def adapter(self) -> str | None:
        """Name of the adapter after it."""
        return self.name.partition("+")[2] or None

    def misfit(self, protocol: BenchmarkProtocol, changes: ProtocolChanges = NO_CHANGES) -> str | None:
        """Return why it cannot run on a protocol, in a sentence; ``None`` where it can.

        Args:
            protocol: with the changes.
            changes: that were asked for: one that has no effect on a method does not become a row of its table.
        """
        method = self.method(protocol)
        if method is None:
            return None
        if (reason := self._overruled(method, changes)) is not None:
            return reason
        if method.needs.old_head != "never" and not baseline_of(protocol).trains_head:
            return (
                f"{self.name} learns from the scores of the old classes, and the first generation of the protocol "
                f"{protocol.name!r} learns without a classifier: leave it out of --methods."
            )
        # A head that the method always needs is built for it; one that its hyper-parameters ask for has to be the protocol's.
        if method.needs.head is None and method.head_kind not in (None, protocol.head):
            return (
                f"{self.name} learns with a head of kind {method.head_kind!r}, and that of the protocol {protocol.name!r} is "
                f"{protocol.head!r}: name another with --head {method.head_kind}, or another loss with @loss=NAME."
            )
        if (reason := self._unpublished(method, protocol)) is not None:
            return reason
        # A simplex has the dimension of its classes, whatever the backbone.
        if protocol.update_backbone is None or method.needs.head == "simplex":
            return None
        old, new = protocol.dimension(protocol.backbone), protocol.dimension(protocol.update_backbone)
        if old == new:
            return None
        change = f"and the protocol {protocol.name!r} goes from {old} dimensions to {new}: leave it out of --methods."
        if method.needs.same_dimension:
            return f"{self.name} compares coordinates with its parent's, {change}"
        if self.adapter is not None and not ADAPTERS[self.adapter].between_dimensions:
            return f"{self.name} maps between spaces of one dimension, {change}"
        return None

    def _unpublished(self, method: Method, protocol: BenchmarkProtocol) -> str | None:
        """Return that a second network cannot begin as it is to, in a sentence; ``None`` where it can or where there is none."""
        # Where all networks begin with published weights, their backbones are looked at for everybody.
        if method.second_beginning != "pretrained" or protocol.pretrained or protocol.later_weights is not None:
            return None
        backbone = protocol.update_backbone or protocol.backbone
        try:
            require_published(backbone)
        except InputError:
            return (
                f"{self.name} begins a second network with published weights, which no package has of {backbone}: name a file of "
                f"them with --weights, or leave @supporting=pretrained out."
            )
        return None

    def _overruled(self, method: Method, changes: ProtocolChanges) -> str | None:
        """Return what was asked for that the method sets itself, in a sentence; ``None`` where there is no such thing."""
        fixed, given = method.needs.fixed, changes.given()
        for name in fixed:
            if given.get(name) not in (None, method.needs.head):
                return (
                    f"{self.name} learns with a head of kind {method.needs.head!r} and sets --{name} itself: leave out "
                    f"--{name} {given[name]}, or leave {self.name} out of --methods."
                )
        if "dim" in fixed and changes.neck is not None and not makes_dimension(changes.neck):
            return (
                f"{self.name} sets the dimension itself, and --neck {changes.neck} makes no other one: leave it out, or name "
                f"--neck linear."
            )
        return None

    def method(self, protocol: BenchmarkProtocol) -> Method | None:
        """The method with its options, and those that the protocol has for it; ``None`` for the initial generation."""
        return None if self.base == INITIAL else _method(METHODS[self.base], protocol, self.options)


def baseline_of(protocol: BenchmarkProtocol) -> Finetune:
    """Fine-tuning as a protocol has it, by which its first generation learns, too."""
    return _method(Finetune, protocol, {})


def _method(kind: type[M], protocol: BenchmarkProtocol, options: Mapping[str, str]) -> M:
    """A method with options, and those that a protocol has for it."""
    own = dict(protocol.method_options.get(kind.name, {}))
    if not protocol.triplets and "triplet_margin" in {parameter.name for parameter in fields(kind)}:
        own["triplet_margin"] = NO_TRIPLETS
    return kind.with_options({**own, **options})


def contenders_of(
    protocol: BenchmarkProtocol, names: Sequence[str] | None, changes: ProtocolChanges, watcher: Watcher
) -> list[Contender]:
    """The rows that are named, each once; or the usual ones without those that the protocol does not admit.

    Raises:
        InputError: an unknown name, or one that the protocol, or what was changed of it, does not admit.
    """
    found = list(dict.fromkeys(map(Contender.named, USUAL if names is None else names)))
    misfits = {contender: reason for contender in found if (reason := contender.misfit(protocol, changes)) is not None}
    if names is not None and misfits:
        raise InputError(next(iter(misfits.values())))
    for contender in misfits:
        watcher.said(f"{contender.name} is left out, as this protocol does not admit it")
    return [contender for contender in found if contender not in misfits]
