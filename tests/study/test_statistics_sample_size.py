"""Sample sizes: the intervals that simulated studies of the planned size get are as wide as planned."""

from __future__ import annotations

import numpy as np
import pytest

from siamese.study.statistics import StatisticsError
from siamese.study.statistics.bootstrap import bootstrap
from siamese.study.statistics.figures import Quantity, interval
from siamese.study.statistics.sample_size import (
    Components,
    difference_components,
    groups_needed,
    half_width,
    mos_components,
    plans,
)


def share(totals, weights):
    total = (totals * weights[..., None]).sum(-2)
    return total[..., :1] / total[..., 1:]


def answers_of(components, mos, raters, groups, generator):
    """Answers [R, G] of 0 and 1 with exactly these variances: the chance of 1 is mos, moved up or down by rater and by group."""
    up = np.sqrt(components.raters) * generator.choice([-1, 1], (raters, 1)) + np.sqrt(
        components.groups
    ) * generator.choice([-1, 1], groups)
    return (generator.random((raters, groups)) < mos + up).astype(np.float64)


@pytest.mark.parametrize(("raters", "wanted"), [(3, 0.08), (12, 0.11)])
def test_planned_width_is_reached(raters, wanted):
    components, generator = (
        mos_components(0.6, rater_share=0.08, group_share=0.1),
        np.random.default_rng(raters),
    )
    plan = groups_needed(components, wanted, raters)
    widths = []
    for _ in range(120):
        answers = answers_of(components, 0.6, raters, plan.groups, generator)
        (figure,) = bootstrap(
            np.stack([answers, np.ones_like(answers)], -1),
            share,
            [Quantity("MOS", "", 0, 1, average=True)],
            resamples=300,
        )
        widths.append((figure.high - figure.low) / 2)
    assert plan.conditional == (raters < 6)
    assert plan.half_width <= wanted
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(wanted, rel=0.08)
    assert half_width(components, plan.groups - 1, raters) > wanted


def test_formula_by_hand():
    """One rater: t(0.975, 49) = 2.00958 times sqrt(0.25 / 50), in Wilson's interval of a share of 0.5."""
    reach = 2.00958 * np.sqrt(0.25 / 50)
    assert half_width(mos_components(0.5, 0, 0), 50, 1) == pytest.approx(
        reach / np.sqrt(1 + 4 * reach**2), abs=1e-5
    )
    assert half_width(Components(0, 0, 0.25), 50, 1) == pytest.approx(reach, abs=1e-5)
    low, high = interval(0.5, 0.25 / 50, 49, 0.95, Quantity("MOS", "", 0, 1))
    assert half_width(mos_components(0.5, 0, 0), 50, 1) == pytest.approx((high - low) / 2)
    components = difference_components(0.9, 0.6, 0.1, 0.05)
    assert components.raters + components.groups + components.rest == pytest.approx(0.9 * 0.1 + 0.6 * 0.4)


def test_raters_not_groups_limit_what_holds_for_others():
    components = mos_components(0.5, rater_share=0.2)
    plan = groups_needed(components, 0.05, 6)
    assert plan.groups is None
    assert "invite more raters" in plan.reason


def test_plans_list_what_each_number_of_raters_needs():
    table = plans(mos_components(0.5), 0.15, (1, 3, 8, 20))
    assert [p.conditional for p in table] == [True, True, False, False]
    assert table[0].groups > table[1].groups
    assert table[2].groups > table[3].groups
    assert groups_needed(mos_components(0.5), 0.9, 3).groups == 5  # below, there is no interval


def test_no_width_is_beyond_the_range():
    """Of 4.3 for a MOS of 0.5 with one rater and two groups, before."""
    generator = np.random.default_rng(1)
    for groups, raters in ((2, 1), (2, 6), (3, 2), (5, 9), (50, 3)):
        for mos in generator.random((20, 2)):
            assert 0 < half_width(mos_components(mos[0]), groups, raters) <= 0.5
            assert 0 < half_width(difference_components(*mos), groups, raters) <= 1


def test_values_out_of_range_are_refused():
    components = mos_components(0.5)
    for call, message in [
        (lambda: mos_components(0), "between 0 and 1"),
        (lambda: mos_components(0.5, 0.8, 0.4), "together at most 1"),
        (lambda: difference_components(1, 0.5), "between 0 and 1"),
        (lambda: Components(0, 0, 0), "not all 0"),
        (lambda: Components(0, -1, 1), "0 or more"),
        (lambda: half_width(components, 1, 3), "two or more groups"),
        (lambda: half_width(components, 9, 1, conditional=False), "other raters"),
        (lambda: groups_needed(components, 0, 3), "above 0"),
    ]:
        with pytest.raises(StatisticsError, match=message):
            call()
