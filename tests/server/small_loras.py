"""Small LoRAs with random weights, made by peft and written by diffusers or as kohya's scripts write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "proj_in"]
TEXT_LAYERS = ["q_proj", "v_proj", "out_proj", "fc1"]


def write_lora(
    path: Path, unet: Any, encoders: list[Any] | None = None, *, seed: int = 0, alpha: int = 8, size: float = 0.1,
    kohya: bool = False, text_layers: list[str] = TEXT_LAYERS,
) -> Path:  # fmt: skip
    """A LoRA for a UNet and, if given, text encoders. The parts are copied, not changed."""
    names = ["unet", *("text_encoder", "text_encoder_2")[: len(encoders or [])]]
    layers: dict[str, dict[str, torch.Tensor]] = {}
    torch.manual_seed(seed)
    for name, part in zip(names, [unet, *(encoders or [])], strict=True):
        layers[name] = _trained(part, LoraConfig(
            r=4, lora_alpha=alpha, init_lora_weights=False,
            target_modules=UNET_LAYERS if name == "unet" else text_layers,
        ), size)  # fmt: skip
    if kohya:
        prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if len(names) == 3 else "lora_te",
                    "text_encoder_2": "lora_te2"}  # fmt: skip
        tensors = {}
        for name, weights in layers.items():
            for key, value in weights.items():
                layer, half = key.split(".lora_")
                layer = layer if name == "unet" or layer.startswith("text_model.") else f"text_model.{layer}"
                own = f"{prefixes[name]}_{layer.replace('.', '_')}"
                down = half.startswith("A")
                tensors[f"{own}.lora_{'down' if down else 'up'}.weight"] = value.contiguous()
                tensors[f"{own}.alpha"] = torch.tensor(float(alpha))
        save_file(tensors, path)
        return path
    metadata = {
        f"{name}_lora_adapter_metadata": {
            "r": 4,
            "lora_alpha": alpha,
            "target_modules": UNET_LAYERS if name == "unet" else text_layers,
        }
        for name in names
    }
    pipeline = StableDiffusionXLPipeline if len(names) == 3 else StableDiffusionPipeline
    pipeline.save_lora_weights(
        path.parent,
        weight_name=path.name,
        **{f"{name}_lora_layers": found for name, found in layers.items()},
        **metadata,
    )
    return path


def _trained(part: Any, config: LoraConfig, size: float) -> dict[str, torch.Tensor]:
    from peft import inject_adapter_in_model

    if isinstance(part, UNet2DConditionModel):
        copy = UNet2DConditionModel.from_config(part.config)
    else:
        copy = type(part)(part.config)
    inject_adapter_in_model(config, copy)
    found = get_peft_model_state_dict(copy)
    return {key: torch.randn(value.shape) * size for key, value in found.items()}
