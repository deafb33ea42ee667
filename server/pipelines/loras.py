"""LoRAs beside a model's weights, whose own weights can change from picture to picture and from frame to frame.

diffusers translates the many ways in which LoRAs name their layers, and peft puts them beside the model's layers, which
stay as they are: without LoRAs the model paints what it always did, bit for bit. How much a LoRA counts is one number
on the device, so that it can change under a captured graph (frame.py), too.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from paintover.bridge.errors import BadModelFile
from paintover.bridge.loras import Lora

from .. import extras, model_files
from ..model_files import SDXL
from .trouble import bad_file

if TYPE_CHECKING:
    from .loading import Model

log = logging.getLogger(__name__)

KEPT = 8
"""LoRAs that stay loaded while they are not asked for."""
PARTS = ("unet", "text_encoder", "text_encoder_2")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Read:
    """A LoRA's file, read."""

    name: str
    stamp: tuple[Any, ...]
    """Of the file: another one has another."""
    layers: dict[str, dict[str, torch.Tensor]]
    """Part -> peft's names -> weights on the model's device, with the LoRA's own scale in them."""


@dataclass(eq=False)
class _Loaded:
    """A LoRA that lies beside the model's layers."""

    number: int
    """Never used for another one."""
    stamp: tuple[Any, ...]
    weight: torch.Tensor
    """float32, no dimensions: what all its layers are multiplied by."""
    texts: bool
    """It changes what prompts mean."""
    value: float = 1.0


class Loras:
    """The LoRAs of one loaded model: its UNet and its text encoders."""

    def __init__(self) -> None:
        self._loaded: dict[str, _Loaded] = {}
        """By name; the one that was asked for last comes last."""
        self._active: tuple[str, ...] = ()
        self._adapted: dict[str, Any] = {}
        """Part -> module that has had a LoRA."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which LoRAs take part, also at weight 0."""
        return tuple(self._loaded[name].number for name in self._active)

    @property
    def state(self) -> tuple[tuple[int, float], ...]:
        """Which LoRAs take part, and how much: what a picture depends on."""
        return tuple((self._loaded[name].number, self._loaded[name].value) for name in self._active)

    @property
    def text_state(self) -> tuple[tuple[int, float], ...]:
        """Likewise, of those that change what prompts mean."""
        texts = {one.number for one in self._loaded.values() if one.texts}
        return tuple(one for one in self.state if one[0] in texts)

    @property
    def loaded(self) -> frozenset[str]:
        """Names of those that can be weighed."""
        return frozenset(self._loaded)

    def use(self, model: Model, wanted: Sequence[Lora], before_loading: Callable[[], None] = lambda: None) -> None:
        """Have the model paint with these LoRAs and no others, loaded where they are not; `before_loading` may raise to
        stop. MissingModel, BadModelFile: then the model paints as before."""
        for one in wanted:
            loaded = self._loaded.get(one.name)
            if loaded is None or loaded.stamp != _stamp(Path(extras.lora(one.name).path)):
                before_loading()
                self.add(model, read(model, one.name))
        self.weigh(wanted)

    def add(self, model: Model, lora: Read) -> None:
        """Lay a LoRA beside the model's layers, without effect until it is weighed. BadModelFile if it does not fit."""
        fitting = {part: _fitting(lora, model, part) for part in lora.layers}
        if not any(fitting.values()):
            raise _misfit(lora.name, model, "none of its layers is one of the model's")
        self._remove(lora.name)
        weight = torch.zeros((), device=model.device)
        loaded = _Loaded(
            next(_NUMBERS), lora.stamp, weight, any(fitting[part] for part in fitting if part != "unet"), 0.0
        )
        adapter = f"lora{loaded.number}"
        try:
            for part, layers in fitting.items():
                if layers:
                    self._adapted[part] = _module(model, part)
                    _inject(self._adapted[part], adapter, layers, weight)
        except Exception:
            self._delete(adapter)
            raise
        finally:
            self._activate()
        self._loaded[lora.name] = loaded

    def weigh(self, wanted: Sequence[Lora]) -> None:
        """Let these, all of them loaded, take part with their weights, and no others."""
        names = tuple(one.name for one in wanted)
        for one in wanted:
            loaded = self._loaded[one.name] = self._loaded.pop(one.name)
            if loaded.value != one.weight:
                loaded.value = one.weight
                loaded.weight.fill_(one.weight)
        idle = [name for name in self._loaded if name not in names]
        for name in idle[: max(0, len(idle) - KEPT)]:
            self._remove(name)
        if names != self._active:
            self._active = names
            self._activate()

    def _activate(self) -> None:
        """Tell every layer which LoRAs take part."""
        adapters = [f"lora{number}" for number in self.numbers]
        for layer in self._layers():
            layer.set_adapter(adapters)
        for module in self._adapted.values():
            module.requires_grad_(False)  # set_adapter makes them trainable

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [layer for module in self._adapted.values() for layer in module.modules()
                if isinstance(layer, BaseTunerLayer)]  # fmt: skip

    def _remove(self, name: str) -> None:
        loaded = self._loaded.get(name)
        if loaded is not None:
            self._active = tuple(other for other in self._active if other != name)
            self._activate()  # peft warns if what is deleted takes part
            del self._loaded[name]
            self._delete(f"lora{loaded.number}")

    def _delete(self, adapter: str) -> None:
        """Take it from every layer; a part without any other gets its own layers back."""
        from diffusers.utils.peft_utils import recurse_remove_peft_layers

        for layer in self._layers():
            layer.delete_adapter(adapter)
        for part, module in list(self._adapted.items()):
            module.peft_config.pop(adapter, None)
            if not module.peft_config:
                recurse_remove_peft_layers(module)
                del module.peft_config, self._adapted[part]


