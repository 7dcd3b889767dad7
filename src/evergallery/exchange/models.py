"""Models that other systems have made become generations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evergallery.data.images import REDUCED, Fit, Interpolation, Preprocessing
from evergallery.data.images.sizes import Size
from evergallery.errors import InputError, require_seed
from evergallery.exchange.known import known_generation, next_generation
from evergallery.files import lock
from evergallery.generations.card import MethodCard
from evergallery.generations.fingerprint import fingerprint_of
from evergallery.generations.generation import Generation, account_path
from evergallery.generations.writing import write_model, write_network
from evergallery.holdings.holdings import Holdings, promote_first
from evergallery.network import Architecture, Embedder, Head, Network, build_backbone
from evergallery.network.backbones import load_weights
from evergallery.network.endpoint import MEAN, STD, Endpoint, EndpointModel, asking, first_look
from evergallery.network.endpoint_account import Account
from evergallery.network.foreign import (
    PROBE_CELLS,
    function_model,
    function_name,
    onnx_model,
    onnx_preprocessing,
    probe,
    probe_batch,
    vectors_of,
)
from evergallery.watching import SILENT, Watcher

# Of models that do not say what they expect: what most networks were trained with.
USUAL = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def register(
    holdings: Holdings,
    model: "str | Path | Endpoint | Callable[..., Any]",
    *,
    weights: str | Path | None = None,
    pretrained: bool = True,
    seed: int = 0,
    size: Size | None = None,
    fit: Fit | None = None,
    kept: float | None = None,
    interpolation: Interpolation | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    reduce_jpegs: bool = False,
    watcher: Watcher = SILENT,
) -> Generation:
    """Make a generation of a model that somebody else has trained; the first one is promoted at once.

    A model that is registered already, with the same preprocessing, is returned as it is; of an endpoint the terms are then
    those given now.

    Args:
        model: a timm model, ``torchvision/NAME``, an ``.onnx`` file, or a Python function that turns a normalised
            float32 array (B, 3, H, W) into vectors (B, D): itself, or its name ``package.module:function``; or an
            ``Endpoint``, or only its address, that embeds pictures as OpenAI's embeddings do.
        weights: a file of weights, safetensors or a plain state dict, for a timm or torchvision model.
        pretrained: where no file is given, load the published weights rather than initial ones.
        seed: of the initial weights.
        size: side of the input in pixels, or height and width; the model's own by default, 224 where nobody knows. An ONNX
            file that ``export_model`` has written says itself what preprocessing it wants.
        fit: how an image of another shape is brought to that of the input; crop where nobody knows.
        kept: share of the sides of what ``crop`` keeps that the model sees, in its middle; 1 by default, 224 / 256 for the usual
            "shorter side to 256, then the middle 224".
        interpolation: the model's own by default, bilinear where nobody knows.
        mean: subtracted from each channel in [0, 1]; the model's own by default, ImageNet's where nobody knows.
        std: likewise what each channel is divided by.
        reduce_jpegs: decode a JPEG at an eighth, a quarter or half of its size where that is still not smaller than the input.
        watcher: hears of a host that is asked for weights.

    Raises:
        InputError: there is no such model, or it fails on a batch of pictures.
        MissingExtraError: an ONNX model without onnxruntime.
        UnavailableError: an endpoint does not answer.
        RefusedError: its terms do not allow so many pictures.
    """
    if isinstance(model, str) and model.lower().startswith(("http://", "https://")):
        model = Endpoint.of(model)
    require_seed(seed)
    decoding = REDUCED if reduce_jpegs else None
    asked = {
        "size": size, "fit": fit, "kept": kept, "interpolation": interpolation, "mean": mean, "std": std, "decoding": decoding,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    with lock(holdings.directory / "generations" / ".lock", "register"):
        generation = _registered(holdings, model, _Weights(weights, pretrained, seed), given, watcher)
        promote_first(holdings, generation)
    holdings.journal.record("register", generation=generation.name, kind=generation.card.kind, model=str(model))
    return generation


@dataclass(frozen=True)
class _Weights:
    """The source of a network's weights: a file, or else the published ones, or else initial ones of a seed."""

    file: str | Path | None
    pretrained: bool
    seed: int

    def __str__(self) -> str:
        if self.file is not None:
            return str(self.file)
        return "pretrained" if self.pretrained else f"seed {self.seed}"


