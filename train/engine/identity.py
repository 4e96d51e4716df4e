"""What makes a run the same run: the settings, the data and the weights that it began with. What may change is named here, and only here.

The machine is not part of it: on another device, or with another precision from ``auto``, a run continues, equal to rounding only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from train.engine.config import LoopConfig


class PairFiles(Protocol):
    """What the digests read of a training example; ``train.data.pairs.Pair`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> Path: ...
    @property
    def mask(self) -> Path: ...
    @property
    def prompt(self) -> str: ...


if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FREE_LOOP_SETTINGS = frozenset(
    {
        "out",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "evaluate_every",
        "minutes",
        "accumulation",
        "extend_to",
    }
)
"""Fields of ``LoopConfig`` that do not change what an update does. ``extend_to`` adds updates after those that were planned."""
FREE_STAGE_SETTINGS = frozenset({"loop", "cache", "measure", "subject"})
"""Fields of a stage's configuration that do not change what it trains; ``loop`` is compared by itself."""
PLACES = frozenset({"data", "synthetic", "init", "vae", "controlnet", "weights"})
"""Files and folders, which may move. They are recorded; what lies there is compared by its content."""
_WORDS = {
    "init_weights": "the weights of --init",
    "autoencoder_weights": "the weights of the autoencoder",
    "controlnet_weights": "the weights of --controlnet",
}


def settings_of(config: LoopConfig) -> dict[str, Any]:
    """The loop's settings that a continuation must share."""
    return {k: v for k, v in plain(asdict(config)).items() if k not in FREE_LOOP_SETTINGS}


def facts_of(config: DataclassInstance) -> dict[str, Any]:
    """All settings of a stage's configuration but the free ones: a field that nobody thought of is compared."""
    return {k: v for k, v in plain(asdict(config)).items() if k not in FREE_STAGE_SETTINGS}


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what is saved and what is given compare equal."""
    return json.loads(
        json.dumps(
            {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in values.items()},
            default=str,
        )
    )


def of_pairs(train: Sequence[PairFiles], val: Sequence[PairFiles]) -> dict[str, Any]:
    """Facts of a run about its data: for each split the number of pairs, and digests of their names, prompts and files' bytes.

    Every file is read: two files of one size and date may differ, and reading costs less than decoding, which follows.
    """
    return {"training pairs": _digests(train), "validation pairs": _digests(val)}


def _digests(pairs: Sequence[PairFiles]) -> dict[str, Any]:
    with ThreadPoolExecutor() as pool:
        files = list(
            pool.map(
                lambda p: tuple(hashlib.sha256(f.read_bytes()).digest() for f in (p.image, p.mask)), pairs
            )
        )
    parts = {
        "names": [p.name.encode() for p in pairs],
        "prompts": [p.prompt.encode() for p in pairs],
        "images": [image for image, _ in files],
        "masks": [mask for _, mask in files],
    }
    # Each element is hashed by itself, so that no two lists run together to the same bytes.
    return {"count": len(pairs)} | {
        name: hashlib.sha256(b"".join(hashlib.sha256(v).digest() for v in values)).hexdigest()[:16]
        for name, values in parts.items()
    }


def of_weights(*modules: nn.Module) -> str:
    """Digest of all weights of networks."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def of_frozen(module: nn.Module) -> str:
    """Digest of the weights that are not trained: checkpoints lack them, so a continuation must bring the same."""
    digest = hashlib.sha256()
    for name, p in module.named_parameters():
        if not p.requires_grad:
            digest.update(name.encode() + p.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between settings or facts, in words. Facts that an ``old`` run does not know are not compared."""
    found = []
    for name, now in new.items():
        before = old.get(name)
        if name not in old or name in PLACES or before == now:
            continue
        if name in ("training pairs", "validation pairs"):
            found.append(f"the {name} have changed ({_parts(before, now)})")
        else:
            found.append(
                f"{_WORDS[name]} have changed" if name in _WORDS else f"{name} was {before}, now {now}"
            )
    return found


def _parts(before: Any, now: dict[str, Any]) -> str:
    if before["count"] != now["count"]:
        return f"{before['count']} before, {now['count']} now"
    return "other " + ", ".join(name for name in now if before.get(name) != now[name])
