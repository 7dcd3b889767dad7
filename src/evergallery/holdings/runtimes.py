"""The runtime that embeds images for a generation on this machine: found by a short trial, kept, and used from then on.

Where torch sees a GPU, many images go to it. A few, as a search has them, are looked at before one is opened.

What is kept in the cache of the workspace is one file of the network for the runtimes, and beside it what the trial found, for
this processor and these versions of the libraries. Any of it may be deleted at any time.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergallery.data.images import Preprocessing
from evergallery.data.streaming import batch_size
from evergallery.devices.choosing import FEW, Device, device_for
from evergallery.devices.compiling import missing_compiler
from evergallery.errors import EvergalleryError, UnavailableError
from evergallery.files import is_writable, new_file, sha256_of, write_json
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings
from evergallery.network.runtimes import (
    COMPILED,
    OF_FILES,
    Embed,
    Pixels,
    Runtime,
    RuntimeTrial,
    TriedNetwork,
    Vectors,
    asked_for,
    at_once,
    is_installed,
    of_file,
    part_size,
    threads,
    version_of,
)
from evergallery.watching import SILENT, Watcher

if TYPE_CHECKING:
    from evergallery.network.embedder import Embedder

LONG_SECONDS = 30.0
"""Images that torch would take so long for are worth a trial, which takes about half of that for a network of 13 MB."""

FEW_BATCHES = 10
"""So few batches are worth no compiler."""


@dataclass(frozen=True)
class EmbeddingRun:
    """A network as it embeds for a generation, called with pixels (B, S, S, 3) uint8.

    Attributes:
        embed: makes float32 vectors (B, D) of unit length.
        how: in which runtime, on which device and in which numbers, as the journal has it; of a foreign model as far as it is
            known.
        part: images that it takes as well at once as a whole batch, so that nobody need wait until all of one are there; ``None``
            where a whole batch is best, as on a GPU and for somebody else's model.
    """

    embed: Embed
    how: Mapping[str, str]
    part: int | None = None

    def __call__(self, pixels: Pixels) -> Vectors:
        """The vectors of some images."""
        return self.embed(pixels)


def running(holdings: Holdings, generation: Generation, images: int, watcher: Watcher = SILENT) -> EmbeddingRun:
    """Return what embeds images for a generation.

    The runtime that ``--runtime`` names. Without one, torch on a GPU where there are many images and a GPU, compiled where that
    was found to save more time than it takes; or else the runtime that was found to be the fastest here. Where nothing was found
    yet and there are many images, it is found now. For fewer images than go through the network at once, it is the one that was
    fastest with one. A runtime is used where it makes torch's vectors of fixed pictures, and torch
    otherwise, which is said; so is the processor where the GPU has no room for the network. A compiled network is for many images
    alone, so that no search waits for a compiler. Many images of an ONNX file go to a GPU too, where ONNX Runtime can run it
    there; any other model of somebody else runs where it always does.

    Args:
        holdings: of the workspace.
        generation: that looks at the images.
        images: how many there are about to be.
        watcher: hears which runtime was found, or why it is not the one that was asked for.

    Raises:
        InputError: the generation has vectors only, or no runtime has the name that was asked for.
        MissingExtraError: the runtime is not installed.
        DamagedError: the generation's weights are missing or altered.
    """
    asked = asked_for()
    if generation.runs_on_gpus and asked not in OF_FILES and device_for(images) == "cuda":
        try:
            return _compiled(holdings, _EmbeddingRequest(generation, images, asked, watcher), "cuda")
        except UnavailableError as error:
            watcher.said(f"{generation.name} looks at images on the processor: {error}")
    if asked == COMPILED and images >= FEW:
        return _compiled(holdings, _EmbeddingRequest(generation, images, asked, watcher), "cpu")
    if not generation.can_be_parent or asked in ("torch", COMPILED):
        return _opened(holdings, generation)
    network = holdings.loaded.runnable(generation)
    if network is None:
        network = _found(holdings.directory, _of_generation(holdings, generation), images, asked, watcher)
        if network is None:
            return _opened(holdings, generation)
        holdings.loaded.keep_runnable(generation, network)
    chosen = asked or network.trial.for_images(images, at_once(generation.preprocessing.size))
    found = network.in_runtime(chosen)
    if found is None:
        return _opened(holdings, generation)
    return EmbeddingRun(found, {"runtime": chosen, "numbers": "float32"}, at_once(generation.preprocessing.size))


def running_backbone(
    directory: Path, embedder: "Embedder", preprocessing: Preprocessing, images: int, watcher: Watcher = SILENT
) -> Embed | None:
    """Return what makes features (B, W) of decoded images by an embedder's backbone on a processor; ``None`` for torch.

    Found, kept and used as ``running`` finds, keeps and uses the runtime of a whole network.

    Args:
        directory: of the workspace.
        embedder: whose backbone looks at the images.
        preprocessing: of its input.
        images: how many there are about to be, each of its views for one.
        watcher: hears which runtime was found, or why it is not the one that was asked for.

    Raises:
        InputError: no runtime has the name that was asked for.
        MissingExtraError: the runtime is not installed.
    """
    asked = asked_for()
    if asked in ("torch", COMPILED):
        return None
    network = _found(directory, _of_backbone(embedder, preprocessing), images, asked, watcher)
    if network is None:
        return None
    return network.in_runtime(asked or network.trial.for_images(images, at_once(preprocessing.size)))


@dataclass(frozen=True)
class _Runnable:
    """A network that the runtimes can be tried on: a generation's, or the backbone of one.

    Attributes:
        name: of it in messages.
        fingerprint: of all that its vectors depend on, by which its file is called.
        preprocessing: of its input.
        in_torch: opens it in torch.
        write: writes it as a file for the runtimes.
    """

    name: str
    fingerprint: str
    preprocessing: Preprocessing
    in_torch: Callable[[], Embed]
    write: Callable[[Path], None]

    @property
    def part(self) -> int:
        """Images that it takes best at once."""
        return at_once(self.preprocessing.size)


def _of_generation(holdings: Holdings, generation: Generation) -> _Runnable:
    def write(path: Path) -> None:
        from evergallery.network.embedder import Embedder
        from evergallery.network.features import feature_width
        from evergallery.network.onnx_export import export_runnable, export_runnable_on

        embedder, preprocessing = holdings.loaded.embedder(generation), generation.preprocessing
        if isinstance(embedder, Embedder):
            # A frozen backbone is written once for all generations that have it.
            backbone = _kept(holdings.directory, _of_backbone(embedder, preprocessing))
            if backbone is not None and backbone.file is not None:
                export_runnable_on(backbone.file, embedder, feature_width(embedder), path)
                return
        export_runnable(embedder, preprocessing, path)

    return _Runnable(
        generation.name,
        generation.fingerprint,
        generation.preprocessing,
        lambda: _opened(holdings, generation).embed,
        write,
    )


def _of_backbone(embedder: "Embedder", preprocessing: Preprocessing) -> _Runnable:
    from evergallery.network.features import backbone_fingerprint, features_in_torch
    from evergallery.network.onnx_export import export_runnable_backbone

    return _Runnable(
        f"the backbone {embedder.architecture.backbone}",
        backbone_fingerprint(embedder, preprocessing),
        preprocessing,
        lambda: features_in_torch(embedder, preprocessing),
        lambda path: export_runnable_backbone(embedder, preprocessing, path),
    )


def _opened(holdings: Holdings, generation: Generation, device: Device = "cpu") -> EmbeddingRun:
    """A network in torch, or somebody else's model."""
    from evergallery.network.extraction import in_torch

    embed = in_torch(holdings.loaded.embedder(generation, device), generation.preprocessing)
    place = {"device": device} if device != "cpu" else {}
    if generation.can_be_parent:
        part = part_size(generation.preprocessing.size) if device == "cpu" else None
        return EmbeddingRun(embed, {"runtime": "torch", **place, "numbers": "float32"}, part)
    if generation.card.kind != "onnx":
        return EmbeddingRun(embed, {})
    numbers = {name: str(value) for name, value in generation.card.model.items() if name == "numbers"}
    return EmbeddingRun(embed, {"runtime": "openvino" if numbers else "onnxruntime", **place, **numbers})