def _registered(
    holdings: Holdings,
    model: "str | Path | Endpoint | Callable[..., Any]",
    weights: _Weights,
    given: dict[str, Any],
    watcher: Watcher,
) -> Generation:
    """Write a generation of whichever kind the model is, or return the one that it is already."""
    if isinstance(model, Endpoint):
        return _register_endpoint(holdings, model, given, weights.file)
    if _is_onnx(model) or callable(model) or ":" in str(model):
        if weights.file is not None:
            raise InputError(f"{model} has its weights inside: leave --weights out.")
        return _register_foreign(holdings, model, given)
    return _register_network(holdings, str(model), weights, given, watcher)


def _is_onnx(model: object) -> bool:
    return isinstance(model, str | Path) and str(model).lower().endswith(".onnx")


def _register_network(
    holdings: Holdings, model: str, weights: _Weights, given: dict[str, Any], watcher: Watcher
) -> Generation:
    """Write a network of timm or torchvision, or return the generation that it is already."""
    own = build_backbone(model, seed=weights.seed)
    usual = {"size": own.size, "interpolation": own.interpolation, "mean": own.mean, "std": own.std}
    preprocessing = Preprocessing(**{**usual, **given})
    pretrained = weights.pretrained and weights.file is None
    embedder = Embedder(Architecture(backbone=model), pretrained=pretrained, seed=weights.seed, watcher=watcher)
    if weights.file is not None:
        load_weights(embedder.backbone, Path(weights.file).expanduser())
    network = Network(embedder, Head(embedder.dimension, 0, holdings.state.head)).eval()
    _check_on_probe(model, embedder, preprocessing)
    known = known_generation(holdings, fingerprint_of(embedder, preprocessing))
    if known:
        return known
    name, place = next_generation(holdings)
    method = MethodCard(name="register", parameters={"model": model, "weights": str(weights)})
    return write_network(place, network, preprocessing, name=name, kind="model", parent=None, method=method)


def _register_foreign(holdings: Holdings, model: Any, given: dict[str, Any]) -> Generation:
    """Write an ONNX file or a Python function, or return the generation that it is already."""
    path = Path(model).expanduser() if _is_onnx(model) else None
    if path is not None and not path.is_file():
        raise InputError(f"There is no file {path}: name an .onnx file.")
    own = {} if path is None else onnx_preprocessing(path)
    preprocessing = Preprocessing(**{**USUAL, **own, **given})
    found = (
        function_model(function_name(model), preprocessing.size)
        if path is None
        else onnx_model(path, preprocessing.size)
    )
    known = known_generation(holdings, fingerprint_of(found, preprocessing))
    if known:
        return known
    name, place = next_generation(holdings)
    method = MethodCard(name="register", parameters={"model": found.name})
    return write_model(place, found, preprocessing, name=name, method=method)


def _register_endpoint(
    holdings: Holdings, endpoint: Endpoint, given: dict[str, Any], weights: str | Path | None
) -> Generation:
    """Write an endpoint, or take its new terms where it is known: it still makes of the probe pictures what it did."""
    inside = [name for name in ("mean", "std") if name in given] + (["weights"] if weights is not None else [])
    if inside:
        raise InputError(f"An endpoint is sent pictures as they are: leave --{' and --'.join(inside)} out.")
    preprocessing = Preprocessing(**{"size": USUAL["size"], **given, "mean": MEAN, "std": STD})
    same = [
        generation
        for generation in holdings.generations()
        if generation.is_asked
        and generation.card.model == endpoint.identity
        and generation.preprocessing == preprocessing
    ]
    for generation in same:
        Account.open(generation.account_path, endpoint.terms)
    name, place = next_generation(holdings)
    account = Account.open(account_path(place), endpoint.terms)
    try:
        probes = first_look(endpoint, asking(endpoint, account), preprocessing.size)
        known = next((generation for generation in same if generation.makes(probes)), None)
    except BaseException:
        account.forget()
        raise
    if known is not None:
        account.forget()
        return known
    model = EndpointModel(endpoint, account, probes.shape[1])
    method = MethodCard(name="register", parameters={"model": str(endpoint)})
    return write_model(place, model, preprocessing, name=name, method=method, probes=probes)


def _check_on_probe(model: str, embedder: Embedder, preprocessing: Preprocessing) -> None:
    def run(_: object) -> object:
        return probe(embedder, preprocessing).numpy()

    vectors = vectors_of(model, run, probe_batch(len(PROBE_CELLS), preprocessing.size))
    if vectors.shape[1] != embedder.dimension:
        raise InputError(
            f"{model} makes vectors of {vectors.shape[1]} dimensions and says {embedder.dimension}: choose another model."
        )
