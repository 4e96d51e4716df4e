"""Memory over many generations: ``python -m tests.tools.soak --generations 300``. Of this process and the model's together; prints one JSON line. No test by itself (minutes)."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psutil
import tyro

from siamese.masks.shapes import load_statistics, random_lesion
from siamese.records.catalogue import find_models
from siamese.records.prompts import LESION, POLYP
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.canvas import canvas_value
from siamese.studio.tabs.generate import Finished, Form, generate
from tests.studio_model import EMBEDDED


@dataclass(frozen=True)
class Options:
    """How much to generate."""

    generations: int = 300
    steps: int = 2
    variants: int = 2
    warm_up: int = 20
    """Generations before the first reading: caches and allocators fill."""


def main(options: Options) -> None:
    """Generate, each time another mask, and compare the memory at the end with that after the warm-up."""
    statistics = load_statistics()
    process = psutil.Process()
    worker = ModelWorker(find_models(str(EMBEDDED), None))
    readings = []
    for i in range(options.warm_up + options.generations):
        prompt = (POLYP, LESION)[i % 2]
        mask = random_lesion(statistics[prompt], i, 512)
        form = Form(canvas_value(mask), prompt, options.variants, i, options.steps)
        event = list(generate(worker, form))[-1]
        assert isinstance(event, Finished), event
        if i >= options.warm_up - 1:
            readings.append(sum(p.memory_info().rss for p in (process, *process.children())) / 2**20)
    worker.close()
    tenth = max(1, len(readings) // 10)
    print(
        json.dumps(
            {
                "generations": options.generations,
                "first_mib": round(readings[0], 1),
                "last_mib": round(readings[-1], 1),
                "max_mib": round(max(readings), 1),
                "growth_mib_between_first_and_last_tenth": round(
                    sum(readings[-tenth:]) / tenth - sum(readings[:tenth]) / tenth, 1
                ),
            }
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
