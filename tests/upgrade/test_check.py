"""Spaces side by side, made by hand: what is measured, what flips, and what the evidence says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evergallery.data.image_set import ImageSet
from evergallery.errors import InputError
from evergallery.evaluation import Protocol, measure, ranks_with
from evergallery.retrieval.compatibility import negative_flip_rate
from evergallery.retrieval.width import in_width_of
from evergallery.upgrade.check import Check, agreement, check_pair, compatibility, without
from evergallery.upgrade.gate import Gate
from evergallery.upgrade.pairing import EmbeddedSpace, Pairing
from evergallery.watching import Watcher

GATE = Gate(cross_test=-2.0, forgetting=1.0, negative_flips=10.0, queries=100)
CLASSES = tuple(f"c{number}" for number in range(10))


def unit(rows: torch.Tensor) -> np.ndarray:
    found: np.ndarray = F.normalize(rows).float().numpy()
    return found


def held_out(each: int = 24) -> Protocol:
    count = len(CLASSES) * each
    pixels = np.zeros((count, 1, 1, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    images = ImageSet.from_arrays(pixels, np.repeat(np.arange(len(CLASSES)), each), CLASSES)
    everything = np.arange(count)
    return Protocol(images, everything, everything, "every image among the others")


def clusters(protocol: Protocol, noise: float, width: int = 16, seed: int = 0) -> torch.Tensor:
    """Around the same class centres whatever the noise, so that two of them are compatible."""
    centres = torch.randn(len(CLASSES), width, generator=torch.Generator().manual_seed(7))
    labels = torch.from_numpy(protocol.images.labels)
    draw = torch.Generator().manual_seed(seed)
    return centres[labels] + noise * torch.randn(len(labels), width, generator=draw)


def space(name: str, rows: torch.Tensor, classes: tuple[str, ...] = CLASSES[:5]) -> EmbeddedSpace:
    return EmbeddedSpace(name, name.encode().hex(), unit(rows), classes)


def rotation(width: int = 16) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(3)))[0]
    return found


def cameras(protocol: Protocol) -> Protocol:
    """The same images, each seen by one of three cameras."""
    return replace(protocol, images=replace(protocol.images, cameras=np.arange(len(protocol.images)) % 3))


@pytest.fixture
def protocol() -> Protocol:
    return held_out()


@pytest.fixture
def old(protocol: Protocol) -> EmbeddedSpace:
    return space("v1", clusters(protocol, 1.5))


def test_better_generation_in_the_same_space_is_compatible(protocol: Protocol, old: EmbeddedSpace) -> None:
    found = check_pair(Pairing(protocol, space("v2", clusters(protocol, 0.7, seed=1)), old, GATE))
    assert (found.verdict, found.passed, found.adapted) == ("compatible", True, None)
    evidence = found.evidence
    assert evidence.recall("cross") > evidence.recall("old self")
    assert evidence.cross_change.low > 0
    assert evidence.cross_change.mean == pytest.approx(evidence.recall("cross") - evidence.recall("old self"))


def test_figures_are_those_of_the_metrics(protocol: Protocol, old: EmbeddedSpace) -> None:
    new = space("v2", clusters(protocol, 1.2, seed=1))
    evidence = check_pair(Pairing(protocol, new, old, GATE)).evidence
    cross = measure(protocol, new.embeddings, old.embeddings, old.classes)
    before = measure(protocol, old.embeddings, old.embeddings, old.classes)
    alone = measure(protocol, new.embeddings, new.embeddings, old.classes)
    assert evidence.figures["cross"]["new"].recall == cross["new"].recall
    assert evidence.figures["cross"]["all"].map_at_r == cross["all"].map_at_r
    assert evidence.forgetting == pytest.approx(before["old"].recall[1] - alone["old"].recall[1])
    assert evidence.negative_flips == negative_flip_rate(before["all"].hits_at_1, cross["all"].hits_at_1)
    assert evidence.positive_flips - evidence.negative_flips == pytest.approx(evidence.cross_change.mean)


def test_update_gain_and_price_against_the_unconstrained(protocol: Protocol, old: EmbeddedSpace) -> None:
    new, best = space("v2", clusters(protocol, 1.0, seed=1)), space("v3", clusters(protocol, 0.5, seed=2))
    evidence = check_pair(Pairing(protocol, new, old, GATE, best=best)).evidence
    top = measure(protocol, best.embeddings, best.embeddings, ())["all"].recall[1]
    expected = (evidence.recall("cross") - evidence.recall("old self")) / (top - evidence.recall("old self"))
    assert evidence.update_gain == pytest.approx(expected)
    assert evidence.price == pytest.approx(top - evidence.recall("new self"))
    assert evidence.best == "v3"


def test_rotated_space_is_compatible_after_an_adapter_that_is_still_to_be_made(
    protocol: Protocol, old: EmbeddedSpace
) -> None:
    turned = space("v2", clusters(protocol, 0.4, seed=1) @ rotation())
    found = check_pair(Pairing(protocol, turned, old, GATE))
    assert found.verdict == "compatible after an adapter"
    assert found.adapted is not None
    assert found.adapted.estimated
    assert not found.passed, "an estimate opens no gate"


def test_rotated_space_passes_through_an_adapter_that_exists(protocol: Protocol, old: EmbeddedSpace) -> None:
    turned = space("v2", clusters(protocol, 0.4, seed=1) @ rotation())
    back = unit(torch.from_numpy(turned.embeddings) @ rotation().T)
    wrong = unit(torch.from_numpy(turned.embeddings) @ rotation())
    found = check_pair(
        Pairing(protocol, turned, old, GATE), adapters={"a1": (wrong, old.embeddings), "a2": (back, old.embeddings)}
    )
    assert (found.verdict, found.passed) == ("compatible after an adapter", True)
    assert found.adapted is not None
    assert (found.adapted.adapter, found.adapted.estimated) == ("a2", False)


def test_unrelated_better_space_needs_a_refresh(protocol: Protocol, old: EmbeddedSpace) -> None:
    """Its coordinates say nothing of the old ones, and no rotation helps: labels are embedded at random places."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.from_numpy(protocol.images.labels)
    places = torch.randn(10, 16, generator=draw).abs() ** 3
    better = places[labels] + 0.05 * torch.randn(len(labels), 16, generator=draw)
    worn = space("v1", clusters(protocol, 4.0))
    found = check_pair(Pairing(protocol, space("v2", better), worn, GATE.model_copy(update={"cross_test": 40.0})))
    assert found.verdict == "needs refresh"
    assert not found.passed


