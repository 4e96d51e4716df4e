"""Names of the three protocols, for tests."""

from __future__ import annotations

REAL_SYNTHETIC, RANKING, PAIRWISE = "real_synthetic", "ranking", "pairwise"
PROTOCOLS = (REAL_SYNTHETIC, RANKING, PAIRWISE)
