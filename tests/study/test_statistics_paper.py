"""The paper's figures, against the values of its supplement, which ``paper_tables.json`` holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from siamese.study.statistics.paper import (
    CONFIDENCE,
    ISIC2016,
    ISIC2018,
    MOS,
    OURS,
    POLYPS,
    REPORTED,
)

PAPER = json.loads((Path(__file__).parent / "paper_tables.json").read_text())


def reported(dataset: str, figure: str = MOS) -> dict[str, float]:
    """Value by method."""
    return {r.method: r.value for r in REPORTED if r.dataset == dataset and r.figure == figure}


def test_figures_are_consistent():
    """Three ranks of 1 to 3 sum to 6 in each group; shares of 150 answers (three raters, 50 groups) are whole numbers of answers."""
    for dataset in (ISIC2016, ISIC2018):
        assert sum(reported(dataset).values()) == pytest.approx(6)
    for share in reported(POLYPS).values():
        assert round(round(share * 150) / 150, 3) == share
    assert all("as reported by the paper" in r.label for r in REPORTED)
    assert len({r.label for r in REPORTED}) == len(REPORTED)
    assert reported("Stain") == {}


def test_figures_are_the_papers():
    tables, text = PAPER["tables"], PAPER["section 9.1"]
    for dataset, table in ((ISIC2016, "7"), (ISIC2018, "8")):
        assert tables[table]["dataset"] == dataset
        columns = {method: row["MOS"] for method, row in tables[table]["rows"].items()}
        figures = reported(dataset)
        assert columns == {"T2I-Adapter": None, "ControlNet": figures["ControlNet"], "Ours": figures[OURS]}
        assert {m: row["MOS"] for m, row in text[dataset].items()} == {
            "Ours": figures[OURS],
            "real": figures["real"],
        }
    for figure in (MOS, CONFIDENCE):
        expected = {OURS: text["Polyps"]["Ours"][figure], "real": text["Polyps"]["real"][figure]}
        assert reported(POLYPS, figure) == expected
