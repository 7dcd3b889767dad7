"""Values that somebody may give: out of range they are refused in one wording, wherever they are given."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.errors import InputError, one_of, require_known, require_option, require_positive, require_share
from evergallery.serving.canary import CanarySettings
from evergallery.serving.shadow import ShadowSettings
from evergallery.workspace import Workspace

NO_SHARES = [0.0, -0.5, 1.0001, 7.0, math.nan, math.inf, -math.inf]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_share_is_above_0_and_up_to_1(value: float) -> None:
    if 0 < value <= 1:
        require_share("sample", value, "searches")
    else:
        with pytest.raises(InputError, match="^A sample of .* is not usable: give a share of the searches, above"):
            require_share("sample", value, "searches")


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_positive_number_is_finite(value: float) -> None:
    if 0 < value < math.inf:
        require_positive("rate", value)
    else:
        with pytest.raises(InputError, match="^A rate of .* is not usable: it must be a number above 0"):
            require_positive("rate", value)
    require_positive("rate", None)


@pytest.mark.parametrize("value", NO_SHARES)
def test_every_share_is_refused_in_the_same_words(tmp_path: Path, value: float) -> None:
    with Workspace.create(tmp_path / "shop", size=16) as shop:
        refused = []
        for what, of, ask in (
            ("fraction", "items", lambda: shop.refresh("v1", fraction=value)),
            ("sample", "searches", lambda: ShadowSettings("v1", value)),
            ("share", "clients", lambda: CanarySettings("v1", value)),
        ):
            with pytest.raises(InputError) as raised:
                ask()
            refused.append(str(raised.value).replace(f"A {what} of", "A").replace(f"of the {of}", "of"))
    assert len(set(refused)) == 1, refused


def test_a_word_that_is_none_of_some_is_refused_with_those_that_come_near() -> None:
    for require in (require_known, require_option):
        with pytest.raises(InputError, match=r"'randon'.* one of random, oldest\. Did you mean 'random'\?$"):
            require("order", "randon", ("random", "oldest"))
    with pytest.raises(InputError, match=r"choose one of 1, 2, or a file\.$"):
        require_known("number", 3, (1, 2), ", or a file")
    require_known("number", 2, (1, 2))
    require_option("order", None, ("random",))
    assert one_of("x", ("long", "short")) == "it is one of long, short."
