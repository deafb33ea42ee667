"""The UNet with its ControlNets: joint training first, then further ControlNets with the UNet locked.

Noise as in "Common diffusion noise schedules and sample steps are flawed" (Lin et al. 2023): v-prediction and
zero terminal SNR. ControlNets as in "Adding conditional control to text-to-image diffusion models" (Zhang et
al. 2023), but the first is trained together with the UNet: on so few samples it learns geometry many times
sooner from the control than by itself, and is then the start for the others.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import text, words
from .autoencoder import write_latents
from .data import Pictures
from .hints import CONTROLS
from .run import Run, Trainer
from .scenes import FLOOR, PLAIN, TWO

WIDTHS = (48, 96, 160)
HINT_WIDTHS = (8, 16, 32, 64)
STEPS = 1000


@dataclass(frozen=True)
class Stage:
    """One stretch of a part's training, up to a share of its samples."""

    until: float
    crop: int  # side of the square that is learned, in latent pixels of 32
    batch: int
    kinds: tuple[str, ...]
    rich: float  # share of captions with synonyms and filler words


# Words are learned first on small squares of one material: four times cheaper, and nothing to mix up.
CURRICULUM = (
    Stage(0.10, 16, 64, (PLAIN,), 0.3),
    Stage(0.80, 16, 64, (PLAIN, FLOOR, TWO), 0.5),
    Stage(1.00, 32, 16, (PLAIN, FLOOR, TWO), 0.5),
)
LOCKED_CURRICULUM = (
    Stage(0.85, 16, 64, (PLAIN, FLOOR, TWO), 0.5),
    Stage(1.00, 32, 16, (PLAIN, FLOOR, TWO), 0.5),
)


def make_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=STEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused with "trailing", but the pipelines warn of any other value
    )


_SHARED = {
    "in_channels": 4,
    "block_out_channels": WIDTHS,
    "layers_per_block": 1,
    "cross_attention_dim": text.WIDTH,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 16,
    "resnet_time_scale_shift": "scale_shift",
    # Words also reach every layer through the time embedding: materials are learned sooner.
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 8,
}


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        out_channels=4,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        **_SHARED,
    )


@torch.no_grad()
def grow_controlnet(unet: UNet2DConditionModel, hint: torch.Tensor) -> ControlNetModel:
    """A ControlNet from the UNet's weights. hint (n, 3, h, w) in 0..1 sets the scale of its first layers.

    At its default start the hint embedding shrinks what it sees a hundredfold before the zero convolutions:
    nothing is learned for long; each layer is scaled to unit deviation instead. And as in joint training the
    UNet is not yet worth protecting, the zero convolutions start small instead of at zero.
    """
    control = ControlNetModel(conditioning_channels=3, conditioning_embedding_out_channels=HINT_WIDTHS, **_SHARED)
    shared = {k: v for k, v in unet.state_dict().items() if k in control.state_dict()}
    control.load_state_dict(shared, strict=False)
    embedding = control.controlnet_cond_embedding
    x = hint
    for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        last = layer is embedding.conv_out
        if last:
            layer.weight.normal_(0, 0.05)
        y = layer(x)
        deviation = (y - y.mean((0, 2, 3), keepdim=True)).std() + 1e-6
        layer.weight *= (0.5 if last else 1.0) / deviation
        layer.bias -= layer(x).mean((0, 2, 3))
        x = nn.functional.silu(layer(x))
    for zero in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        zero.weight.normal_(0, 0.5 / zero.weight[0].numel() ** 0.5)
    return control


