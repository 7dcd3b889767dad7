"""Sets that torchvision downloads, from a server on this machine that has a small one of the same layout."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102

from conftest import as_json, evergallery
from evergallery.data.downloads import cache

KINDS, EACH = 4, 6


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Served: four of the kinds, two photographs of each in each part."""
    served, draw = tmp_path / "served", np.random.default_rng(0)
    served.mkdir()
    with tarfile.open(served / "102flowers.tgz", "w:gz") as archive:
        for number in range(1, KINDS * EACH + 1):
            buffer = io.BytesIO()
            Image.fromarray(draw.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(buffer, format="JPEG")
            entry = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            entry.size = buffer.tell()
            archive.addfile(entry, io.BytesIO(buffer.getvalue()))
    numbers = np.arange(1, KINDS * EACH + 1)
    savemat(served / "imagelabels.mat", {"labels": np.repeat(np.arange(1, KINDS + 1), EACH)})
    savemat(served / "setid.mat", {name: numbers[part::3] for part, name in enumerate(("trnid", "valid", "tstid"))})
    files = {
        key: (name, hashlib.md5((served / name).read_bytes()).hexdigest())
        for key, (name, _) in Flowers102._file_dict.items()
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=served))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(Flowers102, "_file_dict", files)
    monkeypatch.setattr(Flowers102, "_download_url_prefix", f"http://127.0.0.1:{server.server_port}/")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_is_downloaded_once_and_read_by_its_parts(flowers: Path, tmp_path: Path) -> None:
    here = ("--data-dir", tmp_path / "sets", "-w", tmp_path / "shop")
    evergallery("init", tmp_path / "shop", "--size", 16)
    quick = ("--epochs", 1, "--batch-size", 4, "--precision", "float32", "--flip")
    card = as_json("learn", "flowers102", *quick, *here)
    assert card["classes"] == sorted(Flowers102.classes[:KINDS])
    for path in flowers.iterdir():
        path.unlink()
    assert as_json("index", "flowers102", "--split", "test", *here)["added"] == KINDS * EACH // 3
    listed = as_json("gallery", "list", "-w", tmp_path / "shop")
    assert {item["label"] for item in listed} == set(Flowers102.classes[:KINDS])
    assert all(Path(item["uri"]).is_file() for item in listed)


def test_without_a_connection_it_says_so(flowers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flowers102, "_download_url_prefix", "http://127.0.0.1:9/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache() == tmp_path / "cache" / "evergallery"
    evergallery("init", tmp_path / "shop", "--size", 16)
    told = evergallery("learn", "flowers102", "-w", tmp_path / "shop", expect=2).stderr
    assert "The set 'flowers102' could not be downloaded" in told
    assert "--data-dir" in told
