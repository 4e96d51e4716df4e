"""Every interval of the three protocols: inside the range of its statistic whatever the answers, and around the truth as often as it says."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from siamese.study.statistics import (
    Figure,
    JudgedPair,
    Pairs,
    RankedImage,
    Rankings,
    Rating,
    Ratings,
    StatisticsError,
    ranking,
    realism,
    summarise_pairs,
    summarise_rankings,
    summarise_ratings,
)
from siamese.study.statistics.agreement import fleiss_figure, within
from tests.study.simulated_ratings import Model
from tests.study.simulated_truths import (
    NAMES,
    WEIGHTS,
    Drawn,
    Truths,
    all_raters,
    binary_chances,
    draw_pairs,
    draw_rankings,
    draw_ratings,
    of_all,
    pair_truths,
    ranking_truths,
    twice,
    within_truths,
)

FAST = {"resamples": 200}
UNIT, SIGNED, ANY = (0, 1), (-1, 1), (-math.inf, math.inf)
RANGES = {
    "mos": UNIT,
    "confidence": (1, 10),
    "real_minus_method": SIGNED,
    "balanced_accuracy": UNIT,
    "sensitivity": UNIT,
    "specificity": UNIT,
    "d_prime": ANY,
    "criterion": ANY,
    "auc": UNIT,
    "judged_real": UNIT,
    "fleiss_kappa": SIGNED,
    "alpha": SIGNED,
    "alpha_confidence": SIGNED,
    "same": UNIT,
    "kappa": SIGNED,
    "mean_rank": (1, 3),
    "rater_means": (1, 3),
    "ranked_best": UNIT,
    "strength": ANY,
    "chosen": UNIT,
    "beats_real": UNIT,
    "found_real": UNIT,
}
"""By the figure's name; a figure that is not here fails the tests."""
PROTOCOLS = {
    "ratings": (Ratings, summarise_ratings),
    "rankings": (Rankings, summarise_rankings),
    "pairs": (Pairs, summarise_pairs),
}
STUDIES = {"ratings": 30, "rankings": 40, "pairs": 60}
"""Enough that each figure has an interval five times or more."""
Path = tuple[str | int, ...]


