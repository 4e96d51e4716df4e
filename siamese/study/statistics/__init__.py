"""Statistics of rating studies: from a table of answers to figures with intervals. numpy and scipy only.

``summarise_ratings``, ``summarise_rankings`` and ``summarise_pairs`` take a protocol's whole table and return typed, plain values;
``dataclasses.asdict`` of these is ready for JSON. The same seed gives the same figures.

Written by hand, because a figure is computed for thousands of resamples at once, as array operations: statsmodels, scikit-learn and choix
take one data set at a time. The tests hold the figures against theirs.
"""

from __future__ import annotations

from siamese.study.statistics.answer_tables import Pairs, Rankings, Ratings
from siamese.study.statistics.figures import CONDITIONAL, OVER_RATERS, Figure
from siamese.study.statistics.pairwise import PairSummary, summarise_pairs
from siamese.study.statistics.ranking import RankingSummary, summarise_rankings
from siamese.study.statistics.realism import RatingSummary, summarise_ratings
from siamese.study.statistics.table import REAL, Exclusion, JudgedPair, RankedImage, Rating, StatisticsError

__all__ = [
    "CONDITIONAL",
    "OVER_RATERS",
    "REAL",
    "Exclusion",
    "Figure",
    "JudgedPair",
    "PairSummary",
    "Pairs",
    "RankedImage",
    "RankingSummary",
    "Rankings",
    "Rating",
    "RatingSummary",
    "Ratings",
    "StatisticsError",
    "summarise_pairs",
    "summarise_rankings",
    "summarise_ratings",
]
