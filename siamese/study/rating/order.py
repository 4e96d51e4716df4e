"""The order in which a rater sees a study: random from a seed, a group's members far apart, training first, repeats last.

Drawn with a generator of their own from each rater's seed, so that an order can be drawn again and depends on nothing else in the process.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

TRAINING, MAIN, REPEAT = "training", "main", "repeat"


@dataclass(frozen=True)
class Screen:
    """What is shown at one time."""

    group: str
    """Mask group of the images."""
    items: tuple[str, ...]
    """Ids of the images, from left to right."""
    phase: str = MAIN
    repeat_of: int | None = None
    """Position of the screen that this one repeats."""


def spread(screens: Sequence[Screen], rng: random.Random) -> list[Screen]:
    """``screens`` in random order with screens of one group as far apart as possible.

    Each round shows one screen of each group, and all rounds visit the groups in the same random order. With G groups of M screens,
    screens of one group are exactly G apart; no order of G x M screens has a greater least distance. Which of a group's screens comes
    in which round is random.
    """
    groups: dict[str, list[Screen]] = {}
    for screen in sorted(screens, key=lambda s: (s.group, s.items)):
        groups.setdefault(screen.group, []).append(screen)
    names = list(groups)
    rng.shuffle(names)
    for members in groups.values():
        rng.shuffle(members)
    rounds = max((len(members) for members in groups.values()), default=0)
    return [groups[name][i] for i in range(rounds) for name in names if i < len(groups[name])]


def sides(screen: Screen, rng: random.Random) -> Screen:
    """``screen`` with its images in random places."""
    return replace(screen, items=tuple(rng.sample(sorted(screen.items), len(screen.items))))


def arrange(main: Sequence[Screen], training: Sequence[Screen], repeats: int, seed: int) -> list[Screen]:
    """A rater's whole session; the same for the same arguments, whatever the order of ``main`` and ``training``.

    Repeats are the first main screens in the same order, after all others: they continue the rounds of ``spread``, so that each is
    as far as possible from its first showing and from its group's other members. Images on a repeated screen change places.

    Raises:
        ValueError: more repeats than main screens.
    """
    if not 0 <= repeats <= len(main):
        raise ValueError(f"{repeats} of {len(main)} items cannot be repeated.")
    rng = random.Random(seed)
    first = [replace(sides(s, rng), phase=TRAINING) for s in spread(training, rng)]
    rated = [replace(sides(s, rng), phase=MAIN) for s in spread(main, rng)]
    again = [
        replace(sides(s, rng), phase=REPEAT, repeat_of=len(first) + i) for i, s in enumerate(rated[:repeats])
    ]
    return first + rated + again
