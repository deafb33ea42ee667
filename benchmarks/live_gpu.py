"""The stream on a GPU at real size: against the stock pipeline, against StreamDiffusion's, and against the floor.

Speed does not depend on the weights' values: the layouts of SD-turbo (that of SD 2.1) and SDXL-turbo are built from
their configurations with random weights, with a depth ControlNet and the tiny VAE's layout, and written as model
folders. 512², one step, float16.

- Ours: a real server; a client streams new control frames at 200 a second and takes the pictures (as in live.py).
  Rate with the depth ControlNet and without any, and latency as in live.py.
- Stock: diffusers' ControlNet pipeline, eager, with the tiny VAE and ready prompt embeddings, one call a frame with
  another control image, to uint8 pixels in memory.
- StreamDiffusion (PyPI `streamdiffusion` 0.1.1: `pip install --no-deps streamdiffusion`): its own text-to-image call
  for SD-turbo, without a ControlNet, to uint8 pixels in memory. It knows no SDXL.

`floor_share` is the time that the frame's arithmetic would take at the speed of this GPU's own large float16 matrix
product, over the time between pictures. Arithmetic is counted in TFLOP (UNet, ControlNet, tiny decoder).

Run: python -m benchmarks.live --gpu [sd-turbo] [sdxl-turbo] [--tiny]; --tiny is small layouts on any device, to see
that it runs.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paintover.bridge.live_messages import LiveSet
from tests.server_process import running

from .live import Source, Watcher, latency_results, measure, passes_of
from .report import Result, report

FRAMES, CHANGES = 200, 200
CONTROL_INTERVAL = 1 / 200


@dataclass(frozen=True)
class Layout:
    name: str
    family: str
    unet: dict[str, Any]
    widths: tuple[int, ...]
    """Of the text encoders; their depth does not matter, since prompts are encoded once."""
    teraflops: float
    """Of a frame with the ControlNet."""
    side: int = 512


_CROSS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
SD_TURBO = Layout(
    "sd-turbo", "sd15",
    {
        "block_out_channels": (320, 640, 1280, 1280), "down_block_types": (_CROSS, _CROSS, _CROSS, _PLAIN),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True,
    },
    (1024,), 0.80 + 0.28 + 0.14,
)  # fmt: skip
SDXL_TURBO = Layout(
    "sdxl-turbo", "sdxl",
    {
        "block_out_channels": (320, 640, 1280), "down_block_types": (_PLAIN, _CROSS, _CROSS),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    (768, 1280), 1.59 + 0.71 + 0.14,
)  # fmt: skip


def tiny(layout: Layout) -> Layout:
    """The same with an eighth of the channels."""
    unet = dict(layout.unet)
    unet["block_out_channels"] = tuple(width // 10 for width in unet["block_out_channels"])
    unet["attention_head_dim"] = tuple(4 for _ in unet["attention_head_dim"])
    unet["norm_num_groups"] = 8
    return replace(layout, unet=unet, side=64)


def write(layout: Layout, folder: Path) -> None:
    """The model as a diffusers folder with random weights in float16, its ControlNet and its tiny VAE."""
    import torch
    from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from tests.server.tiny_models import text_config, write_tokenizer

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def keep(part: Any, name: str) -> None:
        part.half().cpu().save_pretrained(folder / name)

    with torch.device(device):
        unet = UNet2DConditionModel(sample_size=64, **layout.unet)
        net = ControlNetModel.from_unet(unet)
        keep(AutoencoderKL(block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
                           up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4), "vae")  # fmt: skip
        keep(AutoencoderTiny(), "decoder")
    keep(net, "controlnet-depth")
    keep(unet, "unet")
    for number, width in enumerate(layout.widths):
        suffix = "_2" if number else ""
        config = text_config(write_tokenizer(folder / f"tokenizer{suffix}"), width)
        config.projection_dim = 1280
        keep((CLIPTextModelWithProjection if number else CLIPTextModel)(config), f"text_encoder{suffix}")
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    ).save_pretrained(folder / "scheduler")
    two = layout.family == "sdxl"
    name = "StableDiffusionXLPipeline" if two else "StableDiffusionPipeline"
    encoders = [("text_encoder", "CLIPTextModel"), ("text_encoder_2", "CLIPTextModelWithProjection")][: 1 + two]
    index = {"_class_name": name, "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "scheduler": ["diffusers", "EulerDiscreteScheduler"]}  # fmt: skip
    for encoder, cls in encoders:
        index |= {encoder: ["transformers", cls], encoder.replace("text_encoder", "tokenizer"):
                  ["transformers", "CLIPTokenizer"]}  # fmt: skip
    more: dict[str, Any] = {"safety_checker": [None, None], "feature_extractor": [None, None]}
    index |= {"force_zeros_for_empty_prompt": True} if two else more
    (folder / "model_index.json").write_text(json.dumps(index))


def ours(layout: Layout, model: Path, data: Path, changes: int) -> tuple[float, float, list[Result]]:
    """Pictures a second with the ControlNet and without, and latency."""
    entry = {"family": layout.family, "path": str(model), "controls": {"depth": str(model / "controlnet-depth")},
             "decoder": str(model / "decoder")}  # fmt: skip
    data.mkdir()
    (data / "models.json").write_text(json.dumps({"models": {layout.name: entry}, "controls": {}}))
    settings = {"model": layout.name, "steps": 1, "guidance": 1.0, "prompt": "a b", "seed": 0,
                "output_width": layout.side, "output_height": layout.side,
                "control_depth": True, "control_normal": False}  # fmt: skip
    with running(data, "diffusers", "--no-standby") as server:
        watcher = Watcher(server, **settings)
        source = Source(watcher.client, passes_of(layout.side), CONTROL_INTERVAL)
        source.start()
        watcher.next(600.0)
        steered = measure(watcher, changes)
        watcher.client.send(LiveSet({"control_depth": False}))
        for _ in range(10):
            watcher.next()
        free = measure(watcher, max(10, changes // 4))
        source.stop()
        watcher.client.close()
    return 1 / steered.frame, 1 / free.frame, latency_results(steered, f"{_prefix(layout)}_")


def _prefix(layout: Layout) -> str:
    return layout.name.replace("-", "_")


def rate_of(frame: Callable[[int], np.ndarray], frames: int) -> float:
    """Pictures a second, from the median time of a call that ends with pixels in memory."""
    for number in range(5):
        frame(number)
    times = []
    for number in range(frames):
        begun = time.perf_counter()
        frame(number)
        times.append(time.perf_counter() - begun)
    return 1 / statistics.median(times)


def stock(layout: Layout, model: Path, frames: int) -> float:
    """Diffusers' own ControlNet pipeline."""
    import torch
    from diffusers import (
        AutoencoderTiny,
        ControlNetModel,
        StableDiffusionControlNetPipeline,
        StableDiffusionXLControlNetPipeline,
    )

    device, dtype = _device()
    cls = StableDiffusionXLControlNetPipeline if layout.family == "sdxl" else StableDiffusionControlNetPipeline
    net = ControlNetModel.from_pretrained(model / "controlnet-depth", torch_dtype=dtype)
    vae = AutoencoderTiny.from_pretrained(model / "decoder", torch_dtype=dtype)
    pipe: Any = cls.from_pretrained(model, controlnet=net, vae=vae, torch_dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    embeds = pipe.encode_prompt("a b", device=device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    ready = {"prompt_embeds": embeds[0]} | ({"pooled_prompt_embeds": embeds[2]} if len(embeds) == 4 else {})
    hints = torch.rand(2, 1, 3, layout.side, layout.side, device=device, dtype=dtype)

    def frame(number: int) -> np.ndarray:
        image = pipe(
            **ready, image=hints[number % 2], num_inference_steps=1, guidance_scale=0.0, output_type="np",
            generator=torch.Generator(device).manual_seed(number), width=layout.side, height=layout.side,
        ).images[0]  # fmt: skip
        return (image * 255).round().astype(np.uint8)

    return rate_of(frame, frames)


def stream_diffusion(model: Path, side: int, frames: int) -> float | None:
    """StreamDiffusion's own pipeline on the same UNet; None if it is not installed."""
    if importlib.util.find_spec("streamdiffusion") is None:
        print("streamdiffusion is not installed: pip install --no-deps streamdiffusion")
        return None
    import torch
    from diffusers import AutoencoderTiny, StableDiffusionPipeline
    from streamdiffusion import StreamDiffusion

    device, dtype = _device()
    vae = AutoencoderTiny.from_pretrained(model / "decoder", torch_dtype=dtype)
    pipe: Any = StableDiffusionPipeline.from_pretrained(model, vae=vae, torch_dtype=dtype).to(device)
    stream = StreamDiffusion(pipe, [0], torch_dtype=dtype, width=side, height=side, cfg_type="none")
    stream.prepare("a b", num_inference_steps=1, guidance_scale=0.0)

    def frame(number: int) -> np.ndarray:
        image = stream.txt2img_sd_turbo(1)
        pixels: np.ndarray = ((image[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return pixels

    with torch.no_grad():
        return rate_of(frame, frames)


def _device() -> tuple[str, Any]:
    import torch

    return ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def matrix_teraflops() -> float:
    """TFLOP/s of a product of two 8192² float16 matrices."""
    import torch

    device, dtype = _device()
    side = 8192 if device == "cuda" else 256
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    best = 0.0
    for _ in range(10):
        if device == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(10):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - begun) / 1e12)
    return best


def main() -> None:
    import torch

    small = "--tiny" in sys.argv
    if not torch.cuda.is_available() and not small:
        print("There is no GPU here that torch knows: nothing was measured.")
        report("live_gpu", [])
        return
    frames, changes = (3, 5) if small else (FRAMES, CHANGES)
    peak = matrix_teraflops()
    results = [Result("matrix_teraflops", peak, "TFLOP/s")]
    for layout in [one for one in (SD_TURBO, SDXL_TURBO) if one.name in sys.argv] or (SD_TURBO, SDXL_TURBO):
        name = _prefix(layout)
        layout = tiny(layout) if small else layout
        with tempfile.TemporaryDirectory() as place:
            model = Path(place) / "model"
            write(layout, model)
            _free()
            print(f"{name}: ours", flush=True)
            rate, free_rate, latency = ours(layout, model, Path(place) / "data", changes)
            print(f"{name}: {rate:.1f}/s, {free_rate:.1f}/s without control; the others", flush=True)
            theirs = stock(layout, model, frames)
            _free()
            other = stream_diffusion(model, layout.side, frames) if layout.family == "sd15" else None
        results += [
            Result(f"{name}_fps", rate, "pictures/s at the client"),
            Result(f"{name}_over_stock", rate / theirs, f"times the stock pipeline's {theirs:.1f}/s", at_least=3),
            Result(f"{name}_floor_share", layout.teraflops / peak * rate, "of the GPU's arithmetic", at_least=0.35),
            Result(f"{name}_fps_without_control", free_rate, "pictures/s at the client"),
            *latency,
        ]
        if other is not None:
            over = Result(f"{name}_over_streamdiffusion", free_rate / other, f"times its {other:.1f}/s", at_least=1.3)
            results.append(over)
    report("live_gpu", results, torch.cuda.get_device_name() if torch.cuda.is_available() else "")


if __name__ == "__main__":
    main()
