"""The UNet and its ControlNets, trained together.

Noise as in "Common diffusion noise schedules and sample steps are flawed" (Lin et al. 2023): v-prediction and
zero terminal SNR. ControlNets as in "Adding conditional control to text-to-image diffusion models" (Zhang et
al. 2023), but they are trained with the UNet: on so few samples it learns geometry many times sooner from a
control than by itself. Every step is for one of them.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import text
from .data import KINDS
from .feed import Batch, Feed, Stage
from .graphs import Gradients
from .hints import CONTROLS
from .run import Run, Trainer
from .scenes import PLAIN

WIDTHS = (48, 96, 160)
HINT_WIDTHS = (8, 16, 32, 64)
STEPS = 1000
CONTROL_SHARES = (0.5, 0.25, 0.25)
KEEP = 0.85
"""Share of samples that see the control."""

WHOLE = Stage(1.00, 32, 16, KINDS, 0.5)
# Words are learned first on small squares of one material: four times cheaper, and nothing to mix up.
CURRICULUM = (Stage(0.10, 16, 64, (PLAIN,), 0.3), Stage(0.80, 16, 64, KINDS, 0.5), WHOLE)


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


@cache
def signal(device: torch.device) -> torch.Tensor:
    """The share of signal in the noised latents' power (alphas_cumprod) at each time."""
    return make_scheduler().alphas_cumprod.to(device)


