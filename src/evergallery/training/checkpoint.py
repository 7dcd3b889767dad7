"""Checkpoints of an unfinished run: safetensors and JSON, replaced in one rename."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evergallery.files import read_object, write_json
from evergallery.files.tensors import load_tensors, save_tensors

STATE = "state.json"


def save(
    directory: Path,
    modules: Mapping[str, nn.Module | None],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    *,
    best: nn.Module | None,
) -> None:
    """Write a checkpoint of modules by name, the optimiser and ``state``.

    ``state`` is JSON, with ``epoch``, ``step`` and ``best_epoch``.

    Tensors go to files of their own, which ``state.json`` names together with their checksums: a kill at any moment
    leaves the previous checkpoint or this one. ``best`` is kept as the best network so far, where there is a better one.
    """
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": value for name, value in values.items()})
    files = {
        "last": f"epoch-{state['epoch']:05d}-{state['step']:06d}.safetensors",
        "best": f"best-{state['best_epoch']:05d}.safetensors",
    }
    checksums = read_object(directory / STATE, sha256=dict)["sha256"] if (directory / STATE).is_file() else {}
    checksums["last"] = save_tensors(directory / files["last"], tensors)
    if best is not None:
        checksums["best"] = save_tensors(directory / files["best"], best.state_dict())
    write_json(directory / STATE, {**state, "files": files, "sha256": checksums})
    for path in directory.glob("*.safetensors"):
        if path.name not in files.values():
            path.unlink()


def load(
    directory: Path, modules: Mapping[str, nn.Module | None], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore the last checkpoint in place and return its state, or ``None`` where there is none.

    Raises:
        DamagedError: its tensors are not what was written.
    """
    if not (directory / STATE).is_file():
        return None
    state = read_object(directory / STATE, files=dict, sha256=dict)
    tensors = _tensors(directory, state, "last")
    for name, module in modules.items():
        if module is not None:
            prefix = f"{name}."
            module.load_state_dict(
                {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    restored: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            if tensor.shape == parameter.shape:
                # The parameter's memory format, which the file does not keep and the fused updates want.
                tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
            restored.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": restored, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def load_best(directory: Path) -> dict[str, Tensor]:
    """The weights of the best epoch so far.

    Raises:
        DamagedError: they are not what was written.
    """
    return _tensors(directory, read_object(directory / STATE, files=dict, sha256=dict), "best")


def _tensors(directory: Path, state: dict[str, Any], which: str) -> dict[str, Tensor]:
    return load_tensors(
        directory / state["files"][which], state["sha256"][which], f"delete {directory} to start this run anew"
    )
