"""Mutual distillation: its terms, and that it lives without old images and older generations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_laws import WIDTH, a_step, some_memory
from torch.nn import functional as F

from conftest import coloured_images, gradient_of
from evergallery.losses import hard_mining, relation_distillation
from evergallery.memory import virtual_features
from evergallery.methods import Mutual
from evergallery.training import Settings
from evergallery.workspace import Workspace

LABELS = torch.tensor([4, 4, 5, 5, 6, 6])


def test_terms_are_those_of_the_paper() -> None:
    step, new, old = a_step(Mutual(), LABELS, torch.float64)
    terms = Mutual().losses(step)
    supporting = step.through(step.state.supporting)
    c, o, s = F.normalize(new), F.normalize(old), F.normalize(supporting.features)
    means = some_memory(WIDTH).earlier()[0]
    virtual = virtual_features(old, o, means.unit.double(), means.drift.double(), "clamped")
    expected = {
        "metric": hard_mining(new, LABELS),
        "supporting metric": hard_mining(supporting.features, LABELS),
        "old relations": 10 * relation_distillation(c, o),
        "mutual relations": 0.5 * (relation_distillation(s, c) + relation_distillation(c, s)),
        "virtual relations": 10 * relation_distillation(c, virtual),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), abs=1e-6), name


def test_options() -> None:
    step, new, old = a_step(Mutual(), LABELS, torch.float64)
    usual = Mutual(reference="old", old_weight=1).losses(step)["old relations"]
    assert usual.item() == pytest.approx(relation_distillation(F.normalize(old), F.normalize(new)).item(), abs=1e-9)
    binomial = Mutual(loss="binomial").losses(step)["metric"]
    assert binomial.item() != pytest.approx(Mutual().losses(step)["metric"].item())
    assert "classification" in Mutual(classification_weight=1.0).losses(step)


def test_the_two_networks_teach_each_other() -> None:
    step, new, _ = a_step(Mutual(), LABELS, torch.float64)
    supporting = step.through(step.state.supporting).features
    Mutual().losses(step)["mutual relations"].backward()
    assert gradient_of(new).abs().sum() > 0
    assert gradient_of(supporting).abs().sum() > 0


def test_three_tasks_need_no_old_image_and_no_generation_but_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third update reads one generation's weights, and the images of its own task."""
    settings = Settings(epochs=1, batch_size=16, precision="float32", device="cpu")
    with Workspace.create(tmp_path / "shop", backbone="resnet8", size=16) as shop:
        for task in range(3):
            images = coloured_images(classes=3, each=6, first=3 * task)
            shop.learn(
                images, method=Mutual() if task else None, parent=f"v{task}" if task else None, settings=settings
            )
        for path in (tmp_path / "shop/generations").glob("v000[12]"):
            for file in path.glob("*.safetensors"):
                file.unlink()
        (tmp_path / "shop/cache").rename(tmp_path / "gone")
        seen: list[int] = []
        original = Mutual.losses

        def spy(self: Mutual, step: Any) -> dict[str, torch.Tensor]:
            seen.extend(step.labels.tolist())
            assert len(step.state.earlier_means()) == 2
            return original(self, step)

        monkeypatch.setattr(Mutual, "losses", spy)
        last = shop.learn(coloured_images(classes=3, each=6, first=9), method=Mutual(), parent="v3", settings=settings)
    assert set(seen) == {9, 10, 11}
    memory = last.memory()
    assert list(memory.means) == ["v1", "v2", "v3", "v4"]
    assert [means.classes.tolist() for means in memory.means.values()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert memory.means["v1"].drift.abs().sum() > 0
    assert memory.means["v4"].drift.abs().sum() == 0
