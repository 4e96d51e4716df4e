"""Settings of sampling: one frozen type from the page's form to the engine, the PNG's recipe and a study's record.

Free of torch, so that the page and the study server start at once. ``siamese.sampling`` passes the names on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypedDict, get_args

SchedulerName = Literal["dpm++", "ddim"]
GuidanceMode = Literal["prompt", "mask"]
"""What classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) strengthens. ``prompt``: the paper's; its unconditional half
has the empty prompt and the same hints. ``mask``: the unconditional half has the same prompt and no hint, so the image follows its
mask more. This is not in the paper. It costs less, as one ControlNet and one encoder run serve both halves."""

MAX_INFERENCE_STEPS = 1000
"""The schedulers' training steps T: no sampler takes more."""
ALIASES = {
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "guide": "guidance_mode",
    "rescale": "guidance_rescale",
}
"""Names of versions 0.1 and 0.2, in files and as keywords of ``sample``, with today's (the field's). The two ends of
``guidance_interval`` were ``guide_above`` and ``guide_below``."""
INTERVAL_ENDS = ("guide_above", "guide_below")


class SamplingOverrides(TypedDict, total=False):
    """Settings in the place of a model's defaults; a missing one, or None, is the model's."""

    num_inference_steps: int | None
    guidance_scale: float | None
    scheduler: SchedulerName | None
    guidance_mode: GuidanceMode | None
    guidance_rescale: float | None
    guidance_interval: tuple[float, float] | None


class SamplingKeywords(SamplingOverrides, total=False):
    """Keywords of ``MaskDiffusion.sample``: the settings, and their former names."""

    steps: int | None
    guidance: float | None
    guide: GuidanceMode | None
    rescale: float | None
    guide_above: float | None
    guide_below: float | None


@dataclass(frozen=True)
class SamplingSettings:
    """How an image is sampled; the defaults are the paper's.

    Raises:
        ValueError: a setting cannot be used. The message names it and says what it must be.

    >>> SamplingSettings(num_inference_steps=20).override(guidance_scale=2, steps=None).describe()
    '20 steps of ddim, guidance 2 by the prompt'
    """

    num_inference_steps: int = 50
    """Steps of the sampler, 1 to ``MAX_INFERENCE_STEPS``."""
    guidance_scale: float = 9.0
    """s in eps = eps_uncond + s (eps_cond - eps_uncond), 1 or more; at 1 only eps_cond is computed."""
    scheduler: SchedulerName = "ddim"
    """See ``siamese.sampling.build_scheduler``."""
    guidance_mode: GuidanceMode = "prompt"
    guidance_rescale: float = 0.0
    """Share, 0..1, of guidance's contrast that is taken back (``siamese.sampling.classifier_free_guidance``); 0 in the paper."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Guidance acts at timesteps t with low <= t / T <= high; at all of them in the paper. At the highest noise levels guidance
    reduces variety and overexposes, at the lowest it removes texture (Kynkaanniemi et al. 2024, arXiv:2404.07724)."""

    def __post_init__(self) -> None:
        """Check all values, and store plain integers and floats."""
        steps = self.num_inference_steps
        if (
            not isinstance(steps, Integral)
            or isinstance(steps, bool)
            or not 1 <= steps <= MAX_INFERENCE_STEPS
        ):
            raise ValueError(
                f"num_inference_steps is {steps!r}; it must be a whole number between 1 and {MAX_INFERENCE_STEPS}."
            )
        scale = _number("guidance_scale", self.guidance_scale)
        if scale < 1:
            raise ValueError(f"guidance_scale is {self.guidance_scale}; it must be 1 (none) or more.")
        _choice("scheduler", self.scheduler, get_args(SchedulerName))
        _choice("guidance_mode", self.guidance_mode, get_args(GuidanceMode))
        rescale = _number("guidance_rescale", self.guidance_rescale)
        if not 0 <= rescale <= 1:
            raise ValueError(f"guidance_rescale is {rescale}; it must be between 0 (off) and 1.")
        plain = {
            "num_inference_steps": int(steps),
            "guidance_scale": scale,
            "guidance_rescale": rescale,
            "guidance_interval": _interval(self.guidance_interval),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def guides_at(self, noise_level: float) -> bool:
        """Whether guidance acts at the timestep t with t / T = ``noise_level``."""
        low, high = self.guidance_interval
        return self.guidance_scale != 1 and low <= noise_level <= high

    def override(self, **given: Any) -> SamplingSettings:
        """These settings with those of ``given`` that are not None; former names (``ALIASES``) are understood.

        Raises:
            TypeError: an unknown name, or one setting under two names.
            ValueError: see ``SamplingSettings``.
        """
        return replace(self, **_renamed(given, self.guidance_interval))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"guidance_interval": list(self.guidance_interval)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingSettings:
        """Settings from JSON of this or a former version; the paper's for those that are missing.

        Raises:
            TypeError, ValueError: see ``override``.
        """
        return cls().override(**values)

    def describe(self) -> str:
        """One line for people."""
        low, high = self.guidance_interval
        text = f"{self.num_inference_steps} steps of {self.scheduler}, guidance {self.guidance_scale:g} by the {self.guidance_mode}"
        if (low, high) != (0, 1):
            text += f" at {low:g} <= t / T <= {high:g}"
        return text + (f", rescaled by {self.guidance_rescale:g}" if self.guidance_rescale else "")


SETTINGS = tuple(f.name for f in fields(SamplingSettings))
"""Names of the settings, in their order."""


def renamed_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stored mapping with today's names for former ones; all other entries are left as they are."""
    ours = {*SETTINGS, *ALIASES, *INTERVAL_ENDS}
    settings = _renamed({k: v for k, v in values.items() if k in ours}, (0.0, 1.0))
    if "guidance_interval" in settings:
        settings["guidance_interval"] = list(settings["guidance_interval"])  # as in JSON
    return {k: v for k, v in values.items() if k not in ours} | settings


def _renamed(given: Mapping[str, Any], interval: tuple[float, float]) -> dict[str, Any]:
    """``given`` without None, by today's names; ``interval`` completes one that is given by one end alone."""
    known: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        current = ALIASES.get(name, name)
        if name in INTERVAL_ENDS:
            ends[name] = value
        elif current not in SETTINGS:
            raise TypeError(f"unknown setting {name!r}; use {', '.join(SETTINGS)}.")
        elif current in known:
            raise TypeError(f"{current} is given under two names; give it once.")
        else:
            known[current] = value
    if ends:
        if "guidance_interval" in known:
            raise TypeError("guidance_interval is given under two names; give it once.")
        low, high = interval
        known["guidance_interval"] = (ends.get("guide_above", low), ends.get("guide_below", high))
    return known


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond every float
        raise ValueError(f"{name} is too large; it must be a finite number.") from None
    raise ValueError(f"{name} is {value!r}; it must be a finite number.")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(choices)}.")


def _interval(value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(
            f"guidance_interval is {value!r}; it must be two shares of all timesteps, low and high."
        )
    low, high = (_number("guidance_interval", end) for end in value)
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"guidance_interval is {low:g} to {high:g}; both ends must be shares of all timesteps, 0 to 1, "
            "and the first must not be the larger."
        )
    return low, high


UNGUIDED = SamplingSettings(guidance_scale=1.0)
"""For ``denoise`` without guidance."""
