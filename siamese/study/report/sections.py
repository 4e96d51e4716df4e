"""Results in words and numbers: the sections that the results page and the report show alike, whatever the protocol."""

from __future__ import annotations

from siamese.study.document.blocks import TIME_HEADERS, Section, full_sentence, table, time_cells
from siamese.study.rater_names import natural
from siamese.study.report.results import RaterProgress, Results


def sections_of(results: Results) -> tuple[Section, ...]:
    """Everything that results pages show, in their order."""
    found = [Section("Raters", results.who)]
    config = results.study.config
    if results.summary is None:
        found.append(Section("Figures", (full_sentence(results.missing or ""),)))
    else:
        found += config.rules.sections(results.summary, results.reported, config.repeats)
    found += [
        times_section(results),
        paper_section(results),
        progress_section(results),
        exclusions_section(results),
    ]
    return tuple(found)


def times_section(results: Results) -> Section:
    """How long answers took."""
    if results.summary is None:
        return Section("Response times", ("None without figures.",))
    tables = [
        table(
            "Seconds from image to answer, by rater",
            ("Rater", *TIME_HEADERS),
            [(t.rater or "all raters", *time_cells(t.times)) for t in results.times],
        )
    ]
    tables += results.study.config.rules.time_tables(results.summary)
    return Section(
        "Response times",
        ("By the rater's browser. A corrected answer counts with the time of its correction.",),
        (),
        tuple(tables),
    )


def paper_section(results: Results) -> Section:
    """What the paper reports."""
    if not results.reported:
        return Section("As reported by the paper", ("The paper has no study of this protocol.",))
    rows = [(r.dataset, r.method, r.figure, f"{r.value:g}", r.protocol, r.source) for r in results.reported]
    return Section(
        "As reported by the paper",
        ("Not measured with this app. The paper gives neither intervals nor raw answers.",),
        (),
        (
            table(
                "Siamese-Diffusion", ("Data set", "Method", "Figure", "Value", "What it is", "Source"), rows
            ),
        ),
    )


def progress_section(results: Results) -> Section:
    """How far the raters are."""
    if not results.progress:
        return Section("Progress", ("Nobody is invited yet.",))
    done = sum(p.answered >= p.screens for p in results.progress)
    return Section(
        "Progress",
        (f"{done} of {len(results.progress)} raters have finished.",),
        (),
        (
            table(
                "Screens answered, practice included",
                ("Rater", "Answered", "Of", "Items that count", "State"),
                [
                    (
                        p.rater,
                        p.answered,
                        p.screens,
                        f"{p.counted} of {results.study.config.counted}",
                        state_of(p),
                    )
                    for p in results.progress
                ],
            ),
        ),
    )


def state_of(rater: RaterProgress) -> str:
    """How far a rater is, in words."""
    if rater.excluded:
        return "excluded"
    if rater.answered >= rater.screens:
        return "finished"
    return "in progress" if rater.answered else "not started"


def exclusions_section(results: Results) -> Section:
    """What is excluded and why."""
    rows = [
        (e.rater or "all raters", e.answers, e.reason)
        for e in sorted(results.exclusions, key=lambda e: natural(e.rater))
    ]
    text = [] if rows else ["Nothing is excluded."]
    text += (
        [f"{results.corrections} answers were corrected by their rater; the corrections count."]
        if results.corrections
        else []
    )
    text += [
        f"A rater's data was deleted ({w.answers_deleted} answers), asked for by the {w.requested_by}."
        for w in results.withdrawals
    ]
    return Section(
        "Excluded",
        tuple(text),
        (),
        (table("Excluded answers", ("Rater", "Answers", "Reason"), rows),) if rows else (),
    )
