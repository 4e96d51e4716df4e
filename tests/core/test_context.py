"""Prompt embeddings: the learned table and the text encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.models.prompt_embeddings import PromptTable, TextContext, UnknownPromptError
from siamese.records.prompts import LESION, POLYP
from siamese.sampling import MaskDiffusion
from tests.models import PROMPTS, build
from tests.phantoms import phantom

WORDS = ["a", "colonoscopy", "image", "of", "polyp"]


@pytest.fixture
def text_context(tmp_path: Path) -> TextContext:
    """A random text encoder of width 16 with the words above, eight tokens a prompt."""
    letters = sorted({c for w in WORDS for c in w})
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(c + "</w>" for c in letters)]
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)
    torch.manual_seed(0)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    return TextContext(tokenizer, encoder.eval())


def test_table_gives_each_prompt_its_row() -> None:
    table = PromptTable(PROMPTS, 16, tokens=4)
    context = table([LESION, "", LESION])
    assert context.shape == (3, 4, 16)
    assert torch.equal(context[0], table.table[1])
    assert torch.equal(context[1], table.table[2])
    assert torch.equal(context[0], context[2])
    context.sum().backward()
    assert table.table.grad is not None
    assert table.table.grad[0].abs().sum() == 0


def test_unknown_prompt_lists_the_known_ones() -> None:
    with pytest.raises(UnknownPromptError) as error:
        PromptTable(PROMPTS, 16)([POLYP, "a cat"])
    assert "'a cat'" in str(error.value)
    assert all(repr(p) in str(error.value) for p in PROMPTS)


def test_table_needs_the_empty_prompt() -> None:
    with pytest.raises(ValueError, match="empty prompt"):
        PromptTable([POLYP], 16)


def test_table_survives_saving(tmp_path: Path) -> None:
    table = PromptTable(PROMPTS, 16, tokens=4)
    table.save(tmp_path / "context")
    again = PromptTable.load(tmp_path / "context")
    assert again.prompts == PROMPTS
    assert torch.equal(again.table, table.table)
    (tmp_path / "context" / "prompts.json").write_text('["", "a"]')
    with pytest.raises(ValueError, match="2 prompts but 3 embeddings"):
        PromptTable.load(tmp_path / "context")


def test_text_encoder_takes_free_text_and_cuts_long_ones(text_context: TextContext) -> None:
    context = text_context(["a polyp", "", "image of a polyp of a polyp of a polyp"])
    assert context.shape == (3, 8, 16)
    assert not torch.equal(context[0], context[1])
    # CLIP's own output for tokens padded with the end token, without padding mask.
    ids = text_context.tokenizer("a polyp").input_ids
    ids = ids[:8] + [text_context.tokenizer.pad_token_id] * (8 - len(ids))
    assert torch.equal(context[0], text_context.text_encoder(torch.tensor([ids])).last_hidden_state[0])


@pytest.mark.slow
def test_model_with_text_encoder_survives_saving_and_samples(
    text_context: TextContext, tmp_path: Path
) -> None:
    checkpoint = build("sd")
    checkpoint.context = text_context
    save_checkpoint(checkpoint, tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    assert isinstance(loaded.context, TextContext)
    assert loaded.context.prompts is None
    assert torch.equal(loaded.context(["a polyp"]), text_context(["a polyp"]))
    model = MaskDiffusion(loaded)
    assert model.prompts is None
    one, other = (
        model.sample(phantom(0)[1], text, [1], steps=2, guidance=4)
        for text in ("a polyp", "image of a colonoscopy")
    )
    assert one.shape == (1, 32, 32, 3)
    assert (one != other).any()


def test_a_table_grows_by_a_row_near_the_mean_of_its_prompts() -> None:
    torch.manual_seed(0)
    table = PromptTable(PROMPTS, 16, tokens=4)
    grown = table.grown("a stain")
    assert grown.prompts == (*PROMPTS, "a stain")
    assert torch.equal(grown.table[:-1], table.table)
    mean = table.table[[PROMPTS.index(POLYP), PROMPTS.index(LESION)]].mean(0)
    away = (grown.table[-1] - mean).std() / table.table.std()
    assert 0.05 < away < 0.15
    assert torch.equal(table.grown("a stain").table, grown.table), "the same for the same prompt"
    assert len(table.prompts) == len(PROMPTS), "the table itself is as it was"


def test_two_prompts_added_one_after_the_other_differ() -> None:
    table = PromptTable(PROMPTS, 16, tokens=4).grown("a stain").grown("a crack")
    assert not torch.allclose(table(["a stain"]), table(["a crack"]), atol=1e-2)


def test_a_table_of_the_empty_prompt_alone_grows() -> None:
    table = PromptTable(("",), 16, tokens=4)
    assert torch.allclose(table.grown("a stain")(["a stain"]), table([""]), atol=0.6)


def test_a_prompt_is_not_added_twice() -> None:
    with pytest.raises(ValueError, match="in the table already"):
        PromptTable(PROMPTS, 16).grown(POLYP)
