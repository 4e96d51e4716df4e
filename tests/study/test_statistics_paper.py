"""The paper's figures, against its text where it is at hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from siamese.study.statistics.paper import CONFIDENCE, ISIC2016, ISIC2018, MOS, OURS, POLYPS, REPORTED

SUPPLEMENT = Path(__file__).parents[3] / "shared" / "paper" / "supplement.txt"


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


@pytest.mark.skipif(not SUPPLEMENT.exists(), reason="the paper's supplement is not at hand")
def test_figures_are_the_papers():
    text = SUPPLEMENT.read_text("utf-8")
    for dataset, table in ((ISIC2016, 7), (ISIC2018, 8)):
        rows = text.split(f"Table {table}.")[1].split("Methods")[1].splitlines()[1:4]
        columns = {r.split("\t")[0].split(" [")[0]: r.split("\t")[-1] for r in rows}
        assert columns == {
            "T2I-Adapter": "-",
            "ControlNet": str(reported(dataset)["ControlNet"]),
            "Ours": str(reported(dataset)[OURS]),
        }
        paragraph = re.search(rf"{dataset} Dataset:.*?(?=\n\n\w+ (?:&|Dataset))", text, re.S).group()
        assert f"MOS score of {reported(dataset)['real']}." in paragraph
    assert "MOS score of 0.587 with a confidence level of 6.04" in text
    assert "MOS score of 0.9 and confidence level of 6.17" in text
    assert reported(POLYPS) == {"real": 0.9, OURS: 0.587}
    assert reported(POLYPS, CONFIDENCE) == {"real": 6.17, OURS: 6.04}
