"""The array files of the result tables, packed from toy copies of the published sets."""

import hashlib
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import pack

    return pack


def test_cifar_is_split_by_what_its_images_hold_however_they_were_dealt(pack: ModuleType, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    written = []
    for deal in range(2):
        root = tmp_path / f"{deal}" / "cifar-100-python"
        root.mkdir(parents=True)
        rows = generator.permutation(24)
        for part, chosen in (("train", rows[:17]), ("test", rows[17:])):
            # As published: all of red, then green, then blue.
            content = {
                "data": pixels[chosen].transpose(0, 3, 1, 2).reshape(-1, 3072),
                "fine_labels": labels[chosen].tolist(),
            }
            (root / part).write_bytes(pickle.dumps(content, protocol=2))
        (root / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "baby"]}, protocol=2))
        written.append(tmp_path / f"{deal}.npz")
        assert pack.main(["cifar100", str(root.parent), str(written[-1])]) == 1, "a toy is not the set of the tables"
    assert written[0].read_bytes() == written[1].read_bytes()
    found = np.load(written[0])
    assert found["labels"].tolist() == [0] * 12 + [1] * 12
    assert found["split"].tolist() == (["test"] * 2 + ["train"] * 10) * 2
    assert found["names"].tolist() == ["apple", "baby"]
    for label in (0, 1):
        expected = sorted(hashlib.sha1(image.tobytes()).hexdigest() for image in pixels[labels == label])
        packed = found["images"][found["labels"] == label]
        assert [hashlib.sha1(image.tobytes()).hexdigest() for image in packed] == expected


def test_omniglot_is_reduced_in_the_order_of_its_files(pack: ModuleType, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    drawings = {}
    for place in ("evaluation/Angelic/character01", "background/Greek/character01", "background/Greek/character02"):
        for drawer in (2, 1):
            path = tmp_path / "omniglot" / f"images_{place}" / f"0001_{drawer:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawings[place, drawer] = Image.fromarray(generator.random((105, 105)) < 0.8)
            drawings[place, drawer].save(path)
    assert pack.main(["omniglot", str(tmp_path), str(tmp_path / "o.npz")]) == 1, "a toy is not the set of the tables"
    found = np.load(tmp_path / "o.npz")
    assert found["names"].tolist() == ["Angelic/character01", "Greek/character01", "Greek/character02"]
    assert found["labels"].tolist() == [1, 1, 2, 2, 0, 0], "the background alphabets come first"
    assert found["split"].tolist() == ["background"] * 4 + ["evaluation"] * 2
    assert found["images"].shape == (6, 28, 28, 1)
    second = np.array(drawings["background/Greek/character01", 2]) * np.uint8(255)
    expected = Image.fromarray(second).resize((28, 28), Image.Resampling.BILINEAR)
    assert np.array_equal(found["images"][1, ..., 0], np.asarray(expected))


def test_only_the_digests_of_the_tables_pass(
    pack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 0])
    names, split = np.array(["a"]), np.array(["train", "test"])
    arrays = {"images": images, "labels": labels, "names": names, "split": split}
    monkeypatch.setitem(pack.SETS, "cifar100", lambda directory: arrays)
    np.savez(tmp_path / "known.npz", images=images, labels=labels, names=names, split=split)
    whole, test = pack.digests("cifar100", tmp_path / "known.npz")
    for number, (known, status) in enumerate((({whole, test}, 0), ({whole}, 1), ({test}, 1))):
        monkeypatch.setattr(pack, "KNOWN", dict.fromkeys(known, "images"))
        assert pack.main(["cifar100", ".", str(tmp_path / f"{number}.npz")]) == status
        assert f"digest {whole}, {'not ' * status}that of the result tables" in capsys.readouterr().out
    # Nothing is written over.
    with pytest.raises(SystemExit, match="2"):
        pack.main(["cifar100", ".", str(tmp_path / "0.npz")])
