"""Raters' public names: ``rater 1``, ``rater 2``, ... in the order of their invitations. Links and pseudonyms are not in them."""

from __future__ import annotations

PATTERN = r"^rater [1-9][0-9]{0,3}$"
"""Names that an export may hold."""


def rater_name(number: int) -> str:
    """The name of the rater who was invited as the ``number``-th, from 1."""
    return f"rater {number}"


def rater_number(name: str | None) -> int:
    """The number in a rater's name; -1 for None (all raters together) and 0 for other names, so that it sorts raters as invited."""
    last = (name or "").rpartition(" ")[2]
    return -1 if name is None else int(last) if last.isdecimal() else 0


def natural(name: str | None) -> tuple[int, str]:
    """A key that sorts all raters together first, then ``rater 2`` before ``rater 10``."""
    return rater_number(name), name or ""
