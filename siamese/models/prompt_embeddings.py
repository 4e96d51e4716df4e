"""Prompt embeddings: a learned table for models trained from scratch, a text encoder for Stable Diffusion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if TYPE_CHECKING:  # importing transformers takes seconds, and models with a table of prompts do without
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


OFFSET = 0.1
"""How far a new prompt's row lies from the mean of the others, in standard deviations of the table."""


class UnknownPromptError(ValueError):
    """The checkpoint has no embedding of this prompt; the message lists those it has."""


class PromptTable(nn.Module):
    """One learned embedding [tokens, D] for each of a few prompts.

    Args:
        prompts: the prompts, among them "" (the unconditional one).
        dim: D, the U-Net's cross-attention width.
        tokens: embeddings a prompt.
    """

    def __init__(self, prompts: Sequence[str], dim: int, tokens: int = 8) -> None:
        super().__init__()
        if "" not in prompts:
            raise ValueError('the prompts must contain the empty prompt "", which guidance needs.')
        self.prompts = tuple(prompts)
        self.table = nn.Parameter(torch.randn(len(prompts), tokens, dim))

    def index(self, prompt: str) -> int:
        """Row of ``prompt``.

        Raises:
            UnknownPromptError: it is not in the table.
        """
        if prompt not in self.prompts:
            raise UnknownPromptError(
                f"unknown prompt {prompt!r}; this model knows: {', '.join(map(repr, self.prompts))}."
            )
        return self.prompts.index(prompt)

    def grown(self, prompt: str) -> PromptTable:
        """A table with ``prompt`` as a further last row; the rows before are the same bit for bit.

        The new row begins at the mean of the rows of the prompts (of all rows, if "" is the only one): nothing says which of
        them the new subject resembles, and the mean has the same distance to all. A small offset (``OFFSET`` of the table's
        standard deviation), which is a function of the prompt's text alone, keeps two prompts apart that are added one after
        the other: the mean with a mean is the same mean.

        Raises:
            ValueError: the prompt is in the table.
        """
        if prompt in self.prompts:
            raise ValueError(f"the prompt {prompt!r} is in the table already.")
        known = [i for i, text in enumerate(self.prompts) if text]
        rows = self.table.detach()
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") >> 1
        offset = torch.randn(rows.shape[1:], generator=torch.Generator().manual_seed(seed)).to(rows)
        row = (rows[known] if known else rows).mean(0) + OFFSET * rows.std() * offset
        table = PromptTable((*self.prompts, prompt), rows.shape[2], rows.shape[1])
        table.table.data = torch.cat([rows, row[None]])
        return table.train(self.training)

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Context [B, tokens, D] of ``prompts``."""
        return self.table[[self.index(p) for p in prompts]]

    def save(self, folder: Path) -> None:
        """``context.safetensors`` with the table and ``prompts.json`` with the prompts, in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"context": self.table.detach().contiguous()}, folder / "context.safetensors")
        (folder / "prompts.json").write_text(
            json.dumps(list(self.prompts), indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> PromptTable:
        """Read what ``save`` wrote, in float32."""
        context = load_file(folder / "context.safetensors")["context"].float()
        prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
        if len(prompts) != len(context):
            raise ValueError(f"{folder}: {len(prompts)} prompts but {len(context)} embeddings.")
        table = cls(prompts, context.shape[2], context.shape[1])
        table.table.data.copy_(context)
        return table


class TextContext(nn.Module):
    """Free text through a CLIP tokenizer and text encoder (Stable Diffusion): the last hidden state [B, 77, D]."""

    prompts: tuple[str, ...] | None = None
    tokenizer: PreTrainedTokenizerBase
    text_encoder: PreTrainedModel

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text_encoder: PreTrainedModel) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Context [B, 77, D] of ``prompts``; longer texts are cut at 77 tokens as Stable Diffusion does."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]

    def save(self, folder: Path) -> None:
        """As diffusers does: ``tokenizer/`` and ``text_encoder/`` beside ``folder``."""
        self.tokenizer.save_pretrained(folder.parent / "tokenizer")
        self.text_encoder.save_pretrained(folder.parent / "text_encoder")
