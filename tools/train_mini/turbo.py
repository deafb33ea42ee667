"""mini-turbo: mini in one to four steps. A LoRA for the UNet, and a small decoder in place of the VAE's.

The LoRA learns a consistency function (Song et al. 2023; for latent diffusion Luo et al. 2023, "LCM"): from any point
of a denoising trajectory straight to the trajectory's end. Luo et al. learn it from pairs of neighbouring points, as a
whole trajectory of a big model costs too much. Ours is cheap, so its real end is the target: nothing is bootstrapped.
Guidance is part of the trajectories, and so of the LoRA: mini-turbo runs without.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from peft import LoraConfig
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from . import classifier, diffusion, text
from .autoencoder import feature_loss, gradient_loss, write_latents
from .data import KINDS, Pictures
from .diffusion import Painter, load_painter
from .feed import Batch, Feed, Stage
from .graphs import Gradients
from .hints import CONTROLS
from .run import Run

TRAJECTORY_STEPS = 8
GUIDANCE = 3.0
RANK = 32
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2"]
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]
LATENT_SCALE = 2.0  # AutoencoderTiny squashes latents beyond 3; ours reach 5
LORA_FILE = "pytorch_lora_weights.safetensors"

STAGES = (Stage(0.6, 16, 64, KINDS, 0.4), Stage(1.0, 32, 16, KINDS, 0.4))
_BATCH = 16


@dataclass
class Trajectories:
    """Points of the teacher's way from noise to pictures, and where they lead."""

    x: torch.Tensor
    """(n, 4, c, c) noisy latents."""
    t: torch.Tensor
    """(n,) their times."""
    end: torch.Tensor
    """(n, 4, c, c) the finished latents of each one's trajectory."""
    pictures: Batch
    """Hints, weights and what the prompts say, of the pictures."""
    which: torch.Tensor
    """(n,) whose each point is."""

    def at(self, chosen: torch.Tensor) -> Batch:
        """Some of the points, by their numbers, as a batch to learn from."""
        whose = {name: value[self.which[chosen]] for name, value in self.pictures.items()}
        whose["hint"] = whose["hint"].contiguous(memory_format=torch.channels_last)
        x = self.x[chosen].contiguous(memory_format=torch.channels_last)
        return {**whose, "x": x, "t": self.t[chosen], "end": self.end[chosen]}


@torch.no_grad()
def follow(teacher: Painter, control: str, batch: Batch, nothing: torch.Tensor) -> Trajectories:
    """Run the teacher from pure noise to the end for every picture of a batch, keeping all points of the way."""
    scheduler: DDIMScheduler = diffusion.make_scheduler()
    scheduler.set_timesteps(TRAJECTORY_STEPS)
    x = torch.randn_like(batch["x0"])
    n = len(x)
    states = teacher.read(torch.cat([nothing.expand(n, -1), batch["ids"]]))
    hint = torch.cat([batch["hint"]] * 2).contiguous(memory_format=torch.channels_last)
    strength = torch.ones(2 * n, 1, 1, 1, device=x.device)
    points, times = [], []
    for t in scheduler.timesteps:
        points.append(x)
        times.append(t.expand(n).to(x.device))
        both = torch.cat([x] * 2).contiguous(memory_format=torch.channels_last)
        negative, positive = teacher(both, times[-1].repeat(2), states, control, hint, strength).float().chunk(2)
        x = scheduler.step(negative + GUIDANCE * (positive - negative), t, x).prev_sample
    return Trajectories(
        torch.cat(points),
        torch.cat(times),
        torch.cat([x] * len(points)),
        {"hint": batch["hint"], "weight": batch["weight"], "states": states[n:]},
        torch.arange(n, device=x.device).repeat(len(points)),
    )


