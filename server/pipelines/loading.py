"""Loads a model's parts with diffusers and transformers: from a diffusers folder or a single .safetensors file.

Only what is needed is imported, since importing all of diffusers' pipelines takes many seconds.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from paintover.bridge.errors import BadModelFile

from .. import model_files
from ..model_files import SDXL
from ..models import ModelEntry, config_folder, control_path, located
from .loras import Loras
from .trouble import bad_file

PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(eq=False)
class Model:
    """A loaded model: diffusers' and transformers' own parts, on one device."""

    entry: ModelEntry
    device: torch.device
    dtype: torch.dtype
    unet: Any
    vae: Any
    tokenizers: list[Any]
    text_encoders: list[Any]
    scheduler_class: Any
    scheduler_config: dict[str, Any]
    zero_negative: bool
    """An empty negative prompt is zeros (SDXL) instead of an embedding."""
    decoder: Any = None
    """What turns latents into pictures: the VAE, or a smaller one in its place."""
    controlnets: dict[str, Any] = field(default_factory=dict)
    """Control -> ControlNetModel, loaded when first used."""
    loras: Loras = field(default_factory=Loras)
    motions: dict[str, Model] = field(default_factory=dict)
    """The motion adapter that was used last -> this model with it (motion.py)."""
    size: int = 0
    """Bytes of its weights, by the time when something of it was loaded last (see weigh)."""

    @property
    def scale_factor(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_model(entry: ModelEntry, device: torch.device, dtype: torch.dtype, report: Callable[[float], None]) -> Model:
    """Load all but the ControlNets. `report` gets the share that is done, and may raise to stop.

    BadModelFile if the files cannot be used.
    """
    path = located(entry.path)
    model_files.check_model(path, entry.family)
    with bad_file(entry.path):
        load = _load_single_file if path.is_file() else _load_folder
        model = load(entry, path, device, dtype, report)
        _check_fit(model)
        _add_lora(model)
        model.decoder = component(AutoencoderTiny, Path(entry.decoder), dtype) if entry.decoder else model.vae
        for part in (model.unet, model.vae, model.decoder, *model.text_encoders):
            ready(part, device)
    if dtype == torch.float16 and entry.family == SDXL and model.vae.config.force_upcast:
        model.vae.to(torch.float32)  # it overflows in float16, and says so in its configuration
    report(1.0)
    return model


_shared: WeakValueDictionary[tuple[str, torch.device, torch.dtype], Model] = WeakValueDictionary()
alone = threading.Lock()
"""For whoever loads. The stream's loader and a job may want to at once, but while transformers reads weights, every
module that any thread of the process makes begins without memory (init_empty_weights)."""


def shared_model(entry: ModelEntry, device: torch.device, dtype: torch.dtype, report: Callable[[float], None]) -> Model:
    """`load_model`, or the same model where this process has it already: jobs and the stream use one copy."""
    with alone:
        key = entry.name, device, dtype
        model = _shared.get(key)
        if model is None or model.entry != entry:
            model = _shared[key] = load_model(entry, device, dtype, report)
        return model


def _add_lora(model: Model) -> None:
    """Merge the entry's LoRA into the UNet: afterwards it costs nothing."""
    if model.entry.lora:
        path = Path(model.entry.lora)
        model.unet.load_lora_adapter(str(path.parent), weight_name=path.name, prefix=None, use_safetensors=True)
        model.unet.fuse_lora()
        model.unet.unload_lora()


def load_control(model: Model, control: str) -> Any:
    """The ControlNet for `control`, loaded once. UnsupportedControl if the model has none; BadModelFile."""
    if control in model.controlnets:  # whoever has it need not wait for who loads something else
        return model.controlnets[control]
    with alone:
        if control not in model.controlnets:
            path = control_path(model.entry, control)
            model_files.check_control(path)
            with bad_file(str(path)):
                single = path.is_file()
                net = _load_single_control(model, path) if single else component(ControlNetModel, path, model.dtype)
            if net.config.cross_attention_dim != model.unet.config.cross_attention_dim:
                raise BadModelFile(
                    name=path.name,
                    reason=f"it was made for another family of models than {model.entry.name}",
                    hint=f"Add a {control} ControlNet for {model.entry.family}.",
                )
            with bad_file(str(path)):
                model.controlnets[control] = ready(net, model.device)
        return model.controlnets[control]


def ready(part: Any, device: torch.device) -> Any:
    """The part on its device, ready to run. BadModelFile for weights that are no numbers."""
    part.requires_grad_(False).eval()
    part.to(device)
    if device.type == "cuda":
        part.to(memory_format=torch.channels_last)
    if not torch.stack([torch.isfinite(weights).all() for weights in part.parameters()]).all():
        raise BadModelFile(name=type(part).__name__, reason="its weights have NaN or inf")
    return part


