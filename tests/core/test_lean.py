"""Imports before the first image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_sampling_imports_neither_transformers_nor_torch_dynamo():
    unused = "{'transformers', 'torch._dynamo', 'diffusers.models.transformers.transformer_flux', 'diffusers.pipelines.stable_diffusion'}"
    assert run(f"import sys, siamese.sampling; print({unused} & set(sys.modules))") == "set()\n"


@pytest.mark.slow
def test_all_of_diffusers_works_afterwards():
    code = """
import siamese.models
import torch, transformers
import diffusers
import diffusers.models.autoencoders as autoencoders
from diffusers import AutoencoderKL, StableDiffusionControlNetPipeline, FluxTransformer2DModel
assert autoencoders.AutoencoderKL is AutoencoderKL
assert diffusers.utils.is_transformers_available()
assert torch.compiler.disable.__module__ == 'torch.compiler'
try:
    autoencoders.NoSuchModel
except AttributeError:
    print('fine')
"""
    assert run(code) == "fine\n"


@pytest.mark.slow
def test_a_program_that_has_imported_transformers_before_keeps_it():
    assert (
        run(
            "import transformers, sys; from siamese.models import SmallAutoencoder; print(sys.modules['transformers'] is transformers)"
        )
        == "True\n"
    )
