"""``evergallery learn``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Head, Neck
from evergallery.cli.common import (
    HERE,
    DataArgument,
    DataDirOption,
    JsonOption,
    LargestOption,
    WorkspaceOption,
    open_workspace,
)
from evergallery.cli.console import out, print_json, print_skipped, say, watching
from evergallery.cli.settings import with_settings

if TYPE_CHECKING:
    from evergallery.generations.generation import Generation
    from evergallery.workspace import Workspace

MethodOption = Annotated[
    str | None,
    typer.Option(
        help="finetune, evergreen, csd, mutual, dual-tuning, joint, …; evergreen once there is a parent.",
        autocompletion=completion.methods,
    ),
]
LossOption = Annotated[
    str | None,
    typer.Option(help="On the new images, for methods that leave it open: arcface, triplet, CircleLoss …"),
]
OptionOption = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE, a hyper-parameter of the method; may be repeated.")
]
ParentOption = Annotated[
    str | None,
    typer.Option(
        help="Learn from this generation; the promoted one by default.", autocompletion=completion.generations
    ),
]
OldDataOption = Annotated[str | None, typer.Option(help="Images of the old categories, for methods that need them.")]
ClassesOption = Annotated[str | None, typer.Option(help="Only these classes: A,B,C, or @FILE with one on each line.")]
TaskOption = Annotated[str | None, typer.Option(help="Only a group of the classes: 1/2 is the first half.")]
ClassOrderSeedOption = Annotated[
    int | None,
    typer.Option(min=0, help="Seed of the order in which classes are dealt to groups; natural order by default."),
]
BackboneOption = Annotated[
    str | None, typer.Option(help="Another backbone than the parent's.", autocompletion=completion.backbones)
]
DimOption = Annotated[int | None, typer.Option(min=2, help="Another dimension of the embedding.")]
NeckOption = Annotated[Neck | None, typer.Option(help="Other layers after the backbone.")]
HeadOption = Annotated[Head | None, typer.Option(help="Another classifier in training.")]
FromScratchOption = Annotated[
    bool, typer.Option("--from-scratch", help="Begin with new weights rather than the parent's.")
]
PretrainedOption = Annotated[bool, typer.Option("--pretrained", help="Begin with the backbone's published weights.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Begin with the backbone's weights in this file: safetensors or a state dict.")
]
SupportingWeightsOption = Annotated[
    Path | None, typer.Option(help="A file of weights for the second network of mutual with supporting=pretrained.")
]


@with_settings
def learn(
    data: DataArgument,
    settings: dict[str, Any],
    workspace: WorkspaceOption = HERE,
    method: MethodOption = None,
    loss: LossOption = None,
    option: OptionOption = None,
    parent: ParentOption = None,
    old_data: OldDataOption = None,
    classes: ClassesOption = None,
    task: TaskOption = None,
    class_order_seed: ClassOrderSeedOption = None,
    backbone: BackboneOption = None,
    dim: DimOption = None,
    neck: NeckOption = None,
    head: HeadOption = None,
    from_scratch: FromScratchOption = False,
    pretrained: PretrainedOption = False,
    weights: WeightsOption = None,
    supporting_weights: SupportingWeightsOption = None,
    data_dir: DataDirOption = None,
    largest_image: LargestOption = None,
    json: JsonOption = False,
) -> None:
    """Learn a generation from images of new categories; an interrupted run goes on."""
    from evergallery.cli.arguments import choose_classes, choose_method
    from evergallery.network.ranks import join
    from evergallery.training import resolve_device

    space = open_workspace(workspace)
    options = [*(option or []), *([f"loss={loss}"] if loss is not None else [])]
    chosen, wanted = choose_method(method, options), choose_classes(classes, task, class_order_seed)
    ranks = join(resolve_device(settings.get("device", "auto")))
    with watching(json) as watcher:
        generation = space.learn(
            data,
            method=chosen,
            parent=parent,
            old_data=old_data,
            classes=wanted,
            settings=settings,
            backbone=backbone,
            dim=dim,
            neck=neck,
            head=head,
            pretrained=pretrained,
            weights=weights,
            supporting_weights=supporting_weights,
            from_scratch=from_scratch,
            data_dir=data_dir,
            watcher=watcher,
        )
    if ranks.is_first:
        _show(space, generation, json)


def _show(space: "Workspace", generation: "Generation", json: bool) -> None:
    """The generation that was learned, and what to do next."""
    card = generation.card
    if json:
        print_json(card.model_dump(mode="json"))
        return
    recall = card.training["validation"].get("recall@1")
    validated = f", recall@1 {100 * recall:.1f} % on its validation part" if recall is not None else ""
    out.print(
        f"{card.name}: {len(card.new_classes)} new classes by {card.method.name}, {card.data['training']} images, "
        f"{card.training['seconds']:.0f} s{validated}.",
        soft_wrap=True,
    )
    for other in space.generations():
        if other.name != card.name and other.fingerprint == card.fingerprint:
            say(f"{card.name} is the same network as {other.name}.")
            break
    print_skipped(card.data["skipped"])
    if space.holdings.state.promoted != card.name:
        out.print(f"Next:  evergallery check {card.name} --data HELD_OUT", soft_wrap=True)