def test_worse_generation(protocol: Protocol, old: EmbeddedSpace) -> None:
    assert check_pair(Pairing(protocol, space("v2", clusters(protocol, 9.0, seed=1)), old, GATE)).verdict == "worse"


def test_flips_name_query_and_both_answers(protocol: Protocol, old: EmbeddedSpace) -> None:
    new = space("v2", clusters(protocol, 1.2, seed=1))
    found = check_pair(Pairing(protocol, new, old, GATE))
    assert len(found.negative) == round(found.evidence.negative_flips * found.evidence.queries)
    assert len(found.positive) == round(found.evidence.positive_flips * found.evidence.queries)
    labels = protocol.images.labels
    before, after = (queries @ old.embeddings.T for queries in (old.embeddings, new.embeddings))
    for scores in (before, after):
        np.fill_diagonal(scores, -2)
    assert found.negative
    for flip in found.negative:
        assert (flip.before, flip.after) == (before[flip.query].argmax(), after[flip.query].argmax())
        assert labels[flip.before] == labels[flip.query] != labels[flip.after]


def test_matrix_has_queries_not_older_than_vectors_and_its_figures_follow(
    protocol: Protocol, old: EmbeddedSpace
) -> None:
    spaces = [old, space("v2", clusters(protocol, 1.0, seed=1)), space("v3", clusters(protocol, 0.7, seed=2))]
    cells = compatibility(protocol, spaces, CLASSES[:5])
    assert set(cells) == {("v1", "v1"), ("v2", "v1"), ("v2", "v2"), ("v3", "v1"), ("v3", "v2"), ("v3", "v3")}
    check = Check("v3", ("v1", "v2", "v3"), "", protocol, 0, cells, ())
    values = check.values()
    assert np.isnan(values[0, 1])
    assert values[2, 0] == cells["v3", "v1"]["all"].recall[1]
    lineage = check.lineage()
    assert lineage["AC"] == 1.0
    assert lineage["AM"] == pytest.approx(values[np.tril_indices(3)].mean())
    assert lineage["BC"] == pytest.approx((values[2, 0] - values[0, 0] + values[2, 1] - values[1, 1]) / 2)
    assert not check.passed, "nothing was checked against anything"


def test_other_widths_are_cut_or_padded(protocol: Protocol) -> None:
    wide, narrow = clusters(protocol, 1.0, width=16), clusters(protocol, 1.0, width=16)[:, :12]
    assert np.allclose(in_width_of(unit(wide), unit(narrow)), unit(torch.from_numpy(unit(wide))[:, :12]))
    padded = in_width_of(unit(narrow), unit(wide))
    assert (padded[:, 12:] == 0).all()
    assert np.allclose(np.linalg.norm(padded, axis=1), 1, atol=1e-6)


