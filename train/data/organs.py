"""Organs of the known prompts, and subsets of pairs in which each is represented alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from siamese.records.prompts import LESION, POLYP
from train.data.pairs import Pair

ORGANS = {POLYP: "polyp", LESION: "lesion"}
"""Short names, in figures and folders, of the prompts of known data sets."""


def fixed_subset(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """``count`` pairs of each prompt, evenly spread over the sorted names; all of them if there are fewer."""
    by_prompt = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.prompt].append(pair)
    return [
        group[i]
        for group in by_prompt.values()
        for i in np.linspace(0, len(group) - 1, min(count, len(group))).astype(int)
    ]
