"""Batches: every image in its turn, balanced, and a function of seed and epoch."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.data.sampling import balanced_batches, class_batches, mixed_batches, shuffled_batches
from evergallery.errors import InputError


@given(count=st.integers(1, 200), size=st.integers(1, 64), epoch=st.integers(0, 5))
def test_shuffled_batches_hold_every_image_once(count: int, size: int, epoch: int) -> None:
    batches = shuffled_batches(count, size, seed=1, epoch=epoch, drop_last=False)
    # Batch normalisation makes nothing of one image, so that one waits for the next epoch.
    alone = size > 1 and count > size and count % size == 1
    assert len(set(np.concatenate(batches).tolist())) == sum(map(len, batches)) == count - alone
    assert size == 1 or count == 1 or all(len(batch) > 1 for batch in batches)
    dropped = shuffled_batches(count, size, seed=1, epoch=epoch)
    assert len(dropped) == max(1, count // size)
    assert all(len(batch) == min(size, count) for batch in dropped)


@given(
    new=st.integers(1, 150),
    old=st.integers(1, 60),
    size=st.integers(2, 40),
    share=st.floats(0.05, 0.95),
    epoch=st.integers(0, 3),
)
def test_mixed_batches_have_one_proportion_and_every_new_image_once(
    new: int, old: int, size: int, share: float, epoch: int
) -> None:
    is_old = np.random.default_rng(0).permutation(np.arange(new + old) < old)
    batches = mixed_batches(is_old, size, share, seed=1, epoch=epoch, drop_last=False)
    wanted = min(max(1, round(share * size)), size - 1)
    assert all(is_old[batch].sum() == wanted for batch in batches)
    drawn = np.concatenate(batches)
    fresh = size - wanted
    alone = fresh > 1 and new > fresh and new % fresh == 1
    assert len(set(drawn[~is_old[drawn]].tolist())) == np.count_nonzero(~is_old[drawn]) == new - alone
    # No old image is drawn twice more than another.
    times = np.bincount(drawn, minlength=len(is_old))[is_old]
    assert times.max() - times.min() <= 1
    again, other = (mixed_batches(is_old, size, share, seed=1, epoch=e, drop_last=False) for e in (epoch, epoch + 1))
    assert all(map(np.array_equal, batches, again))
    assert len(batches) == len(other)


def test_nothing_is_mixed_where_there_is_one_kind() -> None:
    with pytest.raises(InputError, match="0 old images cannot be mixed into batches of 4"):
        mixed_batches(np.zeros(9, dtype=bool), 4, 0.5, seed=0, epoch=0)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        made: list[int] = np.concatenate(shuffled_batches(50, 50, seed=seed, epoch=epoch)).tolist()
        return made

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    p=st.integers(1, 8),
    k=st.integers(1, 6),
    epoch=st.integers(0, 3),
)
def test_balanced_batches(sizes: list[int], p: int, k: int, epoch: int) -> None:
    labels = np.repeat(np.arange(len(sizes)) * 7, sizes)
    batches = balanced_batches(labels, p, k, seed=2, epoch=epoch)
    width = min(p, len(sizes))
    assert batches
    for batch in batches:
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) == width
        assert (counts == k).all()
        for label in found:
            mine = batch[labels[batch] == label]
            enough = (labels == label).sum() >= k
            assert not enough or len(set(mine.tolist())) == k, "no image twice in a batch that needs none twice"
    groups = sum(-(-size // k) for size in sizes)
    # What is left when fewer than P classes wait: at most the largest class's groups beyond its share.
    if len(set(sizes)) == 1:
        assert groups - len(batches) * width < width
        if len(sizes) % width == 0:
            assert set(np.concatenate(batches).tolist()) == set(range(len(labels)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: shuffled_batches(0, 4, seed=0, epoch=0),
        lambda: shuffled_batches(4, 0, seed=0, epoch=0),
        lambda: balanced_batches(np.array([], dtype=np.int64), 2, 2, seed=0, epoch=0),
        lambda: balanced_batches(np.array([1]), 2, 0, seed=0, epoch=0),
    ],
)
def test_nothing_to_draw_from(call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        call()


def test_an_epoch_of_classes_holds_each_class_once() -> None:
    labels = np.repeat(np.arange(11), np.arange(1, 12))
    seen = [class_batches(labels, 4, 3, seed=1, epoch=epoch) for epoch in range(40)]
    for batches in seen:
        assert [len(batch) for batch in batches] == [12, 12], "three classes wait for the next epoch"
        classes = [labels[batch].reshape(4, 3) for batch in batches]
        assert all((rows == rows[:, :1]).all() for rows in classes)
        assert len({int(row[0]) for rows in classes for row in rows}) == 8
        for batch in batches:
            large = batch[labels[batch] >= 2]
            assert len(set(large.tolist())) == len(large), "an image comes twice only where there are too few"
    everything = np.concatenate([batch for batches in seen for batch in batches])
    assert set(everything.tolist()) == set(range(len(labels))), "in time every image has its turn"
    assert [len(batch) for batch in class_batches(labels, 20, 2, seed=0, epoch=0)] == [22]
    with pytest.raises(InputError, match="must be at least 1"):
        class_batches(labels, 0, 2, seed=0, epoch=0)