# ---------------------------------------------------------------- files


def read(model: Model, name: str) -> Read:
    """Read a LoRA for a model, which is not touched. MissingModel, BadModelFile."""
    extra = extras.lora(name)
    path = Path(extra.path)
    model_files.check_extra(path, "lora")
    if extra.family not in ("", model.entry.family):
        reason = f"it was made for models of the family {extra.family}; {model.entry.name} is of {model.entry.family}"
        raise BadModelFile(name=path.name, reason=reason, hint=f"Choose a {extra.family} model, or another LoRA.")
    stamp = _stamp(path)
    with bad_file(path.name):
        return Read(name, stamp, _translated(model, _scaled(path)))


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        status = path.stat()
    except OSError as error:
        raise BadModelFile(name=path.name, reason="it is not there any more", hint="Add the LoRA again.") from error
    return str(path), status.st_mtime_ns, status.st_size


def _scaled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA's file, float32, with its alphas in them: each layer is up · down then.

    kohya's scripts write an alpha beside each layer, peft one into the file's metadata; either way alpha / rank is
    what a layer counts (peft's use_rslora: alpha / √rank).
    """
    with safe_open(str(path), framework="pt") as file:
        # Copies: the tensors themselves lie in the file, and would change or vanish with it.
        keys = file.keys()
        tensors = {key: file.get_tensor(key).to(torch.float32, copy=True) for key in keys}
        metadata = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise BadModelFile(name=path.name, reason="its weights have NaN or inf")
    for key in [key for key in tensors if key.endswith(".alpha")]:
        base, alpha = key.removesuffix(".alpha"), float(tensors.pop(key))
        if f"{base}.lora_up.weight" in tensors:
            tensors[f"{base}.lora_up.weight"] *= alpha / tensors[f"{base}.lora_down.weight"].shape[0]
    plain = json.loads(metadata)
    for key in [key for key in tensors if key.endswith(".lora_B.weight")]:
        part, _, layer = key.removesuffix(".lora_B.weight").partition(".")
        patterns = plain.get(f"{part}.alpha_pattern") or {}
        own = (alpha for end, alpha in patterns.items() if re.search(rf"(^|\.){re.escape(end.lstrip('^'))}$", layer))
        rank = tensors[key].shape[1]
        alpha = float(next(own, plain.get(f"{part}.lora_alpha", rank)))
        tensors[key] *= alpha / (rank**0.5 if plain.get(f"{part}.use_rslora") else rank)
    return tensors


def _translated(model: Model, tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """A LoRA's tensors by part, with peft's names, in the model's precision and on its device."""
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    if all(key.startswith(("down_blocks.", "mid_block.", "up_blocks.")) for key in tensors):
        tensors = {f"unet.{key}": value for key, value in tensors.items()}
    cls = StableDiffusionXLLoraLoaderMixin if model.entry.family == SDXL else StableDiffusionLoraLoaderMixin
    tensors = cls.lora_state_dict(tensors, unet_config=model.unet.config)[0]
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for part in PARTS[: 1 + len(model.text_encoders)]:
        own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}
        if own and not any("lora_A" in key for key in own):
            own = convert_unet_state_dict_to_peft(own) if part == "unet" else _text_names(own)
        layers[part] = {key: value.to(model.device, model.dtype) for key, value in own.items()}
    return layers


