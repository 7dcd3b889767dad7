"""Models of a workspace that stay in memory: loading one costs more than a search."""

import threading
from typing import TYPE_CHECKING

from evergallery.adapters.stored import StoredAdapter
from evergallery.generations.generation import Generation
from evergallery.holdings.maps import Map, maps_to
from evergallery.holdings.spaces import Space

if TYPE_CHECKING:
    from evergallery.adapters import Adapter
    from evergallery.devices.choosing import Device
    from evergallery.network import Extractor
    from evergallery.network.compiled import CompiledNetwork
    from evergallery.network.runtimes import TriedNetwork

EMBEDDERS = 4
"""The number of models that stay on a device: queries come by the promoted generation, and by those laid beside it."""


class LoadedModels:
    """The last few embedders, and every adapter that was asked for. Threads may share it."""

    def __init__(self) -> None:
        self._embedders: dict[tuple[str, str], Extractor] = {}
        self._one_loader = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._runnable: dict[str, TriedNetwork] = {}
        self._compiled: dict[tuple[str, str], CompiledNetwork] = {}
        self._between: dict[tuple[str, str], Map | None] = {}

    def embedder(self, generation: Generation, device: "Device" = "cpu") -> "Extractor":
        """Return what embeds images for a generation.

        Args:
            generation: that looks at them.
            device: of a network or an ONNX file; other models run where they like.

        Raises:
            InputError: the generation has vectors only.
            DamagedError: its weights are missing or altered.
            UnavailableError: a GPU has no memory for it, or cannot run it.
        """
        key = generation.fingerprint, device if generation.runs_on_gpus else "cpu"
        known = self._embedders.get(key)
        if known is not None:
            return known
        # Queries of a generation that is loaded go on while another one loads.
        with self._one_loader:
            loaded = dict(self._embedders)
            if key not in loaded:
                loaded[key] = generation.embedder(device)
                # What looks at many images on a GPU takes no query's model from the processor.
                beside = [name for name in loaded if name[1] == key[1]][:-EMBEDDERS]
                self._embedders = {name: model for name, model in loaded.items() if name not in beside}
            return loaded[key]

    def leave_gpu(self) -> None:
        """Give back a GPU's memory, once many images have been looked at: another process may want it."""
        with self._one_loader:
            on_gpu = [key for key in self._embedders if key[1] == "cuda"]
            self._embedders = {key: model for key, model in self._embedders.items() if key not in on_gpu}
            self._compiled = {key: network for key, network in self._compiled.items() if key not in on_gpu}
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def compiled(self, generation: Generation, device: "Device") -> "CompiledNetwork | None":
        """A generation's network as it was compiled for a device, where ``keep_compiled`` was told of it."""
        return self._compiled.get((generation.fingerprint, device))

    def keep_compiled(self, generation: Generation, device: "Device", network: "CompiledNetwork") -> None:
        """Have one compiled network in memory for each device, which is compiled anew when it is opened again."""
        with self._one_loader:
            others = {key: known for key, known in self._compiled.items() if key[1] != device}
            self._compiled = {**others, (generation.fingerprint, device): network}

    def runnable(self, generation: Generation) -> "TriedNetwork | None":
        """A generation's network for the runtimes, where ``keep_runnable`` was told of it."""
        return self._runnable.get(generation.fingerprint)

    def keep_runnable(self, generation: Generation, network: "TriedNetwork") -> None:
        """Have a generation's network for the runtimes in memory."""
        others = {name: runnable for name, runnable in self._runnable.items() if name != generation.fingerprint}
        self._runnable = dict(list({**others, generation.fingerprint: network}.items())[-EMBEDDERS:])

    def adapter(self, stored: StoredAdapter) -> "Adapter":
        """An adapter with its tensors."""
        if stored.name not in self._adapters:
            self._adapters[stored.name] = stored.adapter()
        return self._adapters[stored.name]

    def between(self, source: Generation, target: Generation) -> Map | None:
        """Return what turns vectors of one generation into another's without any image; ``None`` where nothing does."""
        pair = source.fingerprint, target.fingerprint
        if pair not in self._between:
            self._between[pair] = maps_to(Space(target), [source], self.embedder).get(source.fingerprint)
        return self._between[pair]