def batches(found: Trajectories, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Every point once, in random order, as index tensors of `size`."""
    order = torch.from_numpy(rng.permutation(len(found.x))).to(found.x.device)
    yield from order.split(size)


def train_lora(run: Run, samples: int) -> None:
    """Distil the joint part's result; leaves run.folder / "turbo" / LORA_FILE. A sample is a point of a trajectory."""
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    feed = Feed(run, "shard_*")
    nothing = text.tokenize(tokenizer, [""]).to(run.device)
    weights = torch.tensor(diffusion.load_channel_weights(run.folder / "vae"), device=run.device).view(1, 4, 1, 1)

    def painter() -> Painter:
        found = load_painter(run.folder, CONTROLS, run.folder / "text_encoder").requires_grad_(False)
        return diffusion.ready(found, run)

    teacher, student = painter().eval(), painter()
    lora = LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=ATTENTION + CONVOLUTIONS)
    student.unet.add_adapter(lora)
    if run.init and (begun := run.init.parent / "mini_turbo" / LORA_FILE).exists():
        set_peft_model_state_dict(student.unet, {name: w.float() for name, w in load_file(begun).items()})
    trainer = run.trainer("turbo", student, samples, rate=5e-4)

    def loss(control: str, b: Batch) -> torch.Tensor:
        """Pseudo-Huber distance (Song & Dhariwal 2023) between the student's guess of the end and the real one."""
        with run.autocast():
            v = student(b["x"], b["t"], b["states"], control, b["hint"], torch.ones_like(b["t"]).view(-1, 1, 1, 1))
        a = diffusion.signal(run.device)[b["t"]].view(-1, 1, 1, 1)
        guess = a.sqrt() * b["x"] - (1 - a).sqrt() * v.float()
        off = (guess - b["end"]) ** 2 * weights * b["weight"]
        return ((off + 0.03**2).sqrt() - 0.03).mean()

    gradients = Gradients(trainer.parameters, loss, run.device)
    # Each picture gives TRAJECTORY_STEPS points: on a GPU, too, many small steps learn more than few big ones.
    size = _BATCH * max(1, run.batch_scale // 4)
    steps = trainer.steps(size)
    rng = next(steps, None)
    while rng is not None:
        stage = next(s for s in STAGES if trainer.progress < s.until or s is STAGES[-1])
        control = str(rng.choice(CONTROLS, p=diffusion.CONTROL_SHARES))
        batch = feed.batch(stage, control, rng)
        with run.autocast():
            found = follow(teacher, control, batch, nothing)
        for chosen in batches(found, size, rng):
            trainer.apply(gradients(control, found.at(chosen)))
            rng = next(steps, None)
            if rng is None:
                break
    student.unet.save_lora_adapter(run.folder / "turbo", weight_name=LORA_FILE)


def make_decoder() -> AutoencoderTiny:
    """Only its decoder is used: latents straight to RGB, at a third of the VAE's work."""
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(24, 24, 24, 24),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(2, 2, 1, 1),
        scaling_factor=LATENT_SCALE,
    )


def train_decoder(run: Run, samples: int) -> None:
    """Train the small decoder on the pictures' latents; leaves run.folder / "turbo" / "decoder"."""
    write_latents(run)
    pictures = Pictures.training(run.folder / "data")
    judge = classifier.load(run)
    model = make_decoder().to(run.device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(False)
    trainer = run.trainer("decoder", model, samples, rate=2e-3, orthogonal=True)
    for rng in trainer.steps(8):
        z, x = _latent_crops(pictures, 8, 12, rng, run.device)
        with run.autocast():
            y = model.decode((z + 0.03 * torch.randn_like(z)) / LATENT_SCALE).sample
        y = y.float()
        l1 = (y - x).abs().mean()
        features = feature_loss(judge, y, x) if trainer.progress > 0.3 else torch.zeros((), device=x.device)
        trainer.learn(l1 + 0.5 * gradient_loss(y, x) + 0.06 * features, l1=l1.item())
    model.save_pretrained(run.folder / "turbo" / "decoder")


def _latent_crops(
    pictures: Pictures, n: int, side: int, rng: np.random.Generator, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (n, 4, side, side) of random squares, and the squares' pixels (n, 3, 8 side, 8 side) in -1..1."""
    indices = np.sort(rng.integers(len(pictures), size=n))
    corners = rng.integers(0, 32 - side + 1, (n, 2))
    z = [a[:, y : y + side, x : x + side] for a, (y, x) in zip(pictures.get("latents", indices), corners, strict=True)]
    rgb = [
        a[8 * y : 8 * (y + side), 8 * x : 8 * (x + side)]
        for a, (y, x) in zip(pictures.get("rgb", indices), corners, strict=True)
    ]
    latents = torch.from_numpy(np.stack(z)).float().to(device)
    return latents.contiguous(memory_format=torch.channels_last), classifier.to_tensor(rgb, device)
