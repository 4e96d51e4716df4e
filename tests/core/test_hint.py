"""The Dense Hint Input's initialisation."""

from __future__ import annotations

import torch

from siamese.models.dense_hint import DenseHintInput


def _difference_of_two_masks(hint: DenseHintInput) -> float:
    """Standard deviation of what the last stage makes of two masks' difference."""
    masks = torch.zeros(2, 3, 64, 64)
    masks[0, :, 10:50, 10:50], masks[1, :, 26:34, 26:34] = 1, 1
    x = masks
    with torch.no_grad():
        for conv, block, merge in zip(hint.convs, hint.blocks, hint.merges, strict=True):
            x = merge(block(conv(x)))
    return float((x[0] - x[1]).std())


def _hint() -> DenseHintInput:
    torch.manual_seed(0)
    return DenseHintInput(32, widths=(8, 16, 32, 64, 128), num_downsamples=4)


def test_variance_keeping_initialisation_keeps_masks_apart() -> None:
    assert 0.3 < _difference_of_two_masks(_hint().kaiming_init_()) < 3
    assert _difference_of_two_masks(_hint()) < 0.2  # what it is there for


def test_variance_keeping_initialisation_leaves_the_output_at_zero() -> None:
    with torch.no_grad():
        assert not _hint().kaiming_init_()(torch.rand(1, 3, 64, 64)).any()
