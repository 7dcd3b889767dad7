"""Generations: round trips, fingerprints, and what happens to those who touch them."""

import json
from pathlib import Path

import pytest
import torch

from evergallery.data.images import Preprocessing
from evergallery.errors import DamagedError
from evergallery.files import TEMPORARY_PREFIX
from evergallery.generations.card import CARD, FORMAT, MethodCard
from evergallery.generations.fingerprint import fingerprint_of
from evergallery.generations.generation import EMBEDDER, Generation, generation_directories
from evergallery.generations.writing import write_network
from evergallery.network import Architecture, Embedder, ExpandedEmbedder, Head, Network

PREPROCESSING = Preprocessing(size=16)


def write(directory: Path, seed: int = 0) -> tuple[Generation, Network]:
    embedder = Embedder(Architecture(dimension=24, neck="linear"), seed=seed)
    network = Network(embedder, Head(24, 3, "cosine", 12.0)).eval()
    generation = write_network(
        directory,
        network,
        PREPROCESSING,
        name="v1",
        parent=None,
        run="0" * 64,
        method=MethodCard(name="finetune", parameters={"triplet_margin": 1.0}),
        classes=("a", "b", "c"),
        new_classes=("a", "b", "c"),
        data={"images": 12},
        settings={"epochs": 1},
        training={"seconds": 1.0},
    )
    return generation, network


def test_round_trip(tmp_path: Path) -> None:
    written, network = write(tmp_path / "v0001")
    read = Generation.load(tmp_path / "v0001")
    assert read.card == written.card
    assert read.preprocessing == PREPROCESSING
    images = torch.randn(2, 3, 16, 16)
    for before, after in zip(network(images), read.network()(images), strict=True):
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-4)
    assert read.problems() == []
    assert not list(tmp_path.glob(TEMPORARY_PREFIX + "*"))


def test_fingerprint_tells_spaces_apart_and_copies_not() -> None:
    same = [fingerprint_of(Embedder(Architecture(), seed=1), PREPROCESSING) for _ in range(2)]
    assert same[0] == same[1]
    others = {
        fingerprint_of(Embedder(Architecture(), seed=2), PREPROCESSING),
        fingerprint_of(Embedder(Architecture(), seed=1), Preprocessing(size=24)),
        fingerprint_of(Embedder(Architecture(), seed=1), Preprocessing(size=16, mean=(0.4, 0.5, 0.5))),
        same[0],
    }
    assert len(others) == 4
    channels_last = Embedder(Architecture(), seed=1).to(memory_format=torch.channels_last)
    assert fingerprint_of(channels_last, PREPROCESSING) == same[0], "the memory layout is no part of the space"


def test_batch_statistics_are_part_of_the_space() -> None:
    embedder = Embedder(Architecture(), seed=1)
    before = fingerprint_of(embedder, PREPROCESSING)
    embedder.train()(torch.randn(4, 3, 16, 16))
    assert fingerprint_of(embedder, PREPROCESSING) != before


def test_card_edited_by_hand_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v0001")
    path = tmp_path / "v0001" / CARD
    path.write_text(path.read_text().replace('"finetune"', '"csd"'))
    with pytest.raises(DamagedError, match=r"card\.json was altered"):
        Generation.load(tmp_path / "v0001")


def test_newer_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v0001")
    path = tmp_path / "v0001" / CARD
    content = json.loads(path.read_text())
    content["card"]["format"] = FORMAT + 1
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match=rf"has format {FORMAT + 1} .*install a newer Evergallery"):
        Generation.load(tmp_path / "v0001")


def test_altered_and_missing_weights_are_named(tmp_path: Path) -> None:
    generation, _ = write(tmp_path / "v0001")
    path = tmp_path / "v0001" / EMBEDDER
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"embedder\.safetensors is not the file that was written"):
        generation.embedder()
    assert "checksum differs" in generation.problems()[0]
    path.unlink()
    assert "is missing" in generation.problems()[0]


def test_directories_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("v0002", "v10000", "v0010", "v0001", "other", ".writing-x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in generation_directories(tmp_path)] == ["v0001", "v0002", "v0010", "v10000"]


class TestExpanded:
    """Embeddings of a root that never change, and those of a network that goes on learning, in one vector."""

    @staticmethod
    def written(directory: Path) -> tuple[Generation, Embedder, Network]:
        root = Embedder(Architecture(dimension=24, neck="linear"), seed=1).eval()
        network = Network(Embedder(Architecture(), seed=2), Head(64, 3, "cosine")).eval()
        method = MethodCard(name="evergreen", parameters={})
        made = write_network(directory, network, PREPROCESSING, root=root, name="v2", parent="v1", method=method)
        return made, root, network

    def test_each_part_is_an_embedding_of_its_network(self, tmp_path: Path) -> None:
        self.written(tmp_path / "v0002")
        read = Generation.load(tmp_path / "v0002")
        _, root, network = self.written(tmp_path / "again")
        images = torch.randn(3, 3, 16, 16)
        made = read.embedder().embed(images)
        assert made.shape == (3, read.card.dimension) == (3, 88)
        torch.testing.assert_close(made.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(made[:, :24] * 2**0.5, root.embed(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made[:, 24:] * 2**0.5, network.embedder.embed(images), rtol=1e-4, atol=1e-5)

    def test_what_learns_on_is_the_second_part_alone(self, tmp_path: Path) -> None:
        made, root, network = self.written(tmp_path / "v0002")
        images = torch.randn(2, 3, 16, 16)
        for before, after in zip(network(images), made.network()(images), strict=True):
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
        kept = made.root()
        assert kept is not None
        torch.testing.assert_close(kept(images), root(images), rtol=1e-4, atol=1e-4)

    def test_files_and_fingerprint_hold_both(self, tmp_path: Path) -> None:
        made, root, network = self.written(tmp_path / "v0002")
        assert made.problems() == []
        spaces = {
            made.fingerprint,
            fingerprint_of(root, PREPROCESSING),
            fingerprint_of(network.embedder, PREPROCESSING),
            fingerprint_of(ExpandedEmbedder(root, root), PREPROCESSING),
        }
        assert len(spaces) == 4

    def test_cards_of_others_say_nothing_of_it(self, tmp_path: Path) -> None:
        write(tmp_path / "v0001")
        assert "root" not in json.loads((tmp_path / "v0001" / CARD).read_text())["card"]
