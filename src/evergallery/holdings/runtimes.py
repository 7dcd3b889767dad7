"""The runtime that embeds images for a generation on this machine: found by a short trial, kept, and used from then on.

Where torch sees a GPU, many images go to it. A few, as a search has them, are looked at before one is opened.

What is kept in the cache of the workspace is one file of the network for the runtimes, and beside it what the trial found, for
this processor and these versions of the libraries. Any of it may be deleted at any time.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evergallery.devices.choosing import FEW, Device, device_for
from evergallery.errors import EvergalleryError, UnavailableError
from evergallery.files import is_writable, new_file, sha256_of, write_json
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings
from evergallery.network.runtimes import (
    RUNTIMES,
    Embed,
    Pixels,
    Runtime,
    RuntimeTrial,
    TriedNetwork,
    Vectors,
    asked_for,
    is_installed,
    part_size,
    threads,
    version_of,
)
from evergallery.watching import SILENT, Watcher

LONG_SECONDS = 30.0
"""Images that torch would take so long for are worth a trial, which takes about half of that for a network of 13 MB."""


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

    The runtime that ``--runtime`` names. Without one, torch on a GPU where there are many images and a GPU, or else the runtime
    that was found to be the fastest here; where nothing was found yet and there are many images, it is found now. A runtime is
    used where it makes torch's vectors of fixed pictures, and torch otherwise, which is said; so is the processor where the GPU
    has no room for the network. Many images of an ONNX file go to a GPU too, where ONNX Runtime can run it there; any other model
    of somebody else runs where it always does.

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
    if generation.runs_on_gpus and asked in (None, "torch") and device_for(images) == "cuda":
        try:
            return _opened(holdings, generation, "cuda")
        except UnavailableError as error:
            watcher.said(f"{generation.name} looks at images on the processor: {error}")
    if not generation.can_be_parent or asked == "torch":
        return _opened(holdings, generation)
    network = holdings.loaded.runnable(generation)
    if network is None:
        network = _kept(holdings, generation)
        if network is None and _is_worth_it(holdings, generation, images, asked, watcher):
            network = _tried(holdings, generation, watcher)
        if network is None:
            return _opened(holdings, generation)
        holdings.loaded.keep_runnable(generation, network)
        wanted = asked or network.trial.runtime
        if network.in_runtime(wanted) is None and wanted != "torch":
            watcher.said(f"{generation.name} runs in torch, not in {wanted}: {network.refused[wanted]}")
    chosen = asked or network.trial.runtime
    found = network.in_runtime(chosen)
    if found is None:
        return _opened(holdings, generation)
    return EmbeddingRun(found, {"runtime": chosen, "numbers": "float32"}, part_size(generation.preprocessing.size))


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


def _is_worth_it(
    holdings: Holdings, generation: Generation, images: int, asked: Runtime | None, watcher: Watcher
) -> bool:
    if not _others():
        return False
    if asked is not None:
        if not is_writable(holdings.directory):
            watcher.said(f"{generation.name} runs in torch, not in {asked}: {holdings.directory} cannot be written to")
            return False
        return True
    if images < FEW or not is_writable(holdings.directory):
        return False
    from evergallery.network.trial import torch_seconds

    each = torch_seconds(_opened(holdings, generation), generation.preprocessing.size)
    return images * each > LONG_SECONDS


def _others() -> list[Runtime]:
    return [name for name in RUNTIMES if name != "torch" and is_installed(name)]


def _tried(holdings: Holdings, generation: Generation, watcher: Watcher) -> TriedNetwork:
    """Try the runtimes, and keep what is found."""
    from evergallery.network.onnx_export import export_runnable
    from evergallery.network.trial import tried

    watcher.said(f"finding the fastest runtime for {generation.name} on this machine, once")
    _folder(holdings).mkdir(parents=True, exist_ok=True)
    file: Path | None = _file(holdings, generation)
    try:
        with new_file(_file(holdings, generation)) as temporary:
            export_runnable(holdings.loaded.embedder(generation), generation.preprocessing, temporary)
    except EvergalleryError:
        raise
    # The exporter's errors have no common base; a network that it cannot write runs in torch.
    except Exception:
        file = None
    trial = tried(_opened(holdings, generation), file, generation.preprocessing, _others())
    watcher.said(trial.told(generation.name))
    content = {
        "machine": machine(),
        "threads": threads(),
        "file": None if file is None else sha256_of(file),
        **trial.to_dict(),
    }
    write_json(_record(holdings, generation), content)
    return TriedNetwork(trial, file, generation.preprocessing.size)


def _kept(holdings: Holdings, generation: Generation) -> TriedNetwork | None:
    """Return what an earlier trial on this machine has found, where its file is still what it was."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(_record(holdings, generation).read_text())
        trial = RuntimeTrial.from_dict(content)
        file = None if content["file"] is None else _file(holdings, generation)
        if file is None or sha256_of(file) == content["file"]:
            return TriedNetwork(trial, file, generation.preprocessing.size)
    return None


def _folder(holdings: Holdings) -> Path:
    return holdings.directory / "cache" / "runtimes"


def _file(holdings: Holdings, generation: Generation) -> Path:
    return _folder(holdings) / f"{generation.fingerprint[:32]}.onnx"


def _record(holdings: Holdings, generation: Generation) -> Path:
    name = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()
    return _folder(holdings) / f"{generation.fingerprint[:32]}-{name[:16]}.json"


def machine() -> dict[str, Any]:
    """Return what a trial holds for: another processor or version may have another fastest runtime."""
    return {
        "processor": _processor(),
        "versions": {name: version_of(name) for name in RUNTIMES if is_installed(name)},
    }


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
