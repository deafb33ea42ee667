"""Tiny models with random weights, in the real classes and layouts of SD1.5 and SDXL, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    MotionAdapter,
    PNDMScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from paintover.bridge.scene import Camera, Passes

CONTROLS = ("depth", "normal", "edge")
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def byte_alphabet() -> list[str]:
    """CLIP's and GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [table[b] for b in range(256)]


def write_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer that knows single letters only; returns its vocabulary's size."""
    letters = byte_alphabet()
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "<|endoftext|>"}  # fmt: skip
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(tokens)


def text_config(vocabulary: int, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=32, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )  # fmt: skip


def unet_config(family: str, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4, "cross_attention_dim": 32,
    }  # fmt: skip
    if family == "sdxl":
        config |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2), "attention_head_dim": (2, 4), "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8, "cross_attention_dim": 64,
        }  # fmt: skip
    return config | changes


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def write_model(folder: Path, family: str, text_width: int = 32, **unet_changes: Any) -> Path:
    """A whole diffusers folder with three ControlNets in controlnet-… subfolders. Returns `folder`."""
    torch.manual_seed(0)
    if family == "sd15":
        unet_changes.setdefault("cross_attention_dim", text_width)
    two = family == "sdxl"
    unet = UNet2DConditionModel(**unet_config(family, **unet_changes))
    unet.save_pretrained(folder / "unet")
    make_vae().save_pretrained(folder / "vae")
    scheduler = EulerDiscreteScheduler(**BETAS) if two else PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1)
    scheduler.save_pretrained(folder / "scheduler")
    parts = [("text_encoder", "tokenizer", CLIPTextModel)]
    if two:
        parts.append(("text_encoder_2", "tokenizer_2", CLIPTextModelWithProjection))
    for encoder, tokenizer, cls in parts:
        cls(text_config(write_tokenizer(folder / tokenizer), text_width)).save_pretrained(folder / encoder)
    for control in CONTROLS:
        shape = {"cross_attention_dim": unet.config.cross_attention_dim}
        net = ControlNetModel.from_unet(UNet2DConditionModel(**unet_config(family, **shape)))
        with torch.no_grad():  # a fresh ControlNet says nothing: its last layers are zero
            for name, weights in net.named_parameters():
                if "controlnet" in name and not weights.any():
                    weights.normal_(0, 0.2)
        net.save_pretrained(folder / f"controlnet-{control}")
    transformers = {encoder: ["transformers", cls.__name__] for encoder, _, cls in parts}
    tokenizers = {tokenizer: ["transformers", "CLIPTokenizer"] for _, tokenizer, _ in parts}
    index = {
        "_class_name": "StableDiffusionXLPipeline" if two else "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", type(scheduler).__name__], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], **transformers, **tokenizers,
    }  # fmt: skip
    index |= (
        {"force_zeros_for_empty_prompt": True}
        if two
        else {"safety_checker": [None, None], "feature_extractor": [None, None]}
    )
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_motion(folder: Path, seed: int = 1, **changes: Any) -> Path:
    """A motion adapter for the tiny SD 1.5 of write_model. Returns `folder`."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "block_out_channels": (16, 32), "motion_layers_per_block": 1, "motion_num_attention_heads": 4,
        "motion_norm_num_groups": 8,
    }  # fmt: skip
    adapter = MotionAdapter(**shape | changes)
    with torch.no_grad():
        for name, weights in adapter.named_parameters():
            if name.endswith("proj_out.weight"):
                weights.normal_(0, 0.5)
    adapter.save_pretrained(folder)
    return folder


def make_passes(width: int, height: int) -> Passes:
    """A sphere before a slanted wall and an empty sky, with every pass filled."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width * 2 - 1, 1 - (np.arange(height) + 0.5) / height * 2)
    inside = x**2 + y**2 < 0.4
    z = np.sqrt(np.clip(0.4 - x**2 - y**2, 0, None))
    depth = np.where(inside, 4 - z, np.where(y < 0.5, 6 + x, np.inf)).astype(np.float32)
    sphere = np.stack([x, y, z], -1) / 0.4**0.5
    wall = np.broadcast_to(np.array([-0.7071, 0, 0.7071]), sphere.shape)
    normal = np.where(inside[..., None], sphere, np.where((y < 0.5)[..., None], wall, 0)).astype(np.float16)
    edge = (np.abs(x**2 + y**2 - 0.4) < 0.05).astype(np.uint8) * 255
    color = np.concatenate([normal * 127 + 128, np.full((height, width, 1), 255)], -1).astype(np.uint8)
    projection = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -1.02, -0.2], [0, 0, -1, 0]])
    camera = Camera("Camera", np.eye(4), projection, width, height)
    return Passes(camera, depth, normal, edge, inside.astype(np.uint16), {"1": "Sphere"}, color)


class Recorder:
    """A monitor that keeps what it is told, and can stop the job at the n-th check."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stages: list[tuple[str, float]] = []
        self.previews: list[np.ndarray] = []
        self.checks = 0
        self._stop_at = stop_at

    def progress(self, stage: str, fraction: float) -> None:
        self.stages.append((stage, fraction))

    def preview(self, image: np.ndarray) -> None:
        self.previews.append(image)

    def check(self) -> None:
        from paintover.bridge.errors import Cancelled

        self.checks += 1
        if self._stop_at is not None and self.checks >= self._stop_at:
            raise Cancelled()