class Feed:
    """Makes training batches: noisy latents, what to predict, hints and token numbers."""

    def __init__(self, run: Run, pictures: Pictures, tokenizer: CLIPTokenizer) -> None:
        self.run, self.pictures, self.tokenizer = run, pictures, tokenizer
        self.signal = make_scheduler().alphas_cumprod.to(run.device)
        self.latents = torch.from_numpy(np.stack(pictures.get("latents", np.arange(len(pictures)))))
        self._choices: dict[tuple[str, ...], np.ndarray] = {}

    def choose(self, stage: Stage, rng: np.random.Generator) -> np.ndarray:
        if stage.kinds not in self._choices:
            self._choices[stage.kinds] = self.pictures.of_kind(stage.kinds)
        return rng.choice(self._choices[stage.kinds], stage.batch)

    def corner(self, i: int, crop: int, rng: np.random.Generator) -> tuple[int, int]:
        """Upper left of a crop with some of an object near its middle."""
        mask = self.pictures.object_masks[i]
        shown = np.flatnonzero(mask > 0.5)
        side = mask.shape[0]
        y, x = divmod(int(rng.choice(shown)) if len(shown) else side * side // 2, side)
        limit = side - crop
        return tuple(int(np.clip(at - rng.integers(crop // 4, 3 * crop // 4 + 1), 0, limit)) for at in (y, x))

    def hint(self, control: str, i: int, y: int, x: int, crop: int, rng: np.random.Generator) -> np.ndarray:
        """The crop's hint (8 crop, 8 crop, 3) uint8."""
        picture = self.pictures.get(control, np.array([i]))[0][8 * y : 8 * (y + crop), 8 * x : 8 * (x + crop)]
        if control == "normal":
            return picture
        if control == "edge" and rng.random() < 0.5:  # other programs' lines are softer or wider
            wide = np.maximum(picture, np.roll(picture, 1, rng.integers(2)))
            picture = wide if rng.random() < 0.5 else wide // 2 + picture // 2
        return np.repeat(picture[..., None], 3, axis=-1)

    def batch(
        self, stage: Stage, control: str, rng: np.random.Generator, indices: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """x0 (n, 4, crop, crop), weight (n, 1, crop, crop), hint (n, 3, 8 crop, 8 crop), ids (n, 32)."""
        indices = self.choose(stage, rng) if indices is None else indices
        crop, device = stage.crop, self.run.device
        corners = [(0, 0) if crop == 32 else self.corner(i, crop, rng) for i in indices]
        squares = [(slice(y, y + crop), slice(x, x + crop)) for y, x in corners]
        latents = torch.stack([self.latents[i][:, s[0], s[1]] for i, s in zip(indices, squares, strict=True)])
        masks = np.stack([self.pictures.object_masks[i][s] for i, s in zip(indices, squares, strict=True)])
        hints = np.stack([self.hint(control, i, y, x, crop, rng) for i, (y, x) in zip(indices, corners, strict=True)])
        captions = [words.caption(self.pictures.contents[i], rng, rng.random() < stage.rich).text for i in indices]
        # Objects are a smaller part of most pictures than of what one cares about.
        weight = 0.5 + 0.5 * torch.from_numpy(masks).float()[:, None]
        return {
            "x0": latents.float().to(device),
            "weight": (weight / weight.mean()).to(device),
            "hint": (torch.from_numpy(hints).to(device).permute(0, 3, 1, 2).float() / 255).contiguous(
                memory_format=torch.channels_last
            ),
            "ids": text.tokenize(self.tokenizer, captions).to(device),
        }

    def noisy(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The noised latents at time t, and v, which is to be predicted from them."""
        a = self.signal[t].view(-1, 1, 1, 1)
        return a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0


def draw_times(rng: np.random.Generator, n: int, device: torch.device) -> torch.Tensor:
    """Noise levels: half of them high, where what and which colour is decided."""
    times = np.where(rng.random(n) < 0.5, rng.integers(600, STEPS, n), rng.integers(0, STEPS, n))
    return torch.from_numpy(times).to(device)


class Painter(nn.Module):
    """UNet, text encoder and one ControlNet as one thing to train."""

    def __init__(self, unet: UNet2DConditionModel, encoder: CLIPTextModel, control: ControlNetModel) -> None:
        super().__init__()
        self.unet, self.encoder, self.control = unet, encoder, control

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, hint: torch.Tensor, strength: torch.Tensor
    ) -> torch.Tensor:
        """v (n, 4, h, w). strength (n, 1, 1, 1) scales the control, 0 for none."""
        with torch.no_grad():  # always locked, as CLIP is in SD
            states = self.encoder(ids).last_hidden_state
        down, middle = self.control(x, t, states, hint, return_dict=False)
        return self.unet(
            x,
            t,
            states,
            down_block_additional_residuals=[d * strength for d in down],
            mid_block_additional_residual=middle * strength,
        ).sample


def ready(painter: Painter, run: Run) -> Painter:
    """The painter on the run's device, as it trains fastest there."""
    if run.device.type == "cpu":  # with so few tokens plain products train faster than fused attention
        painter.unet.set_attn_processor(AttnProcessor())
        painter.control.set_attn_processor(AttnProcessor())
    return painter.to(run.device, memory_format=torch.channels_last)


def validate(trainer: Trainer, painter: Painter, feed: Feed, control: str, weights: torch.Tensor) -> None:
    """Log losses on held-out pictures at high noise: as is, without the control, and with another's caption.

    What another caption costs is what the words are worth; what is lost without the control is its worth.
    """
    rng = np.random.default_rng(0)
    n = min(32, len(feed.pictures))
    plain = feed.pictures.of_kind((PLAIN,))
    batch = feed.batch(Stage(1, 32, n, (), 0.0), control, rng, indices=plain[:n])
    n = len(batch["x0"])
    t = torch.linspace(700, STEPS - 1, n, device=feed.run.device).long()
    noise = torch.randn(batch["x0"].shape, generator=torch.Generator().manual_seed(0)).to(feed.run.device)
    x, v = feed.noisy(batch["x0"], noise, t)
    ones = torch.ones(n, 1, 1, 1, device=feed.run.device)
    losses = {}
    with trainer.averaged(), feed.run.autocast():
        for name, ids, strength in (
            ("held_out", batch["ids"], ones),
            ("no_control", batch["ids"], 0 * ones),
            ("other_words", batch["ids"].roll(1, 0), ones),
        ):
            error = (painter(x, t, ids, batch["hint"], strength).float() - v) ** 2
            losses[name] = round((error * weights * batch["weight"]).mean().item(), 4)
    trainer.log(losses)


def fit(
    run: Run,
    name: str,
    painter: Painter,
    control: str,
    samples: int,
    stages: tuple[Stage, ...],
    keep: float,
    rate: float,
) -> None:
    """Train what requires gradients in the painter. keep: the share of samples that see the control."""
    write_latents(run)
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    feed = Feed(run, Pictures.training(run.folder / "data"), tokenizer)
    held_out = Feed(run, Pictures.held_out(run.folder / "data"), tokenizer)
    nothing = text.tokenize(tokenizer, [""]).to(run.device)
    weights = torch.tensor(load_channel_weights(run.folder / "vae"), device=run.device).view(1, 4, 1, 1)
    ready(painter, run)
    trainer = run.trainer(name, painter, samples, rate, orthogonal=True)

    def stage() -> Stage:
        return next(s for s in stages if trainer.progress < s.until or s is stages[-1])

    for rng in trainer.steps(lambda _: stage().batch):
        n = stage().batch
        batch = feed.batch(stage(), control, rng)
        t = draw_times(rng, n, run.device)
        x, v = feed.noisy(batch["x0"], torch.randn_like(batch["x0"]), t)
        silent = torch.from_numpy(rng.random(n) < 0.1).to(run.device)  # for classifier-free guidance
        ids = torch.where(silent[:, None], nothing, batch["ids"])
        strength = torch.from_numpy(rng.random((n, 1, 1, 1)) < keep).to(run.device).float()
        with run.autocast():
            out = painter(x.contiguous(memory_format=torch.channels_last), t, ids, batch["hint"], strength)
        trainer.learn(((out.float() - v) ** 2 * weights * batch["weight"]).mean())
        if trainer.step % 200 == 0:
            validate(trainer, painter, held_out, control, weights)


def load_channel_weights(vae: Path) -> list[float]:
    """How much each latent channel counts in the loss; one each unless the VAE's folder says otherwise."""
    path = vae / "training.json"
    return json.loads(path.read_text())["channel_weights"] if path.exists() else [1.0] * 4


def _first_hints(run: Run, control: str) -> torch.Tensor:
    pictures = Pictures.training(run.folder / "data")
    hints = np.stack(pictures.get(control, np.arange(min(16, len(pictures)))))
    hints = hints if hints.ndim == 4 else np.repeat(hints[..., None], 3, axis=-1)
    return torch.from_numpy(hints).permute(0, 3, 1, 2).float() / 255


def train_joint(run: Run, samples: int) -> None:
    """The UNet and the ControlNet for normals together; leaves both in run.folder."""
    control = CONTROLS[0]
    encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder").requires_grad_(False)
    if run.init and (run.init / "unet").exists():
        unet = UNet2DConditionModel.from_pretrained(run.init / "unet", torch_dtype=torch.float32)
        net = ControlNetModel.from_pretrained(run.init / f"controlnet-{control}", torch_dtype=torch.float32)
    else:
        unet = make_unet()
        net = grow_controlnet(unet, _first_hints(run, control))
    painter = Painter(unet, encoder, net)
    fit(run, "joint", painter, control, samples, CURRICULUM, keep=0.85, rate=6e-4)
    unet.save_pretrained(run.folder / "unet")
    net.save_pretrained(run.folder / f"controlnet-{control}")


def train_locked(run: Run, control: str, samples: int) -> None:
    """One more ControlNet, grown from the first one's weights, with UNet and text encoder locked."""
    unet = UNet2DConditionModel.from_pretrained(run.folder / "unet").requires_grad_(False)
    encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder").requires_grad_(False)
    net = ControlNetModel.from_pretrained(run.folder / f"controlnet-{CONTROLS[0]}")
    fit(run, control, Painter(unet, encoder, net), control, samples, LOCKED_CURRICULUM, keep=1.0, rate=4e-4)
    net.save_pretrained(run.folder / f"controlnet-{control}")
