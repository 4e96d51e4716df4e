"""The saving that the README states, counted anew."""
from __future__ import annotations

import pytest

from train.bench import _binomial, expected_flops


def test_operations_saved_on_the_golden_configuration() -> None:
    flops = expected_flops(batch=3)
    ratio = {when: flops["reference"][when] / flops["ours"][when] for when in ("before", "after")}
    assert ratio["before"] >= 1.15
    assert ratio["after"] >= 1.4
    assert flops["ours"]["after"] > flops["ours"]["before"], "augmentation is not free"


def test_binomial_weights_sum_to_one() -> None:
    assert sum(_binomial(3, k, 0.201) for k in range(4)) == pytest.approx(1)
