"""Methods whose images a checkpoint makes while the study is made, never while it is rated.

Free of torch until a model is loaded, so that the study server starts alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from siamese import VERSION
from siamese.files.decoding import DecodingError
from siamese.masks.reading import read_mask
from siamese.records.prompts import PROMPT_OF_ORGAN
from siamese.records.sampling_settings import ALIASES, INTERVAL_ENDS, SETTINGS
from siamese.study.config import ConfigError, Method, StudyConfig
from siamese.study.creation.folders import (
    Choice,
    Note,
    blind_files,
    choose_files,
    first_problems,
    look_for_text,
    say_left_out,
    with_text,
)
from siamese.study.storage.images import UnusableImageError, read_study_image
from siamese.study.storage.store import Study, StudyError, StudyStore

if TYPE_CHECKING:
    from siamese.sampling import MaskDiffusion

log = logging.getLogger(__name__)
SEED_RULE = (
    "first 4 bytes, big-endian, of the SHA-256 of the UTF-8 text: study seed, NUL, method, NUL, mask id"
)
BATCH = 4
"""Images at a time: few enough that a laptop reports progress often."""

Turn = Callable[[], AbstractContextManager[object]]
"""Makes a context for each ``BATCH``; entering it may wait until nobody else samples."""
Report = Callable[[str, int, int], None]
"""Callback(method, done, total); done is 0 at first."""


@dataclass(frozen=True)
class Sampled:
    """A synthetic method that is sampled from a checkpoint."""

    name: str
    model: str
    """Model folder, or a model of the same layout on the Hugging Face Hub (owner/name)."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the place of the checkpoint's defaults, by the names of ``SamplingSettings`` or their former ones."""

    @classmethod
    def parse(cls, text: str) -> Sampled:
        """From ``NAME=MODEL`` or ``NAME=MODEL:setting=value,setting=value``.

        Raises:
            ConfigError: another form, an unknown setting, one that is given twice, or a value that is not a number if one is needed.
        """
        name, separator, rest = (x.strip() for x in text.partition("="))
        before, _, after = rest.rpartition(":")
        model, settings = (
            (before.strip(), after) if before and "=" in after else (rest, "")
        )  # C:\models has a colon as well
        if not (name and separator and model):
            raise ConfigError(
                [f"{text!r}: write NAME=MODEL or NAME=MODEL:steps=50,guidance=2,scheduler=ddim."]
            )
        values: dict[str, Any] = {}
        for setting in filter(None, settings.split(",")):
            key, _, value = (x.strip() for x in setting.partition("="))
            current = ALIASES.get(key, key)
            if current not in (*SETTINGS, *INTERVAL_ENDS) or current in values:
                raise ConfigError(
                    [
                        f"{text!r}: the setting {key!r} is {'given twice' if current in values else 'unknown'}; "
                        f"use {', '.join(SETTINGS)}, each once."
                    ]
                )
            try:
                values[current] = _value_of(current, value)
            except ValueError as error:
                raise ConfigError([f"{text!r}: {key} must be {KINDS[current]}, not {value!r}."]) from error
        return cls(name, model, values)


KINDS = {
    "num_inference_steps": "a whole number",
    "guidance_scale": "a number",
    "guidance_rescale": "a number",
    "guidance_interval": "two numbers as in 0.3-0.8",
    "guide_above": "a number",
    "guide_below": "a number",
}
"""What a setting's text must be; the others are words."""


def _value_of(setting: str, text: str) -> Any:
    if setting == "num_inference_steps":
        return int(text)
    if setting == "guidance_interval":
        low, high = text.split("-")
        return float(low), float(high)
    return float(text) if setting in KINDS else text


def parse_all(texts: Sequence[str]) -> list[Sampled]:
    """``Sampled.parse`` of each; a ConfigError names all that cannot be used."""
    made, problems = [], []
    for text in texts:
        try:
            made.append(Sampled.parse(text))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return made


