"""The raters' orders: complete, random, repeatable, group members as far apart as can be."""

from __future__ import annotations

import itertools
import random

import pytest

from siamese.study.rating.order import MAIN, REPEAT, TRAINING, Screen, arrange, spread


def screens(groups: int, members: int, images: int = 1, name: str = "g") -> list[Screen]:
    return [
        Screen(f"{name}{g}", tuple(f"{name}{g}.{m}.{i}" for i in range(images)))
        for g in range(groups)
        for m in range(members)
    ]


@pytest.mark.parametrize(("groups", "members"), [(50, 4), (7, 3), (1, 4), (5, 1)])
def test_members_of_a_group_are_as_far_apart_as_possible(groups, members):
    all_screens = screens(groups, members)
    order = spread(all_screens, random.Random(1))
    assert sorted(order, key=lambda s: s.items) == sorted(all_screens, key=lambda s: s.items)
    places: dict[str, list[int]] = {}
    for place, screen in enumerate(order):
        places.setdefault(screen.group, []).append(place)
    assert all(b - a == groups for p in places.values() for a, b in itertools.pairwise(p))


def test_session_is_training_then_main_then_repeats():
    order = arrange(screens(6, 4), screens(2, 2, name="t"), 5, seed=3)
    assert [s.phase for s in order] == [TRAINING] * 4 + [MAIN] * 24 + [REPEAT] * 5
    for place, screen in enumerate(order):
        if screen.phase == REPEAT:
            assert order[screen.repeat_of].items == screen.items
            assert place - screen.repeat_of == 24
    main = [s.group for s in order[4:]]
    for group in set(main):
        places = [i for i, g in enumerate(main) if g == group]
        assert min(b - a for a, b in itertools.pairwise(places)) == 6


def test_seed_alone_decides():
    main, training = screens(5, 3, 2), screens(1, 2, 2, "t")
    assert arrange(main, training, 3, 8) == arrange(main[::-1], training[::-1], 3, 8)
    assert arrange(main, training, 3, 8) != arrange(main, training, 3, 9)


def test_every_place_is_equally_likely():
    main, counts = screens(2, 2), {}
    for seed in range(2000):
        first = arrange(main, [], 0, seed)[0].items
        counts[first] = counts.get(first, 0) + 1
    assert len(counts) == 4
    assert all(400 < n < 600 for n in counts.values())


def test_images_side_by_side_change_places():
    pair, lefts = [Screen("g", ("a", "b"))], []
    for seed in range(1000):
        shown = arrange(pair, [], 1, seed)
        lefts.append(shown[0].items[0] == "a")
        assert set(shown[1].items) == {"a", "b"}
    assert 400 < sum(lefts) < 600
    assert len({arrange(pair, [], 1, s)[1].items == arrange(pair, [], 1, s)[0].items for s in range(20)}) == 2


def test_refuses_more_repeats_than_items():
    with pytest.raises(ValueError, match="cannot be repeated"):
        arrange(screens(2, 1), [], 3, 0)