def _check_fit(model: Model) -> None:
    """BadModelFile unless the parts can work together: found out later, it would cost the whole worker on a GPU."""
    name = model.entry.name
    for tokenizer, encoder in zip(model.tokenizers, model.text_encoders, strict=True):
        if max(tokenizer.get_vocab().values(), default=0) >= encoder.config.vocab_size:
            raise BadModelFile(name=name, reason="its tokenizer knows more words than its text encoder")
        if tokenizer.model_max_length > encoder.config.max_position_embeddings:
            raise BadModelFile(name=name, reason="its tokenizer gives longer texts than its text encoder takes")
    width = sum(encoder.config.hidden_size for encoder in model.text_encoders)
    if model.unet.config.cross_attention_dim != width:
        raise BadModelFile(name=name, reason="its unet and its text encoder were not made for each other")
    unet, latent = model.unet.config, model.vae.config.latent_channels
    if unet.out_channels != latent or unet.in_channels not in (latent, 2 * latent + 1):  # plain, or for inpainting
        reason = f"its unet takes {unet.in_channels} channels and gives {unet.out_channels}, its VAE has {latent}"
        raise BadModelFile(name=name, reason=reason, hint="Choose the plain model: Paintover inpaints with any.")
    scheduler = model.scheduler_class.from_config(model.scheduler_config)
    if scheduler.config.prediction_type not in PREDICTIONS:
        raise BadModelFile(name=name, reason=f"its scheduler predicts {scheduler.config.prediction_type!r}")


def weigh(model: Model) -> None:
    """Note the model's size, its ControlNets and LoRAs included. For the thread that changes its layers: in any other,
    they could change meanwhile."""
    parts = {model.unet, model.vae, model.decoder, *model.text_encoders, *model.controlnets.values()}
    model.size = sum(value.numel() * value.element_size() for part in parts for value in part.parameters())


def component(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    variant = model_files.weights(folder)[0]
    options = {"dtype" if cls.__module__.startswith("transformers") else "torch_dtype": dtype}
    part, info = cls.from_pretrained(
        str(folder), variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )
    for trouble in ("missing_keys", "mismatched_keys"):
        if keys := info.get(trouble):  # the libraries would go on with random weights
            example = min(map(str, keys))
            reason = f"its weights do not fit its configuration ({len(keys)} tensors, for example {example})"
            raise BadModelFile(name=f"{folder.parent.name}/{folder.name}", reason=reason)
    return part


def _load_folder(
    entry: ModelEntry, path: Path, device: torch.device, dtype: torch.dtype, report: Callable[[float], None]
) -> Model:
    index = model_files.read_config(path / "model_index.json")
    encoders: list[tuple[str, Any]] = [("text_encoder", CLIPTextModel)]
    if entry.family == SDXL:
        encoders.append(("text_encoder_2", CLIPTextModelWithProjection))
    text_encoders, tokenizers = [], []
    for number, (name, cls) in enumerate(encoders):
        report(0.1 * number)
        text_encoders.append(component(cls, path / name, dtype))
        folder = path / name.replace("text_encoder", "tokenizer")
        tokenizers.append(CLIPTokenizer.from_pretrained(str(folder), local_files_only=True))
    report(0.2)
    vae = component(AutoencoderKL, path / "vae", dtype)
    report(0.3)
    unet = component(UNet2DConditionModel, path / "unet", dtype)
    config = model_files.read_config(path / "scheduler" / "scheduler_config.json")
    return Model(
        entry, device, dtype, unet, vae, tokenizers, text_encoders, scheduler_class(config), config,
        zero_negative=entry.family == SDXL and bool(index.get("force_zeros_for_empty_prompt", True)),
    )  # fmt: skip


def scheduler_class(config: dict[str, Any]) -> Any:
    """The scheduler class that a model's configuration names, or BadModelFile."""
    name = str(config.get("_class_name"))
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if cls is None:
        raise BadModelFile(name="scheduler_config.json", reason=f"diffusers has no {name!r}")
    return cls


def _load_single_file(
    entry: ModelEntry, path: Path, device: torch.device, dtype: torch.dtype, report: Callable[[float], None]
) -> Model:
    """A checkpoint in the layout of the original code (AUTOMATIC1111, ComfyUI), converted by diffusers."""
    report(0.0)
    cls = diffusers.StableDiffusionXLPipeline if entry.family == SDXL else diffusers.StableDiffusionPipeline
    pipe = cls.from_single_file(
        str(path), config=str(config_folder(entry.family)), torch_dtype=dtype, local_files_only=True,
        feature_extractor=None, image_encoder=None,
    )  # fmt: skip
    two = entry.family == SDXL
    return Model(
        entry, device, dtype, pipe.unet, pipe.vae,
        [pipe.tokenizer, pipe.tokenizer_2] if two else [pipe.tokenizer],
        [pipe.text_encoder, pipe.text_encoder_2] if two else [pipe.text_encoder],
        type(pipe.scheduler), dict(pipe.scheduler.config),
        zero_negative=two and bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
    )  # fmt: skip


def _load_single_control(model: Model, path: Path) -> Any:
    """A single-file ControlNet. It mirrors its family's UNet, so its configuration is taken from the loaded one."""
    known = inspect.signature(ControlNetModel.__init__).parameters
    shape = {key: value for key, value in model.unet.config.items() if key in known}
    with tempfile.TemporaryDirectory() as folder:
        config = {**shape, "_class_name": "ControlNetModel", "in_channels": 4}
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return ControlNetModel.from_single_file(
            str(path), config=folder, torch_dtype=model.dtype, local_files_only=True
        )