def prompt_of(organ: str) -> str:
    """The embedded model's prompt for a study's organ.

    Raises:
        ConfigError: it is not known.
    """
    try:
        return PROMPT_OF_ORGAN[organ.strip().casefold()]
    except KeyError as error:
        raise ConfigError(
            [
                f"the organ {organ!r} has no known prompt to sample with; use {' or '.join(PROMPT_OF_ORGAN)}, or give a prompt."
            ]
        ) from error


def image_seed(study_seed: int, method: str, mask: str) -> int:
    """Seed of one image, 0 .. 2**32 - 1, by ``SEED_RULE``.

    It depends on the method: one checkpoint with two settings draws nearly the same image from one seed, and a rater who meets both
    would know that neither is real.
    """
    return int.from_bytes(hashlib.sha256(f"{study_seed}\0{method}\0{mask}".encode()).digest()[:4], "big")


def check_images(choice: Choice, methods: Sequence[str]) -> None:
    """Decode the chosen images of ``methods``: sampling takes long, and a damaged file must not be found after it.

    Raises:
        ConfigError: every image that cannot be used, by name.
    """
    problems = []
    for method in methods:
        for file in choice.files[method].values():
            try:
                read_study_image(file)
            except UnusableImageError as error:
                problems.append(f"{method}/{file.name}: {error}")
    if problems:
        raise ConfigError(first_problems(problems))