def noisy(x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The noised latents at time t, and v, which is to be predicted from them."""
    a = signal(t.device)[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0


def draw_times(n: int, device: torch.device) -> torch.Tensor:
    """Noise levels: half of them high, where what and which colour is decided."""
    high = torch.rand(n, device=device) < 0.5
    return torch.where(
        high, torch.randint(600, STEPS, (n,), device=device), torch.randint(0, STEPS, (n,), device=device)
    )


class Painter(nn.Module):
    """UNet, text encoder and ControlNets as one thing to train."""

    def __init__(
        self, unet: UNet2DConditionModel, encoder: CLIPTextModel, controls: dict[str, ControlNetModel]
    ) -> None:
        super().__init__()
        self.unet, self.encoder, self.controls = unet, encoder, nn.ModuleDict(controls)

    @torch.no_grad()  # always locked, as CLIP is in SD
    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """What prompts say, (n, 32, width), from their token numbers (n, 32)."""
        return self.encoder(ids).last_hidden_state

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        states: torch.Tensor,
        control: str,
        hint: torch.Tensor,
        strength: torch.Tensor,
    ) -> torch.Tensor:
        """v (n, 4, h, w). strength (n, 1, 1, 1) scales the control, 0 for none."""
        down, middle = self.controls[control](x, t, states, hint, return_dict=False)
        return self.unet(
            x,
            t,
            states,
            down_block_additional_residuals=[d * strength for d in down],
            mid_block_additional_residual=middle * strength,
        ).sample


def ready(painter: Painter, run: Run) -> Painter:
    """The painter on the run's device, as it trains fastest there."""
    for part in (painter.unet, *painter.controls.values()):
        part.set_attn_processor(AttnProcessor())  # with so few tokens plain products are faster than fused attention
    return painter.to(run.device, memory_format=torch.channels_last)


def validate(trainer: Trainer, painter: Painter, feed: Feed, weights: torch.Tensor) -> None:
    """Log losses on held-out pictures at high noise: of each control, without any, and with another's caption.

    What another caption costs is what the words are worth; what is lost without the control is its worth.
    """
    losses = {}
    for control in CONTROLS:
        batch = feed.first(32, (PLAIN,), control)
        n, device = len(batch["x0"]), feed.run.device
        t = torch.linspace(700, STEPS - 1, n, device=device).long()
        noise = torch.randn(batch["x0"].shape, generator=torch.Generator().manual_seed(0)).to(device)
        x, v = noisy(batch["x0"], noise, t)
        ones = torch.ones(n, 1, 1, 1, device=device)
        cases = {control: (batch["ids"], ones)}
        if control == CONTROLS[0]:
            cases |= {"no_control": (batch["ids"], 0 * ones), "other_words": (batch["ids"].roll(1, 0), ones)}
        with trainer.averaged(), feed.run.autocast():
            for name, (ids, strength) in cases.items():
                error = (painter(x, t, painter.read(ids), control, batch["hint"], strength).float() - v) ** 2
                losses[name] = round((error * weights * batch["weight"]).mean().item(), 4)
    trainer.log(losses)


def fit(run: Run, name: str, painter: Painter, samples: int, stages: tuple[Stage, ...], rate: float) -> None:
    """Train what requires gradients in the painter."""
    tokenizer = CLIPTokenizer.from_pretrained(run.folder / "tokenizer")
    feed, held_out = Feed(run, "shard_*"), Feed(run, "held_out")
    nothing = text.tokenize(tokenizer, [""]).to(run.device)
    weights = torch.tensor(load_channel_weights(run.folder / "vae"), device=run.device).view(1, 4, 1, 1)
    ready(painter, run)
    trainer = run.trainer(name, painter, samples, rate, orthogonal=True)

    def stage() -> Stage:
        return next(s for s in stages if trainer.progress < s.until or s is stages[-1])

    def loss(control: str, b: Batch) -> torch.Tensor:
        with run.autocast():
            out = painter(b["x"], b["t"], b["states"], control, b["hint"], b["strength"])
        return ((out.float() - b["v"]) ** 2 * weights * b["weight"]).mean()

    gradients = Gradients(trainer.parameters, loss, run.device)
    for rng in trainer.steps(lambda _: stage().batch * run.batch_scale):
        control = str(rng.choice(CONTROLS, p=CONTROL_SHARES))
        batch = feed.batch(stage(), control, rng)
        n = len(batch["x0"])
        batch["t"] = draw_times(n, run.device)
        x0 = batch.pop("x0")
        x, batch["v"] = noisy(x0, torch.randn_like(x0), batch["t"])
        batch["x"] = x.contiguous(memory_format=torch.channels_last)
        silent = torch.rand(n, 1, device=run.device) < 0.1  # for classifier-free guidance
        with run.autocast():
            batch["states"] = painter.read(torch.where(silent, nothing, batch.pop("ids")))
        batch["strength"] = (torch.rand(n, 1, 1, 1, device=run.device) < KEEP).float()
        trainer.apply(gradients(control, batch))
        if trainer.step % 50 == 0:
            feed.refresh()
        if trainer.step % 200 == 0:
            validate(trainer, painter, held_out, weights)


def load_channel_weights(vae: Path) -> list[float]:
    """How much each latent channel counts in the loss; one each unless the VAE's folder says otherwise."""
    path = vae / "training.json"
    return json.loads(path.read_text())["channel_weights"] if path.exists() else [1.0] * 4


def load_painter(folder: Path, controls: Iterable[str], text_encoder: Path) -> Painter:
    """The painter of a model folder, in float32; the text encoder is locked."""

    def read(cls: type, name: str) -> nn.Module:
        return cls.from_pretrained(folder / name, torch_dtype=torch.float32)

    nets = {control: read(ControlNetModel, f"controlnet-{control}") for control in controls}
    encoder = CLIPTextModel.from_pretrained(text_encoder, torch_dtype=torch.float32).requires_grad_(False)
    return Painter(read(UNet2DConditionModel, "unet"), encoder, nets)


def _first_hints(run: Run, control: str) -> torch.Tensor:
    return Feed(run, "held_out").first(16, (), control)["hint"].cpu()


def train_joint(run: Run, samples: int) -> None:
    """The UNet and its ControlNets together; leaves them in run.folder."""
    begun = run.init is not None and (run.init / "unet").exists()
    if begun:
        painter = load_painter(run.init, CONTROLS, run.folder / "text_encoder")
    else:
        unet = make_unet()
        nets = {control: grow_controlnet(unet, _first_hints(run, control)) for control in CONTROLS}
        encoder = CLIPTextModel.from_pretrained(run.folder / "text_encoder").requires_grad_(False)
        painter = Painter(unet, encoder, nets)
    fit(run, "joint", painter, samples, (WHOLE,) if begun else CURRICULUM, rate=6e-4)
    painter.unet.save_pretrained(run.folder / "unet")
    for control, net in painter.controls.items():
        net.save_pretrained(run.folder / f"controlnet-{control}")
