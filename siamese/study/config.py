"""A study's configuration: what is shown to whom and how it is judged, as typed values with one canonical form and its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from siamese.study.methods import KINDS, SYNTHETIC, Method, of_kind
from siamese.study.protocols import RatingProtocol, find_protocol, protocol_names
from siamese.study.statistics.table import REAL

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
LIMITS = {
    "groups": (1, 5000),
    "training": (0, 200),
    "repeats": (0, 1000),
    "display_side": (128, 2048),
    "seed": (0, 2**63 - 1),
}
MAX_TEXT_LENGTH = 20_000
TEXTS = {
    "title": (1, 200),
    "organ": (1, 100),
    "instructions": (0, MAX_TEXT_LENGTH),
    "consent": (1, MAX_TEXT_LENGTH),
}
"""Least and most characters."""
SHOWN_LENGTH = 60
"""Characters of a wrong value that a message repeats."""

DEFAULT_CONSENT = (
    "I take part of my own will. My answers, their times, my pseudonym and my role are stored and may be published without my "
    "name. I can stop at any time, and have my data deleted with the button Withdraw."
)


class ConfigError(ValueError):
    """The configuration cannot be used; ``problems`` lists everything that is wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("this study cannot be made:\n" + "\n".join(f"- {p}" for p in problems))


@dataclass(frozen=True)
class StudyConfig:
    """What a study shows and asks.

    Raises:
        ConfigError: on construction, with every value that cannot be used.
    """

    id: str
    """Lower-case letters, digits and hyphens; part of addresses that only administrators see."""
    title: str
    """Raters see it: it must not name a method."""
    protocol: str
    """One of ``siamese.study.protocols.protocol_names()``."""
    organ: str
    """What the images show, for the record: polyp, lesion, ..."""
    methods: tuple[Method, ...]
    groups: int
    """Mask groups that are rated; each has one image per method (paper: 50)."""
    training: int = 0
    """Items with feedback before the first rated one, from groups of their own. Never analysed with the others: feedback changes accuracy."""
    repeats: int = 0
    """Items shown a second time at the end, for within-rater agreement; the first answer counts."""
    share_known: bool = False
    """Whether raters see the share of real images."""
    comments: bool = True
    """Whether a comment can be left with an answer."""
    instructions: str = ""
    """Plain text; the protocol's own if empty."""
    consent: str = DEFAULT_CONSENT
    """Plain text that a rater agrees to."""
    display_side: int = 512
    """Longer side in pixels of every image as it is sent."""
    seed: int = 0
    """Chooses the groups and the noise of sampled images. Not the raters' orders: each has a secret seed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(self.methods))
        known = find_protocol(self.protocol)
        if not self.instructions and known:
            object.__setattr__(self, "instructions", known.instructions)
        problems = find_problems(self)
        if problems:
            raise ConfigError(problems)

    @property
    def rules(self) -> RatingProtocol[Any]:
        """The protocol itself: what it shows, which answers fit and how they are analysed."""
        rules = find_protocol(self.protocol)
        if rules is None:  # every configuration was checked when it was made
            raise ConfigError([unknown_protocol(self.protocol)])
        return rules

    @property
    def real(self) -> tuple[Method, ...]:
        """Methods of real images, in the configuration's order."""
        return of_kind(self.methods, REAL)

    @property
    def synthetic(self) -> tuple[Method, ...]:
        """Methods of synthetic images, in the configuration's order."""
        return of_kind(self.methods, SYNTHETIC)

    @property
    def per_group(self) -> int:
        """Items (screens) that one group yields."""
        return self.rules.screens_per_group(self.methods)

    @property
    def training_groups(self) -> int:
        """Groups that the training items need."""
        return -(-self.training // self.per_group)

    @property
    def counted(self) -> int:
        """Items that each rater answers and that count in figures: neither training nor repeats."""
        return self.groups * self.per_group

    @property
    def rated(self) -> int:
        """Items that each rater answers, repeats included, training not."""
        return self.counted + self.repeats

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"methods": [dataclasses.asdict(m) for m in self.methods]}

    def canonical(self) -> str:
        """The one JSON text of this configuration: sorted keys, no spaces, ASCII."""
        return json.dumps(
            self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )

    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode("ascii")).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> StudyConfig:
        """A configuration from untrusted JSON.

        Raises:
            ConfigError: no JSON object, unknown or missing fields, or values that cannot be used.
        """
        try:
            values = json.loads(text)
        except ValueError as error:  # also too many digits
            raise ConfigError([f"it is not JSON ({error})."]) from error
        except RecursionError as error:
            raise ConfigError(["it is not JSON that a study could be (nested too deeply)."]) from error
        if not isinstance(values, dict):
            raise ConfigError(["a JSON object is needed, such as export writes."])
        fields = {f.name: f for f in dataclasses.fields(cls)}
        problems = [f"unknown field {name!r}." for name in values if name not in fields]
        problems += [
            f"the field {name!r} is missing."
            for name, f in fields.items()
            if f.default is dataclasses.MISSING and name not in values
        ]
        methods = values.get("methods", [])
        names = {f.name for f in dataclasses.fields(Method)}
        if not isinstance(methods, list) or not all(
            isinstance(m, dict) and {"name", "kind"} <= set(m) <= names for m in methods
        ):
            problems.append(
                'methods must be a list of {"name": ..., "kind": "real" or "synthetic", "source": ...}.'
            )
        if problems:
            raise ConfigError(problems)
        made: dict[str, Any] = values | {"methods": tuple(Method(**m) for m in methods)}
        return cls(**made)