def test_agreement_without_labels(protocol: Protocol, old: EmbeddedSpace) -> None:
    same = agreement(protocol, EmbeddedSpace("v2", "ff", old.embeddings, ()), old)
    assert (same.overlap, same.same_first, same.queries) == (1.0, 1.0, 240)
    unrelated = agreement(protocol, space("v2", torch.randn(240, 16, generator=torch.Generator().manual_seed(99))), old)
    assert unrelated.overlap == pytest.approx(10 / 239, abs=0.02)
    near = agreement(protocol, space("v2", torch.from_numpy(old.embeddings) + 0.02), old)
    assert unrelated.overlap < near.overlap < 1


def test_leaving_images_out_keeps_the_protocol(protocol: Protocol) -> None:
    left_out = np.zeros(240, dtype=bool)
    left_out[[0, 5, 239]] = True
    halves = Protocol(protocol.images, np.arange(0, 240, 2), np.arange(1, 240, 2), "even in odd")
    found = without(halves, left_out)
    assert len(found.images) == 237
    before = [protocol.images.hashes[index] for index in halves.query if not left_out[index]]
    assert [found.images.hashes[index] for index in found.query] == before
    assert len(found.gallery) == 118


def test_a_matrix_says_how_many_of_its_searches_are_done(protocol: Protocol, old: EmbeddedSpace) -> None:
    heard = []

    class Listener(Watcher):
        def counted(self, activity: str, done: int, total: int) -> None:
            heard.append((activity, done, total))

    spaces = [old, *(space(f"v{number}", clusters(protocol, 1.0, seed=number)) for number in (2, 3))]
    found = compatibility(protocol, spaces, (), Listener())
    assert heard == [("comparing generations", done, 6) for done in range(1, 7)]
    assert list(found) == [
        ("v1", "v1"), ("v2", "v1"), ("v2", "v2"), ("v3", "v1"), ("v3", "v2"), ("v3", "v3"),
    ]  # fmt: skip


def test_the_evidence_says_that_images_of_the_own_camera_are_left_out(protocol: Protocol, old: EmbeddedSpace) -> None:
    plain, seen = (check_pair(Pairing(of, old, old, GATE)).evidence.protocol for of in (protocol, cameras(protocol)))
    assert plain == "every image among the others"
    assert seen == "every image among the others, without images of the query's own identity and camera"


def test_the_whole_ranking_leaves_out_the_own_camera(protocol: Protocol, old: EmbeddedSpace) -> None:
    new = space("v2", clusters(protocol, 1.2, seed=1))
    ranked = replace(cameras(protocol), full_ranking=True)
    plain, seen = (check_pair(Pairing(of, new, old, GATE)).evidence for of in (cameras(protocol), ranked))
    assert not {"mAP", "mINP"} & set(plain.figures["cross"]["all"].by_name())
    labels, camera = protocol.images.labels, cameras(protocol).images.cameras
    assert camera is not None
    precisions, penalties = [], []
    for query, scores in enumerate(new.embeddings @ old.embeddings.T):
        order = [
            item
            for item in np.argsort(-scores, kind="stable")
            if item != query and not (labels[item] == labels[query] and camera[item] == camera[query])
        ]
        ranks = 1 + np.flatnonzero(labels[order] == labels[query])
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        penalties.append(len(ranks) / ranks[-1])
    found = seen.figures["cross"]["all"].by_name()
    assert found["mAP"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert found["mINP"] == pytest.approx(np.mean(penalties), abs=1e-6)


def test_ranks_of_ones_choice(protocol: Protocol, old: EmbeddedSpace) -> None:
    found = check_pair(Pairing(replace(protocol, ks=ranks_with([20, 5])), old, old, GATE)).evidence.figures["cross"][
        "all"
    ]
    assert list(found.recall) == [1, 5, 10, 20]
    assert found.recall[10] <= found.recall[20] <= 1
    with pytest.raises(InputError, match="Ranks begin at 1, and 0 is none"):
        ranks_with([3, 0])


def test_images_without_a_label_are_not_of_one_identity(protocol: Protocol) -> None:
    seen = cameras(protocol)
    unknown = replace(seen, images=replace(seen.images, labels=np.full(len(seen.images), -1)))
    groups = unknown.exclusion().groups()
    assert groups is not None
    asked, found = groups
    assert torch.equal(asked[:, None] == found, torch.eye(len(seen.images), dtype=torch.bool))
