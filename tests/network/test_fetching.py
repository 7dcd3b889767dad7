"""Published weights from hosts that do not answer."""

import logging
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from evergallery.errors import InputError
from evergallery.network.backbones import build_backbone
from evergallery.network.fetching import quiet_loggers, unanswered
from evergallery.watching import Watcher

NOBODY = "http://127.0.0.1:9"


class MessageRecorder(Watcher):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def said(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model hub's own cache, empty, where the hub does not answer and nobody waits for another attempt."""
    from huggingface_hub import constants

    def sleep(seconds: float) -> None:
        raise AssertionError(f"waits for {seconds} s")

    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", NOBODY + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", sleep)
    return tmp_path


def test_a_hub_that_does_not_answer_is_asked_once_and_quietly(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import constants

    heard = MessageRecorder()
    with pytest.raises(
        InputError, match=r"resnet18 could not be had.*\(.*refused\).*HF_HOME.*--weights FILE"
    ) as caught:
        build_backbone("resnet18", pretrained=True, watcher=heard)
    assert heard.messages == ["asking the model hub for the weights of resnet18"]
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not constants.HF_HUB_OFFLINE
    assert logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)


def test_weights_in_the_cache_need_no_hub(cache: Path) -> None:
    import timm

    whole: Any = timm.create_model("resnet18")
    place = cache / "models--timm--resnet18.a1_in1k"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(whole.state_dict(), place / "snapshots" / ("0" * 40) / "model.safetensors")
    built = build_backbone("resnet18", pretrained=True)
    weights = built.module.state_dict()
    assert torch.equal(weights["layer4.1.conv2.weight"], whole.state_dict()["layer4.1.conv2.weight"])


def test_torchvision_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    name = "shufflenet_v2_x0_5"
    published: Any = models.get_model_weights(name).DEFAULT
    url = f"{NOBODY}/weights-00000000.pth"
    monkeypatch.setattr(type(published), "url", property(lambda _: url), raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("waits for the download"))
    with pytest.raises(InputError, match=rf"torchvision/{name} could not be loaded \(.*refused.*TORCH_HOME"):
        build_backbone(f"torchvision/{name}", pretrained=True)


def test_a_host_that_never_answers() -> None:
    never = Event()
    assert unanswered(never.wait, patience=0.05) == "no answer within 0.05 s"
    never.set()
    assert unanswered(lambda: "an answer") is None


def test_loggers_below_and_later_ones_are_quiet_too(caplog: pytest.LogCaptureFixture) -> None:
    below = logging.getLogger("noisy.client.requests")
    below.setLevel(logging.DEBUG)
    beside = logging.getLogger("noisy_too")
    with quiet_loggers("noisy"):
        below.warning("below")
        logging.getLogger("noisy.later").warning("later")
        beside.warning("beside")
    below.debug("afterwards")
    assert [record.message for record in caplog.records] == ["beside", "afterwards"]
