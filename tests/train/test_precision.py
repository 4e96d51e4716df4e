"""What ``auto`` means on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train.engine.precision import resolved


@pytest.mark.parametrize("asked", ["no", "bf16", "fp16"])
def test_what_is_asked_for_is_taken(asked: str) -> None:
    assert resolved(asked) == asked


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "no")])
def test_a_gpu_says_itself(supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert resolved("auto") == expected


def test_a_processor_without_its_library_calculates_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert resolved("auto") == "no"


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").is_file(), reason="reads Linux's list of a processor's abilities"
)
def test_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flags = Path("/proc/cpuinfo").read_text().split()
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        assert resolved("auto") == "bf16"
    elif "avx2" in flags and "avx512f" not in flags:
        assert resolved("auto") == "no"
    else:
        assert resolved("auto") in ("no", "bf16")
