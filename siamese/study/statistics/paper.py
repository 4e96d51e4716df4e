"""Ratings that the paper reports, as reference lines beside a study's own. Not measured with this app.

Source: Siamese-Diffusion, supplement, section 9.1 and tables 7 and 8. The paper gives neither intervals nor raw answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from siamese.study.statistics.table import REAL

POLYPS, ISIC2016, ISIC2018 = "Polyps", "ISIC2016", "ISIC2018"
OURS = "Siamese-Diffusion"
MOS, CONFIDENCE = "MOS", "confidence"
REAL_OR_SYNTHETIC = "share judged real, 0 to 1; three clinicians, 50 groups of 4 images"
RANKED = "mean rank, 1 to 3 (best); one clinician, 50 groups of 3 images"


@dataclass(frozen=True)
class Reported:
    """One figure as reported by the paper."""

    dataset: str
    method: str
    figure: str
    """``MOS`` or ``confidence``."""
    value: float
    protocol: str
    """What the number means and who rated."""
    source: str

    @property
    def label(self) -> str:
        """Name for a plot or table."""
        return f"{self.method}, {self.dataset}, {self.figure} {self.value:g} (as reported by the paper)"


SECTION = "supplement, section 9.1"
REPORTED = (
    Reported(POLYPS, REAL, MOS, 0.9, REAL_OR_SYNTHETIC, SECTION),
    Reported(POLYPS, REAL, CONFIDENCE, 6.17, "mean confidence, 1 to 10", SECTION),
    Reported(POLYPS, OURS, MOS, 0.587, REAL_OR_SYNTHETIC, SECTION),
    Reported(POLYPS, OURS, CONFIDENCE, 6.04, "mean confidence, 1 to 10", SECTION),
    Reported(ISIC2016, REAL, MOS, 2.36, RANKED, SECTION),
    Reported(ISIC2016, "ControlNet", MOS, 1.68, RANKED, "supplement, table 7"),
    Reported(ISIC2016, OURS, MOS, 1.96, RANKED, "supplement, table 7"),
    Reported(ISIC2018, REAL, MOS, 2.66, RANKED, SECTION),
    Reported(ISIC2018, "ControlNet", MOS, 1.22, RANKED, "supplement, table 8"),
    Reported(ISIC2018, OURS, MOS, 2.12, RANKED, "supplement, table 8"),
)
"""T2I-Adapter has no MOS in tables 7 and 8: the clinicians excluded it as unrealistic."""
