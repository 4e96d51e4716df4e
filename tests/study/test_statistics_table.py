"""Tables of answers: what counts, what is excluded and why, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from siamese.study.statistics import (
    Exclusion,
    JudgedPair,
    Pairs,
    RankedImage,
    Rankings,
    Rating,
    Ratings,
    StatisticsError,
)

ROW = Rating("ann", "g1", "real", 1, 7, 2.5)


def change(**values):
    return dataclasses.replace(ROW, **values)


def test_first_answers_count_and_the_rest_is_recorded():
    table = Ratings.from_rows(
        [
            ROW,
            change(repeat=1, real=0),
            change(group="g2", training=True),
            change(rater="bob", group="g3", repeat=1),
            change(rater="bob", method="ours", seconds=None),
        ]
    )
    counted = table.counted()
    assert counted.item() == [("ann", "g1", "real"), ("bob", "g1", "ours")]
    assert counted.real.tolist() == [1, 1]
    assert np.isnan(counted.seconds[1])
    assert table.methods == ("real", "ours")
    assert table.groups == ("g1", "g2", "g3")
    assert counted.exclusions == (
        Exclusion("ann", 1, "training item"),
        Exclusion("bob", 1, "repeated item whose first answer is missing"),
        Exclusion("ann", 1, "repeated item: the first answer counts"),
    )
    assert [r.tolist() for r in table.repeated()] == [[0], [1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"real": 2}, "1 .real. or 0"),
        ({"confidence": 0}, "from 1 to 10"),
        ({"confidence": 11}, "from 1 to 10"),
        ({"confidence": 5.5}, "whole number"),
        ({"seconds": -1.0}, "0 or more"),
        ({"seconds": float("inf")}, "0 or more"),
        ({"seconds": "2"}, "numbers of seconds"),
        ({"repeat": -1}, "0, 1, 2"),
        ({"rater": ""}, "no rater"),
        ({"group": 3}, "must be text"),
    ],
)
def test_refuses_values_out_of_range(values, message):
    with pytest.raises(StatisticsError, match=message):
        Ratings.from_rows([change(**values)])


def test_refuses_two_answers_to_one_presentation():
    with pytest.raises(StatisticsError, match="only the latest correction"):
        Ratings.from_rows([ROW, change(real=0)])
    with pytest.raises(StatisticsError, match="two answers"):
        Pairs.from_rows([JudgedPair("ann", "g", "real", "ours"), JudgedPair("ann", "g", "ours", "real")])


def test_refuses_columns_of_different_length():
    table = Ratings.from_rows([ROW])
    with pytest.raises(StatisticsError, match="equally long"):
        dataclasses.replace(table, real=np.zeros(2, np.int64))


@pytest.mark.parametrize("rows", [[], [change(training=True)]])
def test_nothing_to_analyse(rows):
    with pytest.raises(StatisticsError, match="no answers to analyse yet"):
        Ratings.from_rows(rows).counted()


def test_rankings_have_no_ties_and_are_complete():
    def rows(group, ranks):
        return [
            RankedImage("ann", group, m, r) for m, r in zip(("real", "ours", "other"), ranks, strict=False)
        ]

    table = Rankings.from_rows([*rows("g1", (3, 2, 1)), *rows("g2", (2, 1))])
    assert table.complete().groups == ("g1",)
    assert table.complete().exclusions == (
        Exclusion("ann", 2, "ranking of fewer than the study's 3 methods"),
    )
    with pytest.raises(StatisticsError, match="uses 1 to 3 once each, 3 for the best"):
        Rankings.from_rows(rows("g1", (3, 3, 1)))


def test_a_pair_has_two_methods():
    with pytest.raises(StatisticsError, match="must differ"):
        Pairs.from_rows([JudgedPair("ann", "g", "ours", "ours")])
    assert Pairs.from_rows([JudgedPair("ann", "g", "ours", "real")]).methods == ("real", "ours")


@pytest.mark.slow
def test_imports_neither_torch_nor_test_libraries():
    check = "import sys, siamese.study.statistics; sys.exit(sum(m in sys.modules for m in ('torch', 'statsmodels', 'choix', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
