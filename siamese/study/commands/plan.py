"""``plan``: how many raters and mask groups a study needs."""

from __future__ import annotations

from dataclasses import dataclass

from siamese.study.creation.planning import HEADINGS, RATERS, PlanRequest, StudyPlan, make_plan


@dataclass(frozen=True)
class PlanSize:
    """Say how many raters and mask groups a study needs, if each image is judged real or synthetic.

    Either for an interval of a wanted half width, or to find a difference between real images and a method:
    "plan --half-width 0.1" or "plan --real 0.8 --method 0.6 --power 0.8". Nothing is stored.
    """

    method: float = 0.5
    """Expected share of the synthetic method's images that raters judge real (its MOS); 0.5 if nothing is known."""
    real: float | None = None
    """Expected share of the real images that raters judge real. With it the plan is for the difference of the two."""
    half_width: float | None = None
    """Half width that the 95 % interval should have, such as 0.1. Can be left out with --real: --power then gives it."""
    power: float = 0.8
    """Probability of finding the difference between --real and --method if it is the true one."""
    raters: tuple[int, ...] = RATERS
    """Numbers of raters to plan for."""
    rater_share: float = 0.1
    """Share of the answers' variance that lies between raters."""
    group_share: float = 0.05
    """Share of the answers' variance that lies between masks."""

    def run(self) -> None:
        """Print the table."""
        request = PlanRequest(
            method=self.method,
            real=self.real,
            half_width=self.half_width,
            power=self.power,
            raters=self.raters,
            rater_share=self.rater_share,
            group_share=self.group_share,
        )
        print(text_of(make_plan(request)))


def text_of(plan: StudyPlan) -> str:
    """The plan as lines of columns."""
    table = [HEADINGS, *plan.rows()]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    lines = [
        f"For an interval of {plan.figure} that reaches {plan.half_width:.3f} to each side:",
        *(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ),
        "Each rater sees one image of every method for each mask group. About half of all studies come out narrower.",
    ]
    return "\n".join(lines)
