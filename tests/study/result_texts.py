"""All words of a results page."""

from __future__ import annotations

from siamese.study.report.sections import sections_of


def texts(results) -> str:
    """All words of the sections."""
    return "\n".join(
        [
            line
            for s in sections_of(results)
            for line in (
                s.title,
                *s.text,
                *(x for p in s.plots for x in (p.title, p.markup)),
                *(
                    x
                    for t in s.tables
                    for x in (t.caption, *t.headers, *t.notes, *(c for row in t.rows for c in row))
                ),
            )
        ]
    )
