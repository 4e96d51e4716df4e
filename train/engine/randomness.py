"""Everything random of an update, drawn for the whole batch at once from generators that are keyed by (seed, step, name).

What control flow needs (timesteps, variants, corners of crops) is drawn on the host, so that it need not be read back from
the device; noise is drawn on the device. A process or an accumulation part draws what the whole batch draws and takes its own
rows: what a sample gets depends on its position in the update, never on process layout, accumulation or resumption. A
draw's name is a part of its key, so that one draw more changes no other.

Noise of one key is the same on the same kind of device; a GPU's generator gives other numbers than a CPU's.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from torch import Tensor


def key(*numbers: int) -> int:
    """Seed in 0..2^63-1 of whatever is random about one thing, for example (seed, step, position)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def sample_order(seed: int, size: int, first: int, count: int) -> np.ndarray:
    """Indices [count] of samples number ``first`` to ``first + count``: one permutation of ``size`` an epoch, no sample ever dropped."""
    numbers = np.arange(first, first + count)
    epochs = numbers // size
    orders = {e: np.random.default_rng((seed, int(e))).permutation(size) for e in np.unique(epochs)}
    return np.array([orders[e][n % size] for e, n in zip(epochs, numbers, strict=True)])


def sent(array: np.ndarray, device: torch.device) -> Tensor:
    """``array`` on the device, without waiting for it: from pinned memory to a GPU, the same memory on a CPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Draws:
    """The random numbers of some rows of an update.

    Args:
        seed, step: of the run, and the updates done so far.
        count: samples of the whole update.
        rows: which of them are returned, [B] in 0..count-1.
        device: that on which ``normal`` draws.
    """

    def __init__(self, seed: int, step: int, count: int, rows: np.ndarray, device: torch.device) -> None:
        self.seed, self.step, self.count, self.rows, self.device = seed, step, count, rows, device

    def _generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.step, crc32(name.encode())))

    def integers(self, name: str, low: int, high: int, *shape: int) -> np.ndarray:
        """Integers [B, *shape] in low..high-1, on the host."""
        return self._generator(name).integers(low, high, (self.count, *shape))[self.rows]

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, *shape: int) -> np.ndarray:
        """Numbers float64 [B, *shape] in low..high, on the host."""
        return self._generator(name).uniform(low, high, (self.count, *shape))[self.rows]

    def shared(self, name: str, low: int, high: int, count: int) -> np.ndarray:
        """Integers [count] in low..high-1, the same for every row of the update, on the host."""
        return self._generator(name).integers(low, high, count)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1) float32 [B, *shape], drawn on the device."""
        generator = torch.Generator(self.device).manual_seed(key(self.seed, self.step, crc32(name.encode())))
        whole = torch.randn((self.count, *shape), generator=generator, device=self.device)
        return whole if len(self.rows) == self.count else whole[sent(self.rows, self.device)]
