"""One answer of a study with everything that exports and results need of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerRecord:
    """One answer with everything that is known about it. The names of the fields are those of the exported JSON."""

    number: int
    """Counts the study's answers, from 1, in the order of their arrival."""
    rater: str
    """``rater 1``, ``rater 2``, ..."""
    pseudonym: str
    role: str
    phase: str
    position: int
    repeat_of: int | None
    group: str
    methods: tuple[str, ...]
    """From left to right."""
    response: tuple[int, ...]
    """For each image: 1 judged real and 0 synthetic, its rank, or 1 for the chosen one and 0 for the other."""
    confidence: int | None
    comment: str
    client_ms: int | None
    server_ms: int
    created_at: float
    supersedes: int | None
    """Number of the answer that this one corrects."""
    current: bool
    """Whether no later answer corrects it."""
    excluded: str
    """Why its rater is excluded; empty if the rater is not."""