@dataclass(frozen=True)
class _EmbeddingRequest:
    """The generation that is to look at so many images, the runtime that was asked for, and whoever watches."""

    generation: Generation
    images: int
    asked: Runtime | None
    watcher: Watcher


def _compiled(holdings: Holdings, request: _EmbeddingRequest, device: Device) -> EmbeddingRun:
    """A network on a device, compiled where that was asked for or saves more seconds than compiling takes; or an ONNX file."""
    generation, images, asked, watcher = request.generation, request.images, request.asked, request.watcher
    plain = _opened(holdings, generation, device)
    if not generation.can_be_parent or asked == "torch":
        return plain
    missing = missing_compiler(device)
    if missing:
        if asked:
            watcher.said(f"{generation.name} runs in torch, not in {COMPILED}: {missing}")
        return plain
    from evergallery.network.compiled import CompiledNetwork
    from evergallery.network.trial import torch_seconds, tried

    preprocessing = generation.preprocessing
    size = batch_size(preprocessing.size) if device == "cuda" else part_size(preprocessing.size)
    known = holdings.loaded.compiled(generation, device)
    if asked is None and known is None and images <= FEW_BATCHES * size:
        return plain
    record = _record(holdings.directory, generation.fingerprint, device)
    trial = _trial_in(record)
    if trial is None:
        if asked is None and not is_writable(holdings.directory):
            return plain
        if asked is None and images * torch_seconds(plain, preprocessing.size, size) <= LONG_SECONDS:
            return plain
        watcher.said(f"compiling {generation.name} to see whether that is worth it on this machine, once")
        network = CompiledNetwork(holdings.loaded.embedder(generation, device), preprocessing, size)
        trial = tried(plain, {COMPILED: lambda: network}, preprocessing, size)
        watcher.said(trial.told(generation.name))
        if COMPILED not in trial.refused:
            known = network
            holdings.loaded.keep_compiled(generation, device, network)
        if is_writable(holdings.directory):
            _keep(record, trial, None, device)
    if COMPILED in trial.refused:
        if asked:
            watcher.said(f"{generation.name} runs in torch, not in {COMPILED}: {trial.refused[COMPILED]}")
        return plain
    to_begin = 0.0 if known else trial.seconds[COMPILED]
    if asked is None and (trial.runtime != COMPILED or trial.saved(images, COMPILED) <= to_begin):
        return plain
    if known is None:
        known = CompiledNetwork(holdings.loaded.embedder(generation, device), preprocessing, size)
        holdings.loaded.keep_compiled(generation, device, known)
    return EmbeddingRun(known, {**plain.how, "runtime": COMPILED}, plain.part)


