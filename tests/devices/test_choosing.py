"""The one place that says when a GPU is worth opening."""

from pathlib import Path

import pytest
import torch

from evergallery.devices import choosing
from evergallery.devices.choosing import FEW, MANY_PRODUCTS, device_for, device_for_products


def test_torch_is_asked_for_a_gpu_only_where_there_is_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choosing.has_gpu()
    monkeypatch.setattr(choosing, "sys", type("system", (), {"modules": {}}))
    monkeypatch.setattr(choosing, "GPU_DRIVERS", (str(tmp_path / "driver"),))
    assert not choosing.has_gpu()
    (tmp_path / "driver").touch()
    assert choosing.has_gpu()


@pytest.mark.parametrize(("gpu", "expected"), [(True, ["cpu", "cuda", "cpu", "cuda"]), (False, ["cpu"] * 4)])
def test_much_work_goes_to_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(choosing, "has_gpu", lambda: gpu)
    found = [device_for(FEW - 1), device_for(FEW)]
    found += [device_for_products(MANY_PRODUCTS / 2), device_for_products(MANY_PRODUCTS)]
    assert found == expected
