"""Modes of verbs, and the options that belong to each: one that was given without its mode is refused, never passed over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Owner:
    """The mode of a verb that some of its options belong to.

    Attributes:
        name: of it, in words.
        options: parameters of the verb.
        is_asked: whether it is asked for, by the values of all parameters.
        remedy: how it is asked for, as the sentence goes on.
    """

    name: str
    options: tuple[str, ...]
    is_asked: Callable[[Values], bool]
    remedy: str


def is_address(model: str) -> bool:
    """Return whether a model is named by the address of an endpoint."""
    return model.lower().startswith(("http://", "https://"))


def _has_weights(values: Values) -> bool:
    """Return whether a model that is registered is of timm or torchvision, which come with weights or without."""
    name = values["model"].lower()
    return not (is_address(name) or name.endswith(".onnx") or ":" in name)


def _runs_protocol(values: Values) -> bool:
    return values["protocol"] not in ("", "compare") and not values["list_protocols"]


OWNERS: dict[str, tuple[Owner, ...]] = {
    "register": (
        Owner(
            "an endpoint",
            (
                "model_name", "body", "key_env", "batch", "timeout", "tries", "rate", "price_per_1000", "max_cost",
                "max_pictures",
            ),
            lambda values: is_address(values["model"]),
            "give its address, such as https://HOST/v1/embeddings",
        ),
        Owner(
            "a model of timm or torchvision",
            ("pretrained", "seed"),
            _has_weights,
            "any other has its weights inside; leave it out",
        ),
        Owner(
            "initial weights",
            ("seed",),
            lambda values: not values["pretrained"] and values["weights"] is None,
            "give it with --no-pretrained",
        ),
    ),
    "learn": (
        Owner("--task", ("class_order_seed",), lambda values: values["task"] is not None, "give it with --task K/N"),
    ),
    "check": (
        Owner(
            "the check of one generation",
            ("virtual", "flips"),
            lambda values: values["candidates"] is None,
            "name one generation in place of --candidates",
        ),
    ),
    "report": (
        Owner(
            "held-out images",
            ("queries", "gallery", "data_dir"),
            lambda values: values["data"] is not None,
            "name them with --data",
        ),
    ),
    "refresh": (
        Owner(
            "--commit",
            ("yes",),
            lambda values: values["commit"] or values["discard"],
            "give it with  evergallery refresh --commit --yes",
        ),
        Owner(
            "new vectors",
            (
                "adapter", "order", "fraction", "budget", "until", "rate", "images", "data_dir", "cluster", "workers",
                "images_from", "largest_image", "runtime",
            ),
            lambda values: values["generation"] is not None,
            "name the generation that makes them",
        ),
        Owner(
            "a refresh that looks at images",
            ("images", "cluster", "workers"),
            lambda values: values["adapter"] is None,
            "an adapter maps the stored vectors; leave --with out",
        ),
    ),
    "plan": (
        Owner(
            "a refresh that looks at images",
            ("images",),
            lambda values: values["adapter"] is None,
            "an adapter maps the stored vectors; leave --with out",
        ),
    ),
    "serve": (
        Owner(
            "a generation that answers beside the promoted one",
            ("sample", "shadow_answer"),
            lambda values: values["shadow"] is not None,
            "name it with --shadow",
        ),
        Owner(
            "a generation that answers some clients",
            ("share", "by", "canary_answer", "force", "why"),
            lambda values: values["canary"] is not None,
            "name it with --canary",
        ),
    ),
    "benchmark": (
        Owner(
            "a comparison",
            ("sets",),
            lambda values: values["protocol"] == "compare",
            "write  evergallery benchmark compare A B",
        ),
        Owner(
            "a protocol that is run",
            (
                "methods", "seeds", "data", "data_dir", "budget", "backbone", "update_backbone", "dim", "neck", "head",
                "pretrained", "weights", "update_weights", "epochs", "precision", "size", "fit", "ks", "evaluate",
                "processes", "out_directory",
            ),
            _runs_protocol,
            "name it; list them with  evergallery benchmark --list",
        ),
    ),
}  # fmt: skip
"""By verb."""


def require_owners(verb: str, context: typer.Context, values: Values) -> None:
    """Refuse an option that was given on the command line without what it belongs to.

    Args:
        verb: its function's name.
        context: knows what was given.
        values: of all parameters.

    Raises:
        InputError: there is one.
    """
    from evergallery.errors import InputError

    for owner in OWNERS.get(verb, ()):
        if owner.is_asked(values):
            continue
        given = [
            max(parameter.opts, key=len) if parameter.opts[0].startswith("-") else str(parameter.name).upper()
            for parameter in context.command.params
            if parameter.name in owner.options and _is_given(context, str(parameter.name))
        ]
        if given:
            belongs = "belongs" if len(given) == 1 else "belong"
            raise InputError(f"{' and '.join(given)} {belongs} to {owner.name}: {owner.remedy}.")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
