"""Groups that are not parted between folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.data.pairs import Pair
from train.data.sequences import LAST_FRAMES, groups_of, sequence_of


def test_sequences_of_cvc_clinicdb():
    assert len(LAST_FRAMES) == 29
    assert list(LAST_FRAMES) == sorted(set(LAST_FRAMES))
    known = {
        1: 1,
        25: 1,
        26: 2,
        51: 3,
        67: 3,
        200: 10,
        205: 10,
        206: 11,
        447: 21,
        448: 22,
        466: 22,
        467: 23,
        592: 29,
        612: 29,
    }
    assert {frame: sequence_of(frame) for frame in known} == known
    for frame in (0, 613):
        with pytest.raises(ValueError, match="not a frame"):
            sequence_of(frame)


def test_groups():
    def pair(name: str, mask: str) -> Pair:
        return Pair(name, Path("image.png"), Path(mask), "")

    pairs = [
        pair("cvc-clinicdb/448", "a"),
        pair("cvc-clinicdb/466", "b"),
        pair("cvc-clinicdb/467", "c"),
        pair("kvasir-seg/448", "d"),
        pair("mine/000001-x", "e"),
        pair("mine/000002-y", "e"),
        pair("cvc-clinicdb/900", "f"),
        pair("cvc-clinicdb/new", "g"),
    ]
    groups = groups_of(pairs)
    assert groups[0] == groups[1] != groups[2]
    assert groups[4] == groups[5]
    assert len(set(groups)) == 6