def _text_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of a text encoder's layers as peft has them. diffusers' own translation leaves out what it does not expect:
    queries and values without the output layer."""
    names = ((r"\.to_(q|k|v|out)_lora\.", r".\1_proj."), (r"\.(lora|lora_linear_layer)\.", "."),
             (r"\.down\.weight$", ".lora_A.weight"), (r"\.up\.weight$", ".lora_B.weight"))  # fmt: skip
    found = {}
    for key, value in tensors.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def _module(model: Model, part: str) -> Any:
    return model.unet if part == "unet" else model.text_encoders[PARTS.index(part) - 1]


def _fitting(lora: Read, model: Model, part: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Layer -> (down, up), of those that the part has; the log says which it has not. BadModelFile for one of another
    size, or one whose half is missing."""
    modules = dict(_module(model, part).named_modules())
    found, unknown = {}, []
    for key, up in lora.layers[part].items():
        if not key.endswith(".lora_B.weight"):
            continue
        layer, down = key.removesuffix(".lora_B.weight"), lora.layers[part].get(key.replace(".lora_B.", ".lora_A."))
        module = next((modules[one] for one in (layer, layer.removeprefix("text_model.")) if one in modules), None)
        if module is None:
            unknown.append(layer)
            continue
        weight = getattr(module, "base_layer", module).weight
        if down is None or (up.shape[0], down.shape[1]) != tuple(weight.shape[:2]) or down.shape[0] != up.shape[1]:
            raise _misfit(lora.name, model, f"its layer {layer} is of another size")
        found[layer if layer in modules else layer.removeprefix("text_model.")] = down, up
    if unknown:
        log.warning("%s has %d layers that %s has not, for example %s", lora.name, len(unknown), part, unknown[0])
    return found


def _misfit(name: str, model: Model, reason: str) -> BadModelFile:
    hint = "A LoRA fits the models that it was trained for, and what was made of them."
    return BadModelFile(name=name, reason=f"it does not fit {model.entry.name}: {reason}", hint=hint)


def _inject(
    module: Any, adapter: str, layers: dict[str, tuple[torch.Tensor, torch.Tensor]], weight: torch.Tensor
) -> None:
    """Have peft lay a LoRA beside these layers, all counted by one weight."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=1, target_modules=list(layers))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are meant to be there
        inject_adapter_in_model(config, module, adapter, low_cpu_mem_usage=True)
    for name, (down, up) in layers.items():
        layer = module.get_submodule(name)
        for place, values in ((layer.lora_A[adapter], down), (layer.lora_B[adapter], up)):
            kernel = place.weight.shape[2:]  # of convolutions; a linear layer's values may come as 1 × 1
            place.weight = torch.nn.Parameter(values.reshape(*values.shape[:2], *kernel), requires_grad=False)
        layer.scaling[adapter] = weight
