"""Prompts to what the UNet is conditioned on: token embeddings and, for SDXL, pooled embeddings and sizes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .loading import Model


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditioning:
    """Batch of one, or of two with guidance: first the negative prompt, then the prompt."""

    embeds: torch.Tensor
    """(batch, tokens, width)."""
    added: dict[str, torch.Tensor] | None
    """SDXL's text_embeds (batch, width) and time_ids (batch, 6); None for other families."""


def encode(model: Model, prompt: str, negative: str, width: int, height: int, guided: bool) -> Conditioning:
    """Embed the prompt and, if `guided`, the negative prompt. width and height are the picture's, in pixels."""
    texts = [_embed(model, prompt)]
    if guided:
        embeds, pooled = texts[0]
        if model.zero_negative and not negative:
            # SDXL was trained to take zeros, not the embedding of an empty text, as "no prompt".
            texts.insert(0, (torch.zeros_like(embeds), None if pooled is None else torch.zeros_like(pooled)))
        else:
            texts.insert(0, _embed(model, negative))
    embeds = torch.cat([embeds for embeds, _ in texts])
    all_pooled = [pooled for _, pooled in texts if pooled is not None]
    if not all_pooled:
        return Conditioning(embeds, None)
    # Micro-conditioning (Podell et al. 2023): original size, crop corner, target size.
    ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=embeds.dtype, device=embeds.device)
    return Conditioning(embeds, {"text_embeds": torch.cat(all_pooled), "time_ids": ids.repeat(len(texts), 1)})


def _embed(model: Model, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings (1, tokens, width) of one text and, for SDXL, the pooled ones (1, width)."""
    if len(model.text_encoders) == 1:
        ids = _tokens(model.tokenizers[0], model.text_encoders[0], text)
        return model.text_encoders[0](ids.to(model.device))[0], None
    hidden, pooled = [], None
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        output = encoder(_tokens(tokenizer, encoder, text).to(model.device), output_hidden_states=True)
        hidden.append(output.hidden_states[-2])  # SDXL reads the layer before the last
        pooled = output[0]  # of the second encoder: its projection
    return torch.cat(hidden, dim=-1), pooled


def _tokens(tokenizer: Any, encoder: Any, text: str) -> torch.Tensor:
    """Token numbers (1, limit); what does not fit is left out, and the log says what."""
    limit = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    pieces = tokenizer.tokenize(text)
    if len(pieces) > limit - 2:  # two places are for the start and the end
        lost = tokenizer.decode(tokenizer.convert_tokens_to_ids(pieces[limit - 2 :])).strip()
        log.warning("The prompt is longer than this model reads (%d tokens). Left out: “%s”", limit - 2, lost)
    return tokenizer(text, padding="max_length", max_length=limit, truncation=True, return_tensors="pt").input_ids
