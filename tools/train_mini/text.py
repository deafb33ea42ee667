"""The tokenizer, and the text encoder, which first learns to tell what captions say.

SD1.5 takes its text encoder ready-made from CLIP. Ours learns the same lesson in small: from the last token
it must tell which materials and which background a caption names. That costs a minute, and then the UNet
finds materials far apart from each other from its first step on, while filler words already mean nothing.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import words
from .materials import MATERIALS
from .run import Run
from .scenes import BACKGROUNDS, Content

LENGTH = 32  # tokens in a prompt
WIDTH = 128


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format in which every known word is one token."""
    trainer = trainers.BpeTrainer(vocab_size=100_000, end_of_word_suffix="</w>", show_progress=False)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator(words.known_words(), trainer)
    merges = [tuple(m) for m in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *letters,
        *(c + "</w>" for c in letters),
        *(a + b for a, b in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, **special})
    )
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token numbers (n, LENGTH), as the pipelines make them."""
    out = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True)
    return torch.tensor(out.input_ids)


def new_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder of two layers."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():  # CLIP's 0.02 is for far longer training
        model.get_input_embeddings().weight.normal_(0, 0.3)
    return model


class _Reader(nn.Module):
    """Reads from the last token what a caption says: a choice for each fact, the last is "nothing"."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [len(MATERIALS) + 1] * 3 + [len(BACKGROUNDS) + 1]
        self.head = nn.Linear(WIDTH, sum(self.sizes))

    def forward(self, states: torch.Tensor) -> list[torch.Tensor]:
        return list(self.head(states[:, -1]).split(self.sizes, dim=-1))


def _random_content(rng: np.random.Generator) -> Content:
    first, second, floor = (int(m) for m in rng.choice(len(MATERIALS), 3, replace=False))
    kind, shapes = rng.random(), ("sphere", "cube", "cylinder", "cone", "torus", "capsule", "")
    return Content(
        first,
        second if kind < 0.25 else -1,
        floor if kind > 0.6 else -1,
        str(rng.choice(list(BACKGROUNDS))),
        str(rng.choice(shapes)),
        str(rng.choice(shapes)),
        "loose",
        1,
    )


def train(run: Run, samples: int) -> None:
    """Train tokenizer and text encoder, or take those given to start from; leaves them under run.folder."""
    if run.init and (run.init / "text_encoder").exists():
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(run.init / part, run.folder / part, dirs_exist_ok=True)
        return
    tokenizer = make_tokenizer(run.folder / "tokenizer")
    encoder, reader = new_encoder(tokenizer).to(run.device), _Reader().to(run.device)
    both = nn.ModuleDict({"encoder": encoder, "reader": reader})
    trainer = run.trainer("text", both, samples, rate=2e-3)
    for rng in trainer.steps(batch=128):
        captions = [words.caption(_random_content(rng), rng, rich=rng.random() < 0.7) for _ in range(128)]
        said = torch.tensor([(c.material, c.second, c.floor, c.background) for c in captions], device=run.device)
        states = encoder(tokenize(tokenizer, [c.text for c in captions]).to(run.device)).last_hidden_state
        loss, right = torch.zeros((), device=run.device), 0.0
        for answers, truth, size in zip(reader(states), said.T, reader.sizes, strict=True):
            truth = torch.where(truth < 0, size - 1, truth)
            loss = loss + nn.functional.cross_entropy(answers, truth)
            right += (answers.argmax(-1) == truth).float().mean().item() / 4
        trainer.learn(loss, right=right)
    encoder.save_pretrained(run.folder / "text_encoder")
