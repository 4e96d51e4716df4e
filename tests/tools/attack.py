"""An attacker who sees everything but the decoded pixels guesses which method made each image. ``python -m tests.tools.attack``

The view: every address, page, JSON reply, header, length, format and metadata of a rater's whole session, the API schema, the order
and the times. Each feature alone predicts the method; the feature that predicts best on one half of the masks guesses on the other
half, and a binomial test says whether it beats chance.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from scipy.stats import binomtest
from sqlalchemy import select

from siamese.study.storage.opening import OpenedStudies
from siamese.study.storage.schema import items
from siamese.study.web.app import add_study_routes
from tests.study.phantom_study import make_study

ALPHA = 1e-3
"""A guess with a smaller p beats chance. Identifiers are drawn again in every run, so one run in a thousand errs."""


@dataclass(frozen=True)
class Seen:
    """One image as the attacker meets it."""

    item: str
    features: dict[str, float]


@dataclass(frozen=True)
class Guess:
    """What the attack came to."""

    feature: str
    hits: int
    images: int
    chance: float
    p: float
    features: int


def png_features(data: bytes) -> dict[str, float]:
    """Structure of a PNG file without its pixels' values: chunks, header, lengths, deflate block types, trailing bytes."""
    at, kinds, idat, lengths = 8, [], b"", []
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        kinds.append(kind)
        lengths.append(length)
        if kind == b"IDAT":
            idat += data[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IEND":
            break
    header = struct.unpack(">IIBBBBB", data[16:29])
    return {
        "png bytes": len(data),
        "png chunks": len(kinds),
        "png kinds": zlib.crc32(b"".join(kinds)),
        "png lengths": zlib.crc32(repr(lengths).encode()),
        "png idat": len(idat),
        "png trailing": len(data) - at,
        "png zlib header": struct.unpack(">H", idat[:2])[0],
        "png first block": idat[2] & 7,
        **{f"png header {i}": v for i, v in enumerate(header)},
    }


def reply_features(name: str, reply) -> dict[str, float]:
    """Everything of a reply but its body's meaning."""
    heads = sorted((k.lower(), v) for k, v in reply.headers.items() if k.lower() != "date")
    return {
        f"{name} status": reply.status_code,
        f"{name} length": len(reply.content),
        f"{name} headers": zlib.crc32(repr(heads).encode()),
        f"{name} header count": len(heads),
    }


def watch(client: TestClient, path: str) -> list[Seen]:
    """A whole session, seen from outside; always answered alike, so that answers carry nothing."""
    client.post(f"{path}/api/register", json={"pseudonym": "eve", "role": "x", "consent": True})
    step, seen, number = client.get(f"{path}/api/state").json()["step"], [], 0
    while step["task"]:
        task = step["task"]
        item = task["items"][0]
        state = client.get(f"{path}/api/state")
        begun = time.perf_counter()
        image = client.get(f"{path}/image/{item}")
        took = time.perf_counter() - begun
        guessed = [client.get(f"{path}/image/{item}{end}") for end in (".png", "/method")]
        answer = client.post(
            f"{path}/api/answer",
            json={"task": task["id"], "key": str(number), "response": {"real": True}, "confidence": 5},
        )
        previous = client.get(f"{path}/api/previous")
        features = {
            "order": number,
            "milliseconds": took,
            **{f"id nibble {i}": int(c, 16) for i, c in enumerate(item)},
            **{f"task nibble {i}": int(c, 16) for i, c in enumerate(task["id"])},
            **reply_features("state", state),
            **reply_features("image", image),
            **reply_features("answer", answer),
            **reply_features("previous", previous),
            **png_features(image.content),
        }
        for i, reply in enumerate(guessed):
            features |= reply_features(f"guess {i}", reply)
        seen.append(Seen(item, features))
        step, number = answer.json()["step"], number + 1
    return seen


RULES = ("equal", "third", "nearest")


def predict(known: np.ndarray, labels: np.ndarray, values: np.ndarray, rule: str) -> np.ndarray:
    """Predicted labels of ``values`` from known ones: the commonest label of the same value or of the same third in rank, or the nearest value's."""
    if rule == "nearest":
        return labels[np.abs(values[:, None] - known[None]).argmin(1)]
    common = Counter(labels.tolist()).most_common(1)[0][0]
    if rule == "third":
        edges = np.quantile(known, [1 / 3, 2 / 3])
        known, values = np.searchsorted(edges, known), np.searchsorted(edges, values)
    found = defaultdict(Counter)
    for value, label in zip(known.tolist(), labels.tolist(), strict=True):
        found[value][label] += 1
    return np.array([found[v].most_common(1)[0][0] if v in found else common for v in values.tolist()])


def attack(seen: list[Seen], methods: dict[str, str], seed: int = 0) -> Guess:
    """The feature and rule that are best on one half (each image left out in turn), judged on the other half.

    Args:
        methods: method by item id: the truth.
    """
    names = sorted(seen[0].features)
    features = np.array([[float(s.features[n]) for n in names] for s in seen])
    labels = np.array([methods[s.item] for s in seen])
    order = np.random.default_rng(seed).permutation(len(seen))
    known, secret = order[: len(seen) // 2], order[len(seen) // 2 :]

    def hits(column: int, rule: str) -> int:
        values, count = features[:, column], 0
        for left_out in known:
            others = known[known != left_out]
            count += predict(values[others], labels[others], values[[left_out]], rule)[0] == labels[left_out]
        return count

    best, rule = max(((c, r) for c in range(len(names)) for r in RULES), key=lambda found: hits(*found))
    values = features[:, best]
    found = int((predict(values[known], labels[known], values[secret], rule) == labels[secret]).sum())
    # Somebody who always says the commonest method needs no feature.
    chance = max(Counter(labels[secret].tolist()).values()) / len(secret)
    return Guess(
        names[best],
        found,
        len(secret),
        chance,
        float(binomtest(found, len(secret), chance, alternative="greater").pvalue),
        len(names),
    )


def run(folder: Path, groups: int, spoil=None, **changes) -> Guess:
    """Make a phantom study, watch a session, attack it. ``spoil`` changes the study's store, to see that the attack can succeed."""
    store, study = make_study(folder, groups=groups, **changes)
    if spoil:
        spoil(store)
    app = FastAPI()
    add_study_routes(app, OpenedStudies(folder, store))
    with TestClient(app) as client:
        seen = watch(client, store.invite(study.config.id, ["eve"])[0].path)
    with store.database.read() as connection:
        methods = dict(connection.execute(select(items.c.id, items.c.method)).tuples().all())
    store.database.close()
    return attack(seen, methods)


def main() -> None:
    """Print the outcome; exit status 1 if the guess beats chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=60)
    with tempfile.TemporaryDirectory() as folder:
        guess = run(Path(folder), parser.parse_args().groups)
    print(guess)
    raise SystemExit(guess.p <= ALPHA)


if __name__ == "__main__":
    main()