def _found(
    directory: Path, network: _Runnable, images: int, asked: Runtime | None, watcher: Watcher
) -> TriedNetwork | None:
    """Return what was found of the runtimes earlier, or now where so many images are worth it; ``None`` where they are not."""
    found = _kept(directory, network)
    if found is None and _is_worth_it(directory, network, images, asked, watcher):
        found = _tried(directory, network, watcher)
    wanted = asked or (found.trial.for_images(images, network.part) if found else "torch")
    if found is not None and wanted != "torch" and found.in_runtime(wanted) is None:
        watcher.said(f"{network.name} runs in torch, not in {wanted}: {found.refused[wanted]}")
    return found


def _is_worth_it(directory: Path, network: _Runnable, images: int, asked: Runtime | None, watcher: Watcher) -> bool:
    if not _others():
        return False
    if asked is not None:
        if not is_writable(directory):
            watcher.said(f"{network.name} runs in torch, not in {asked}: {directory} cannot be written to")
            return False
        return True
    if images < FEW or not is_writable(directory):
        return False
    from evergallery.network.trial import torch_seconds

    return images * torch_seconds(network.in_torch(), network.preprocessing.size, network.part) > LONG_SECONDS


def _others() -> list[Runtime]:
    return [name for name in OF_FILES if is_installed(name)]