def find_problems(config: StudyConfig) -> list[str]:
    """Everything that is wrong with ``config``, one sentence each; empty if it can be used."""
    problems = list(field_problems(vars(config)).values())
    problems += method_problems(config)
    if not problems and config.repeats > config.groups * config.per_group:
        problems.append(
            f"repeats ({config.repeats}) cannot be more than the {config.groups * config.per_group} items that are rated."
        )
    return problems


def field_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with each field alone, a sentence by the field's name; ``methods`` are not looked at.

    Args:
        values: of all fields of ``StudyConfig`` that are looked at.
    """
    problems = {}
    if not isinstance(values["id"], str) or not IDENTIFIER.fullmatch(values["id"]):
        problems["id"] = (
            f"id {shortened(values['id'])}: use 1 to 48 lower-case letters, digits and hyphens, not beginning with a hyphen."
        )
    for name, (least, most) in TEXTS.items():
        value = values[name]
        if not isinstance(value, str) or not least <= len(value.strip()) <= most:
            problems[name] = f"{name} must be text of {least} to {most} characters."
    for name, (least, most) in LIMITS.items():
        value = values[name]
        if type(value) is not int or not least <= value <= most:
            problems[name] = f"{name} must be a whole number from {least} to {most}, not {shortened(value)}."
    for name in ("share_known", "comments"):
        if type(values[name]) is not bool:
            problems[name] = f"{name} must be true or false."
    if find_protocol(values["protocol"]) is None:
        problems["protocol"] = unknown_protocol(values["protocol"])
    return problems


def shortened(value: object) -> str:
    """``value`` as a message repeats it."""
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def method_problems(config: StudyConfig) -> list[str]:
    """What is wrong with ``config.methods``, one sentence each."""
    if not all(isinstance(m, Method) for m in config.methods):
        return ["methods must be Method values."]
    problems = []
    for method in config.methods:
        if not isinstance(method.name, str) or not NAME.fullmatch(method.name):
            problems.append(
                f"method {method.name!r}: use 1 to 64 letters, digits, spaces and . _ + -, beginning with a letter or digit."
            )
        if method.kind not in KINDS:
            problems.append(f"method {method.name!r} has the kind {method.kind!r}: use real or synthetic.")
        if not isinstance(method.source, str) or len(method.source) > MAX_TEXT_LENGTH:
            problems.append(f"method {method.name!r}: source must be text.")
    names = [str(m.name).casefold() for m in config.methods]
    problems += [
        f"two methods are named {name!r} (upper and lower case count as the same)."
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    rules = find_protocol(config.protocol)
    wrong = rules.method_problem(config.methods) if rules else None
    return [*problems, wrong] if wrong else problems


def unknown_protocol(name: object) -> str:
    """A message that names the unknown protocol and the known ones."""
    return f"protocol {name!r}: use one of {', '.join(protocol_names())}."
