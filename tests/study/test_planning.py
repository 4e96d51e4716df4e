"""The size of a study, planned on the command line and on the administrator's page alike."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from siamese.study.__main__ import main
from siamese.study.creation.planning import PlanRequest, make_plan, wanted_half_width
from siamese.study.statistics.sample_size import groups_needed, half_width, mos_components
from siamese.study.statistics.table import StatisticsError
from tests.study.admin_pages import log_in


def test_a_plan_reaches_the_width_with_the_least_number_of_groups():
    plan = make_plan(PlanRequest(half_width=0.1, raters=(3, 16)))
    components = mos_components(0.5)
    assert plan.plans == tuple(groups_needed(components, 0.1, count) for count in (3, 16))
    for one in plan.plans:
        assert half_width(components, one.groups, one.raters) <= 0.1
        assert half_width(components, one.groups - 1, one.raters) > 0.1
    assert [row[3] for row in plan.rows()] == ["these raters only", "other raters, too"]


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_width_finds_the_difference_with_the_wanted_power(power):
    wanted = wanted_half_width(PlanRequest(real=0.8, method=0.6, power=power))
    estimates = np.random.default_rng(0).normal(0.2, wanted / 1.959964, 200_000)
    assert np.mean(estimates - wanted > 0) == pytest.approx(power, abs=0.005)
    assert math.isclose(wanted, wanted_half_width(PlanRequest(real=0.6, method=0.8, power=power)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "needs the half width"),
        ({"real": 0.5}, "are equal"),
        ({"real": 0.8, "power": 1.0}, "the power is"),
        ({"half_width": 0.0}, "above 0"),
        ({"half_width": 0.1, "method": 1.0}, "between 0 and 1"),
        ({"half_width": 0.1, "raters": (0,)}, "whole numbers from 1"),
        ({"half_width": 0.1, "rater_share": 2.0}, "shares"),
    ],
)
def test_what_cannot_be_planned_is_said(changes, message):
    with pytest.raises(StatisticsError, match=message):
        make_plan(PlanRequest(**changes))


def test_command_line(capsys):
    main(["plan", "--half-width", "0.1", "--raters", "5", "6"])
    said = capsys.readouterr().out
    assert re.search(r"^5 +23 +0\.099 +these raters only$", said, re.MULTILINE)
    assert "no number is enough with so few raters" in said
    with pytest.raises(SystemExit, match="1"):
        main(["plan"])
    assert "needs the half width" in capsys.readouterr().err


@pytest.mark.slow
def test_page(served):
    client = served[2]
    assert client.get("/study/admin/plan?half_width=0.1").status_code == 401
    log_in(client)
    page = client.get("/study/admin").text
    assert 'action="/study/admin/plan"' in page
    reply = client.get("/study/admin/plan?method=0.5&real=&half_width=0.1&power=0.8")
    assert reply.status_code == 200
    assert "<td>5</td><td>23</td><td>0.099</td><td>these raters only</td>" in reply.text
    for query, message in (
        ("half_width=&real=", "needs the half width"),
        ("half_width=x", "The half width must be a number such as 0.1"),
        ("half_width=nan", "above 0"),
        ("half_width=0.1&method=2", "between 0 and 1"),
    ):
        reply = client.get(f"/study/admin/plan?{query}")
        assert reply.status_code == 422, query
        assert message in reply.text
