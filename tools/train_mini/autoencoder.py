"""The VAE: SD1.5's AutoencoderKL in small, 3 x 256 x 256 pictures to 4 x 32 x 32 latents.

It starts as a working image resampler: three channels of every layer carry the colours straight through (box
averages down, a smooth kernel up), which gives 23 dB before any training and saves most of it.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from . import classifier
from .data import SIDE, Pictures
from .run import Run, write_whole

_CARRIED = 3  # channels 0..2 of every layer carry red, green, blue
_LIFT = 4  # channels 4 and 5 hold plus and minus this large constant: they fix what the group norm divides by
_CONSTANT = 10.0
_LATENT_SCALE = 2.0


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )


def _carry(layer: nn.Conv2d, kernel: torch.Tensor | None) -> None:
    """Let a convolution pass the colours on through the kernel, or leave them alone (None)."""
    layer.weight[:6] = 0
    layer.bias[:6] = 0
    if kernel is not None:
        for c in range(_CARRIED):
            layer.weight[c, c] = kernel


def _carry_block(block: nn.Module) -> None:
    block.conv2.weight *= 0.3
    _carry(block.conv2, None)
    if block.conv_shortcut is not None:
        _carry(block.conv_shortcut, torch.ones(1, 1))


def _read_out(last: nn.Module, norm: nn.GroupNorm, out: nn.Conv2d) -> None:
    """Get the colours back behind the final norm and SiLU.

    Large constants in two channels make the norm's divisor known; a bias moves the colours to where SiLU is
    nearly the identity, and channel 3, which is left at zero, says what to subtract again.
    """
    last.conv2.bias[_LIFT], last.conv2.bias[_LIFT + 1] = _CONSTANT, -_CONSTANT
    divisor = _CONSTANT * (2 / (norm.num_channels / norm.num_groups)) ** 0.5
    gain, shift = 4.0, 5.0
    norm.weight[:_LIFT], norm.bias[:_LIFT] = gain, shift
    out.weight *= 0.1
    out.weight[:, :6] = 0
    for c in range(_CARRIED):
        out.weight[c], out.bias[c] = 0, 0
        out.weight[c, c, 1, 1], out.weight[c, 3, 1, 1] = divisor / gain, -divisor / gain


@torch.no_grad()
def start_as_resampler(vae: AutoencoderKL) -> AutoencoderKL:
    """Set the weights such that latents 0..2 are 8 x 8 averages of the colours."""
    identity, box = torch.zeros(3, 3), torch.zeros(3, 3)
    identity[1, 1], box[:2, :2] = 1, 0.25
    tent = torch.tensor([0.25, 0.5, 0.25])
    encoder, decoder = vae.encoder, vae.decoder
    for half, blocks in ((encoder, encoder.down_blocks), (decoder, decoder.up_blocks)):
        _carry(half.conv_in, identity)
        for block in (*half.mid_block.resnets, *(r for b in blocks for r in b.resnets)):
            _carry_block(block)
    for block in encoder.down_blocks[:-1]:
        _carry(block.downsamplers[0].conv, box)
    for block in decoder.up_blocks[:-1]:
        _carry(block.upsamplers[0].conv, torch.outer(tent, tent))
    _read_out(encoder.mid_block.resnets[-1], encoder.conv_norm_out, encoder.conv_out)
    _read_out(decoder.up_blocks[-1].resnets[-1], decoder.conv_norm_out, decoder.conv_out)
    encoder.conv_out.weight[3] *= 10  # the free latent
    encoder.conv_out.weight[4:], encoder.conv_out.bias[4:] = 0, -7.0
    for layer, gain in ((vae.quant_conv, _LATENT_SCALE), (vae.post_quant_conv, 1 / _LATENT_SCALE)):
        layer.weight.zero_()
        layer.bias.zero_()
        for c in range(layer.out_channels):
            layer.weight[c, c] = gain if c < 4 else 1.0
    return vae


def gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 of differences between neighbours, at three scales: for sharp edges."""
    loss = torch.zeros((), device=a.device)
    for _ in range(3):
        d = a - b
        loss = loss + d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


