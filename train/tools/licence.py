"""Licence texts of weights: they follow the terms of the data that the weights were trained on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

KVASIR = """  Kvasir-SEG (research and education only). Jha et al., "Kvasir-SEG: A Segmented Polyp Dataset", MMM 2020, arXiv:1911.07069.
"""
CVC = """  CVC-ClinicDB (research and education only). Bernal et al., "WM-DOVA maps for accurate polyp highlighting in colonoscopy",
      Computerized Medical Imaging and Graphics 43, 2015.
"""
ISIC = """  ISIC 2018, task 1 (CC BY-NC 4.0). Codella et al. 2019, arXiv:1902.03368; Tschandl et al. 2018, "The HAM10000 dataset".
"""
TERMS = {"kvasir-seg": KVASIR, "cvc-clinicdb": CVC, "isic2018": ISIC}
"""Terms and source of the public sets, by their folder's name."""

_PUBLIC = """Weights of {name}: research and education only, non-commercial. Not for diagnosis.

The weights were trained on public research data and follow its terms:

{terms}{others}
No image of these data sets is in this folder. {code}
"""
_BESIDE = """
and on other data, and follow its terms as well: {others}.
"""
_OWN = """Weights of {name}: research and education. Not for diagnosis.

The weights follow the terms of the data that they were trained on: {others}.
Whoever trained them must know these terms, and write them here before passing the weights on.

No image of that data is in this folder. {code}
"""
_BEFORE = """
Training started from the weights {name}. Their licence holds as well:

{text}
"""
_UNKNOWN = """    Their folder has no LICENSE. Ask whoever made them for its terms, and write these here before passing the weights on."""
_CODE = "The code of this repository is licensed apart from this, under Apache-2.0."


@dataclass(frozen=True)
class StartingWeights:
    """The weights that training started from."""

    name: str
    licence: str
    """Text of their LICENSE; empty if there is none."""


def licence(name: str, sets: Sequence[str], before: StartingWeights | None = None) -> str:
    """Text of the LICENSE file of the weights ``name`` that were trained on ``sets`` (names of folders or of JSON-lines files).

    The licence of the weights ``before`` is quoted.

    Raises:
        ValueError: ``sets`` is empty: the terms would be a guess.
    """
    if not sets:
        raise ValueError("a licence needs the names of the data that the weights were trained on.")
    terms = "".join(text for known, text in TERMS.items() if known in sets)
    others = ", ".join(s for s in sets if s not in TERMS)
    if terms:
        beside = _BESIDE.format(others=others) if others else ""
        text = _PUBLIC.format(name=name, terms=terms, others=beside, code=_CODE)
    else:
        text = _OWN.format(name=name, others=others, code=_CODE)
    if before is None:
        return text
    quoted = textwrap.indent(before.licence.strip(), "    ") if before.licence.strip() else _UNKNOWN
    return text + _BEFORE.format(name=before.name, text=quoted)