def read_masks(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Masks uint8 [H, W] of 0 / 255 by mask id.

    Raises:
        ConfigError: every file that is not a mask, by name.
    """
    masks, problems = {}, []
    for mask, file in files.items():
        try:
            masks[mask] = read_mask(file)
        except DecodingError as error:
            problems.append(f"mask {file.name}: {error}")
    if problems:
        raise ConfigError(first_problems(problems))
    return masks


def masks_hash(masks: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over ids, sizes and pixels, whatever the order."""
    whole = hashlib.sha256()
    for name in sorted(masks):
        height, width = masks[name].shape
        whole.update(
            f"{name}\0{height}\0{width}\0{hashlib.sha256(masks[name].tobytes()).hexdigest()}\n".encode()
        )
    return whole.hexdigest()


class Sampler:
    """A loaded model with one method's settings, all of them checked.

    Args:
        identity: name of the model and SHA-256 of its weights, for the record.

    Raises:
        ConfigError: the model does not know the prompt or a setting, or a mask is empty at its size.
    """

    def __init__(
        self,
        method: Sampled,
        model: MaskDiffusion,
        identity: tuple[str, str],
        prompt: str,
        masks: Mapping[str, np.ndarray],
    ) -> None:
        from siamese.sampling import build_scheduler

        self.method, self.model, self.identity, self.prompt, self.masks = (
            method,
            model,
            identity,
            prompt,
            masks,
        )
        try:
            self.settings = model.checkpoint.defaults.override(**method.overrides)
            model.checkpoint.context([prompt])
            build_scheduler(
                self.settings.scheduler, model.checkpoint.scheduler_config, self.settings.num_inference_steps
            )
        except (TypeError, ValueError) as error:
            raise ConfigError([f"method {method.name!r}: {error}"]) from error
        self.fitted = self._fitted_masks()

    def _fitted_masks(self) -> dict[str, np.ndarray]:
        """The masks as the model sees them, by mask id."""
        fitted, problems = {}, []
        for name, mask in self.masks.items():
            try:
                fitted[name] = self.model.fit_mask(mask)
            except ValueError as error:
                problems.append(f"method {self.method.name!r}, mask {name!r}: {error}")
        if problems:
            raise ConfigError(first_problems(problems))
        return fitted

    def record(self) -> str:
        """Everything that makes the images again, as JSON of sorted keys; no path of this machine. The study's seed is beside it."""
        name, weights = self.identity
        made = {
            "model": name,
            "weights_sha256": weights,
            "prompt": self.prompt,
            **self.settings.to_dict(),
            "side": self.model.size,
            "masks_sha256": masks_hash(self.masks),
            "seeds": SEED_RULE,
            "version": VERSION,
        }
        return json.dumps(made, sort_keys=True)

    def write(
        self, folder: Path, study_seed: int, report: Report, turn: Turn = nullcontext
    ) -> dict[str, Path]:
        """Sample every mask to a PNG in ``folder``, each few in a turn of their own; the files by mask id."""
        folder.mkdir()
        names, files = list(self.masks), {}
        report(self.method.name, 0, len(names))
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            seeds = [image_seed(study_seed, self.method.name, name) for name in part]
            with turn():
                images = self.model.sample_fitted(
                    [self.fitted[n] for n in part], self.prompt, seeds, self.settings
                )
            for name, image in zip(part, images, strict=True):
                files[name] = folder / f"{len(files):05d}.png"  # a mask id may be no file name here
                Image.fromarray(image).save(files[name], compress_level=1)
            report(self.method.name, len(files), len(names))
        return files


def load_samplers(
    sampled: Sequence[Sampled], prompt: str, masks: Mapping[str, Mapping[str, np.ndarray]]
) -> list[Sampler]:
    """A sampler for each method; a model of several methods is loaded once.

    Args:
        masks: by method and mask id.

    Raises:
        ConfigError: a model cannot be loaded; see also ``Sampler``.
    """
    from siamese.models.checkpoint import CheckpointError, find_folder, weights_hash
    from siamese.sampling import MaskDiffusion

    loaded: dict[str, tuple[MaskDiffusion, tuple[str, str]]] = {}
    made = []
    for method in sampled:
        if method.model not in loaded:
            try:
                folder = find_folder(method.model)
                model = MaskDiffusion.from_pretrained(folder)
            except (CheckpointError, ValueError) as error:  # the latter: a base model without ControlNet
                raise ConfigError(
                    [f"method {method.name!r}: {error} Name a model folder that holds model_index.json."]
                ) from error
            name = (
                folder.resolve().name if Path(method.model).is_dir() else method.model
            )  # the hub's folders are named by revision
            loaded[method.model] = model, (name, weights_hash(folder))
        made.append(Sampler(method, *loaded[method.model], prompt, masks[method.name]))
    return made


def create_sampled_study(
    store: StudyStore,
    config: StudyConfig,
    folders: Mapping[str, Path],
    sampled: Sequence[Sampled],
    prompt: str | None = None,
    report: Report = lambda method, done, total: None,
    refuse_text: bool = False,
    turn: Turn = nullcontext,
    note: Note = log.warning,
) -> Study:
    """Make and store a study as a draft, some of whose methods are sampled first: of the chosen masks alone.

    How they were sampled becomes the methods' ``source``, and with it part of the configuration's hash.

    Args:
        folders: a folder by method name; of sampled methods the folder of masks. Files of one stem belong to one mask.
        prompt: of all sampled images; that of ``config.organ`` if None.
        refuse_text, note: see ``create_study``.

    Raises:
        ConfigError: every folder, file, model and setting that cannot be used. Found before the first image is sampled.
        StudyError, StorageError: see ``StudyStore.add``.
    """
    names = [s.name for s in sampled]
    prompt = prompt_of(config.organ) if prompt is None else prompt
    if any(s.config.id == config.id for s in store.studies()):
        raise StudyError(f"there is a study {config.id!r} already; choose another id.")
    choice = choose_files(config, folders, names)
    say_left_out(choice, note)
    check_images(choice, [m.name for m in config.methods if m.name not in names])
    texts = look_for_text(config, choice, refuse_text)
    samplers = load_samplers(sampled, prompt, {name: read_masks(choice.files[name]) for name in names})
    sources = {s.method.name: s.record() for s in samplers}
    config = dataclasses.replace(
        config, methods=tuple(Method(m.name, m.kind, sources.get(m.name, m.source)) for m in config.methods)
    )
    with tempfile.TemporaryDirectory(prefix="study-") as space:
        for i, sampler in enumerate(samplers):
            choice.files[sampler.method.name] = sampler.write(Path(space) / str(i), config.seed, report, turn)
        return store.add(config, with_text(blind_files(config, choice), texts))