def figures_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Figure]]:
    """All figures of a summary with the names and places that lead to them."""
    if isinstance(value, Figure):
        yield path, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from figures_of(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for n, part in enumerate(value):
            yield from figures_of(part, (*path, n))


def name_of(path: Path) -> str:
    """The figure's own name."""
    return [p for p in path if isinstance(p, str)][-1]


def small_study(protocol: str, generator: np.random.Generator) -> list[Any]:
    """Rows of 1 to 7 raters and 1 to 8 groups, some answers missing, some items shown twice; extreme as often as not."""
    raters, groups = int(generator.integers(1, 8)), int(generator.integers(1, 9))
    lean, missing = float(generator.choice([0, 0.03, 0.5, 0.97, 1])), float(generator.choice([0, 0, 0.4]))
    fixed = generator.integers(10_000)
    rows: list[Any] = []
    for rater in range(raters):
        for group in range(groups):
            for repeat in range(1 + (group < 6)):
                who = {"rater": f"r{rater}", "group": f"g{group}", "repeat": repeat}
                if generator.random() < missing:
                    continue
                if protocol == "ratings":
                    rows += [
                        Rating(
                            method=m,
                            real=int(generator.random() < lean),
                            confidence=int(generator.choice([1, 5, 10])),
                            **who,
                        )
                        for m in NAMES.tolist()
                        if generator.random() >= missing
                    ]
                elif protocol == "rankings":
                    order = (
                        np.random.default_rng(fixed).permutation(3)
                        if generator.random() < lean
                        else generator.permutation(3)
                    )
                    rows += [
                        RankedImage(method=m, rank=int(r) + 1, **who)
                        for m, r in zip(NAMES.tolist(), order, strict=True)
                    ]
                else:
                    for method in NAMES[1:].tolist():
                        ends = (method, "real") if generator.random() < lean else ("real", method)
                        rows.append(JudgedPair(winner=ends[0], loser=ends[1], **who))
    return rows


@pytest.fixture
def no_tests(monkeypatch):
    """Rankings without their tests, which have no interval and take longer than all that has one."""
    monkeypatch.setattr(ranking, "friedman", lambda blocks: None)
    monkeypatch.setattr(ranking, "pair_tests", lambda blocks, methods: ())


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_interval_stays_in_its_range(protocol, no_tests):
    table, summarise = PROTOCOLS[protocol]
    generator, seen = np.random.default_rng(list(PROTOCOLS).index(protocol)), Counter()
    for _ in range(STUDIES[protocol]):
        try:
            summary = summarise(table.from_rows(small_study(protocol, generator)), **FAST)
        except StatisticsError:
            continue
        raters = len(summary.raters)
        for path, figure in figures_of(summary):
            name = name_of(path)
            low, high = RANGES[name] if name != "fleiss_kappa" else (-1 / max(1, raters - 1), 1)
            if figure.value is None:
                assert figure.reason, path
                assert figure.low is None, path
                assert figure.high is None, path
                continue
            assert low - 1e-9 <= figure.value <= high + 1e-9, (path, figure)
            if figure.low is None:
                assert figure.reason, (path, figure)
                assert figure.high is None, (path, figure)
                continue
            seen[name] += 1
            assert low <= figure.low <= figure.value <= figure.high <= high, (path, figure)
            assert figure.low < figure.high, (path, figure)
            assert figure.basis, (path, figure)
    names = {name_of(p) for p, _ in figures_of(summary)}
    assert names <= RANGES.keys(), seen
    assert all(seen[n] >= 5 for n in names), seen


MODEL = Model((0.9, 0.587))
"""MOS of the paper's real images and of its method."""
GAINS, RATER, IMAGE = {"rankings": np.array([0.8, 0.3, -0.8]), "pairs": np.array([-0.3, -1.2])}, 0.4, 0.5
"""Log worths, of real, ours and poor, and of ours and poor against real; standard deviations between raters and between images."""


BETWEEN, WITHIN = {"alpha", "alpha_confidence", "fleiss_kappa"}, {"same", "kappa"}
"""Agreement between raters, and of a rater's first and second answers."""


def drawn_study(
    protocol: str,
    raters: int,
    groups: int,
    repeats: int,
    generator: np.random.Generator,
    others: Truths | None,
) -> Drawn:
    """One study of a protocol's model."""
    if protocol == "ratings":
        return draw_ratings(MODEL, raters, groups, repeats, generator, others)
    gains = GAINS[protocol] + generator.normal(0, RATER, (raters, len(GAINS[protocol])))
    return (draw_rankings if protocol == "rankings" else draw_pairs)(
        gains, IMAGE, groups, repeats, generator, others
    )


def truths_of_all(protocol: str) -> Truths:
    """What is true of all raters."""
    if protocol == "ratings":
        return all_raters(MODEL)
    generator = np.random.default_rng(0)
    gains = GAINS[protocol] + generator.normal(0, RATER, (1000, len(GAINS[protocol])))
    return of_all(
        ranking_truths(gains, IMAGE, generator) if protocol == "rankings" else pair_truths(gains, IMAGE)
    )


def truth_of(path: Path, truths: Truths) -> tuple[str, float]:
    """The kind of a figure, and what is true of it; a figure without a truth fails the tests."""
    name = name_of(path)
    if path[0] in ("raters", "rater_means") or (path[0] == "within_rater" and path[1] > 0):
        rater = path[1] - (path[0] == "within_rater")
        truth = np.asarray(truths[f"{name} by rater"])[rater]
        return f"{name} by rater", float(truth[path[2]] if path[0] == "rater_means" else truth)
    if path[0] == "methods":
        return f"{name} by method", truths[f"{name} {NAMES[path[1]]}"] if "detection" in path else truths[
            name
        ][path[1]]
    return name, truths[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "raters", "groups", "repeats"),
    [
        ("ratings", 1, 40, 12),
        ("ratings", 3, 50, 12),
        ("ratings", 6, 30, 12),
        ("rankings", 3, 50, 12),
        ("rankings", 6, 30, 0),
        ("pairs", 3, 50, 12),
        ("pairs", 6, 30, 0),
    ],
)
def test_every_interval_covers_the_truth(protocol, raters, groups, repeats, no_tests, monkeypatch):
    """The share of 200 studies whose interval holds the truth; ``-s`` prints it.

    With 95 % it is 0.91 or more in 199 of 200 runs, with 88 % in one of ten. Agreement between raters covers 89 to 97 % with 12 to 50 groups
    (see ``agreement``), for which the floor is 0.88 and tells less. It may be 1: six raters are few to tell a variance, and a share of 12 items is coarse.
    """
    if raters > 1:
        monkeypatch.setattr(
            realism, "rater_ratings", lambda table, *_, **__: str(table.rater[0])
        )  # a rater's own figures are those of one rater
    generator = np.random.default_rng([3, raters, groups, len(protocol)])
    others = truths_of_all(protocol) if raters >= 6 else None
    hits: dict[str, list[bool]] = {}
    without = Counter()
    for _ in range(200):
        study = drawn_study(protocol, raters, groups, repeats, generator, others)
        for path, figure in figures_of(PROTOCOLS[protocol][1](study.answers, **FAST)):
            if figure.low is None:
                without[name_of(path)] += 1
                continue
            kind, truth = truth_of(path, study.truths)
            hits.setdefault(kind, []).append(figure.low <= truth <= figure.high)
    shares = {kind: round(float(np.mean(h)), 3) for kind, h in hits.items()}
    print(f"{protocol}, {raters} raters, {groups} groups:", shares, "no interval:", dict(without))
    names = {name_of(p) for p, _ in figures_of(PROTOCOLS[protocol][1](study.answers, **FAST))}
    assert {kind.partition(" by ")[0] for kind in shares} == names - (BETWEEN if raters == 1 else set()) - (
        set() if repeats else WITHIN
    )
    assert min(map(len, hits.values())) >= 150, Counter({k: len(h) for k, h in hits.items()})
    assert all(share >= (0.88 if kind in BETWEEN else 0.91) for kind, share in shares.items()), shares


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raters", "items", "lean"), [(1, 12, 0.8), (1, 24, 1.3), (3, 12, 1.0), (3, 20, 1.0), (8, 12, 0.0)]
)
def test_agreement_of_few_items_and_a_rare_answer_is_covered(raters, items, lean):
    """Cohen's kappa of one rater, Fleiss' of several, of 12 to 24 items with 14 to 50 % of one answer: by resampling alone, 73 to 85 %."""
    generator, model = np.random.default_rng([raters, items]), Model((0.5,), group=0, image=0.64)
    leans = lean + np.linspace(-0.3, 0.3, raters) if raters > 1 else np.array([lean])
    chances = binary_chances(model, leans[:, None])
    between = np.einsum("rqc,sqk,q->rsck", chances[:, 0], chances[:, 0], WEIGHTS)
    between = (between.sum((0, 1)) - np.einsum("rrck->ck", between))[None] / max(1, raters * (raters - 1))
    truth = within_truths(twice(chances) if raters == 1 else between)["kappa"]
    hits, group = [], np.arange(items)
    for _ in range(300):
        x = (
            leans[:, None]
            + model.image * generator.normal(size=items)
            + generator.normal(size=(max(2, raters), items))
        )
        answers = (x > 0).astype(np.int64)
        names = np.char.add("g", group.astype(str))
        figure = (
            within(np.full(items, "r"), names, answers[0], answers[1], (), **FAST)[0].kappa
            if raters == 1
            else fleiss_figure(answers.astype(np.float64), group, **FAST)[0]
        )
        if figure.low is not None:
            hits.append(figure.low <= truth <= figure.high)
    print(f"{raters} raters, {items} items, lean {lean}: {np.mean(hits):.3f} of {len(hits)}")
    assert len(hits) >= 150
    assert np.mean(hits) >= 0.88