def _tried(directory: Path, network: _Runnable, watcher: Watcher) -> TriedNetwork:
    """Try the runtimes, and keep what is found."""
    from evergallery.network.trial import tried

    watcher.said(f"finding the fastest runtime for {network.name} on this machine, once")
    _folder(directory).mkdir(parents=True, exist_ok=True)
    file: Path | None = _file(directory, network.fingerprint)
    try:
        with new_file(_file(directory, network.fingerprint)) as temporary:
            network.write(temporary)
    except EvergalleryError:
        raise
    # The exporter's errors have no common base; a network that it cannot write runs in torch.
    except Exception:
        file = None
    side = network.preprocessing.size
    others = {name: partial(of_file, name, file, side) for name in _others()} if file else {}
    trial = tried(network.in_torch(), others, network.preprocessing, network.part)
    if file is None:
        trial = replace(trial, refused=dict.fromkeys(_others(), "the network cannot be written as an ONNX file"))
    watcher.said(trial.told(network.name))
    _keep(_record(directory, network.fingerprint), trial, file)
    return TriedNetwork(trial, file, side)


def _keep(record: Path, trial: RuntimeTrial, file: Path | None, compiled_for: Device | None = None) -> None:
    """Write down what a trial has found."""
    content = {
        "machine": machine(compiled_for),
        "threads": threads(),
        "file": None if file is None else sha256_of(file),
        **trial.to_dict(),
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, content)


def _trial_in(record: Path) -> RuntimeTrial | None:
    """Return what a trial of a compiled network has found earlier on this machine."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return RuntimeTrial.from_dict(json.loads(record.read_text()))
    return None


def _kept(directory: Path, network: _Runnable) -> TriedNetwork | None:
    """Return what an earlier trial on this machine has found, where its file is still what it was."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(_record(directory, network.fingerprint).read_text())
        trial = RuntimeTrial.from_dict(content)
        file = None if content["file"] is None else _file(directory, network.fingerprint)
        if file is None or sha256_of(file) == content["file"]:
            return TriedNetwork(trial, file, network.preprocessing.size)
    return None


def _folder(directory: Path) -> Path:
    return directory / "cache" / "runtimes"


def _file(directory: Path, fingerprint: str) -> Path:
    return _folder(directory) / f"{fingerprint[:32]}.onnx"


def _record(directory: Path, fingerprint: str, compiled_for: Device | None = None) -> Path:
    name = hashlib.sha256(json.dumps(machine(compiled_for), sort_keys=True).encode()).hexdigest()
    return _folder(directory) / f"{fingerprint[:32]}-{name[:16]}.json"


def machine(compiled_for: Device | None = None) -> dict[str, Any]:
    """Return what a trial holds for: another processor or version may have another fastest runtime.

    Args:
        compiled_for: the device that a network was compiled for; ``None`` of a trial of files.
    """
    versions = {name: version_of(name) for name in ("torch", *OF_FILES) if is_installed(name)}
    found = {"processor": _processor(), "versions": versions}
    if compiled_for is None:
        return found
    import torch

    return {**found, "compiled for": torch.cuda.get_device_name() if compiled_for == "cuda" else "the processor"}


@cache
def _processor() -> str:
    """The processor by its name and what it can do, since virtual ones have the same name."""
    lines: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            lines.setdefault(name.strip(), value.strip())
    features = lines.get("flags") or lines.get("Features") or ""
    digest = hashlib.sha256(" ".join(sorted(features.split())).encode()).hexdigest()[:8]
    return f"{lines.get('model name') or platform.processor() or 'processor'}, {platform.machine()}, features {digest}"