def feature_loss(judge: classifier.Classifier, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Distance in the classifier's first layers: for textures that it can tell (as LPIPS does)."""
    loss = torch.zeros((), device=a.device)
    for x, y in zip(judge.features(a)[:3], judge.features(b)[:3], strict=True):
        y = y.detach().float()
        loss = loss + ((x.float() - y) / (y.pow(2).mean((0, 2, 3), keepdim=True).sqrt() + 0.05)).abs().mean()
    return loss / 3


def psnr(vae: AutoencoderKL, pictures: Pictures, run: Run, n: int = 32) -> float:
    """Mean peak signal-to-noise ratio in dB over the first n pictures."""
    values = []
    with torch.no_grad():
        for start in range(0, min(n, len(pictures)), 8):
            rgb = pictures.get("rgb", np.arange(start, min(start + 8, len(pictures))))
            x = classifier.to_tensor(rgb, run.device)
            with run.autocast():
                y = vae.decode(vae.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
            values += (10 * torch.log10(4 / ((x - y) ** 2).mean((1, 2, 3)))).tolist()
    return float(np.mean(values))


def train(run: Run, samples: int) -> None:
    """Train the VAE on crops that grow, or take the one given to start from; leaves it in run.folder."""
    pictures, held_out = (f(run.folder / "data") for f in (Pictures.training, Pictures.held_out))
    if run.init and (run.init / "vae").exists():
        if (run.folder / "vae" / "training.json").exists():
            return
        vae = AutoencoderKL.from_pretrained(run.init / "vae", torch_dtype=torch.float32).to(run.device)
        _keep(run, vae, pictures, held_out, vae.config.scaling_factor)
        return
    judge = classifier.load(run)
    vae = start_as_resampler(make_vae()).to(run.device, memory_format=torch.channels_last)
    trainer = run.trainer("vae", vae, samples, rate=1e-3)

    def size() -> tuple[int, int]:  # batch, crop
        return (8, 64) if trainer.progress < 0.7 else (4, 128) if trainer.progress < 0.9 else (2, 256)

    for rng in trainer.steps(lambda _: size()[0]):
        n, side = size()
        (rgb,) = classifier.crops(pictures, ("rgb",), np.sort(rng.integers(len(pictures), size=n)), side, rng)
        x = classifier.to_tensor(rgb, run.device)
        with run.autocast():
            posterior = vae.encode(x).latent_dist
            z = posterior.sample()
            y = vae.decode(z + 0.05 * torch.randn_like(z)).sample
            features = feature_loss(judge, y, x) if trainer.progress > 0.3 else torch.zeros((), device=x.device)
        y, mean, log_variance = y.float(), posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        l1 = (y - x).abs().mean()
        trainer.learn(l1 + 0.5 * gradient_loss(y, x) + 0.06 * features.float() + 2e-4 * kl, l1=l1.item())
    _keep(run, vae, pictures, held_out, scaling_factor=None)


@torch.no_grad()
def _keep(run: Run, vae: AutoencoderKL, pictures: Pictures, held_out: Pictures, scaling_factor: float | None) -> None:
    """Measure, set the latents' one common scale (not one a channel), and save.

    A latent channel counts in the diffusion loss by what a unit of it does in the decoder: a weak one holds
    detail that cannot be foreseen, and would take more than its share.
    """
    vae.eval()
    rgb = pictures.get("rgb", np.arange(0, len(pictures), max(1, len(pictures) // 64)))
    latents = torch.cat(
        [vae.encode(classifier.to_tensor(rgb[i : i + 16], run.device)).latent_dist.mean for i in range(0, len(rgb), 16)]
    ).float()
    if scaling_factor is None:
        scaling_factor = 1 / latents.std().item()
    vae.register_to_config(scaling_factor=scaling_factor)
    weight = vae.post_quant_conv.weight[:, :, 0, 0].norm(dim=0)
    weights = (weight / weight.mean()).tolist()
    vae.save_pretrained(run.folder / "vae")
    for folder in (*pictures.folders, *held_out.folders):  # another VAE's
        (folder / "latents.npy").unlink(missing_ok=True)
    facts = {"psnr": round(psnr(vae, held_out, run), 2), "channel_weights": [round(w, 3) for w in weights]}
    write_whole(run.folder / "vae" / "training.json", lambda path: path.write_text(json.dumps(facts)))
    print(json.dumps({"part": "vae", **facts}), flush=True)


@torch.no_grad()
def latents_of(folder: Path, vae: AutoencoderKL, run: Run) -> None:
    """Encode a shard that has no latents yet: latents.npy (n, 4, 32, 32) float16 beside its pictures."""
    if (folder / "latents.npy").exists():
        return
    shard, found = Pictures([folder]), []
    for start in range(0, len(shard), 50):
        rgb = shard.get("rgb", np.arange(start, min(start + 50, len(shard))))
        with run.autocast():
            mean = vae.encode(classifier.to_tensor(rgb, run.device)).latent_dist.mean
        found.append((mean.float() * vae.config.scaling_factor).half())
    latents = torch.cat(found).cpu().numpy()
    with (folder / "latents.part").open("wb") as file:
        np.save(file, latents)
    (folder / "latents.part").rename(folder / "latents.npy")


def write_latents(run: Run) -> None:
    """Encode all pictures."""
    vae = AutoencoderKL.from_pretrained(run.folder / "vae").to(run.device, memory_format=torch.channels_last)
    for pictures in (Pictures.held_out(run.folder / "data"), Pictures.training(run.folder / "data")):
        for folder in pictures.folders:
            latents_of(folder, vae, run)
