"""tools.train_mini trains every part for a moment, survives a kill, and leaves a folder diffusers runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
pytest.importorskip("numba")
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from tests.capturable import Capturable  # noqa: E402
from tools.train_mini import diffusion, graphs, hints, muon, words  # noqa: E402
from tools.train_mini.run import OutOfTime, Run  # noqa: E402

from ..waiting import wait_until  # noqa: E402


def start(folder: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "tools.train_mini",
        "--out",
        str(folder),
        "--device",
        "cpu",
        "--images",
        "4",
        "--samples",
        "64",
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder trained in two goes: the first was killed once the text encoder had been learned."""
    folder = tmp_path_factory.mktemp("mini")
    first = start(folder)
    learned = folder / "text_encoder" / "model.safetensors"
    wait_until(lambda: learned.exists() or first.poll() is not None)
    assert learned.exists(), first.stdout.read()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(folder)
    try:
        output, _ = second.communicate(timeout=280)
    finally:
        second.kill()
    assert second.returncode == 0, output
    assert "text: done before" in output
    return folder


def test_model_folder_runs_in_the_stock_pipelines(trained: Path) -> None:
    model = trained / "mini"
    nets = {c: diffusers.ControlNetModel.from_pretrained(model / f"controlnet-{c}") for c in hints.CONTROLS}
    pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
        model, controlnet=list(nets.values()), torch_dtype=torch.float32
    )
    hint = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    made = pipeline("a gold sphere", image=[hint] * len(nets), num_inference_steps=2, output_type="np").images
    assert made.shape[1:] == (64, 64, 3)
    assert np.isfinite(made).all()
    plain = diffusers.StableDiffusionPipeline(
        **{k: v for k, v in pipeline.components.items() if k != "controlnet"}, requires_safety_checker=False
    )
    assert plain("a brick wall", num_inference_steps=2, height=64, width=64, output_type="np").images.shape[1] == 64
    assert sum(p.stat().st_size for p in model.rglob("*") if p.is_file()) <= 40_000_000


def test_turbo_runs_in_the_stock_pipeline(trained: Path) -> None:
    turbo = trained / "mini_turbo"
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(trained / "mini", torch_dtype=torch.float32)
    size = {"num_inference_steps": 2, "height": 64, "width": 64}
    before = pipeline("a gold sphere", **size, output_type="latent", generator=seed())
    pipeline.unet.load_lora_adapter(turbo, weight_name="pytorch_lora_weights.safetensors", prefix=None)
    pipeline.vae = diffusers.AutoencoderTiny.from_pretrained(turbo / "decoder", torch_dtype=torch.float32)
    pipeline.scheduler = diffusers.LCMScheduler.from_config(pipeline.scheduler.config)
    made = pipeline("a gold sphere", **size, guidance_scale=1.0, output_type="np")
    assert made.images.shape[1:] == (64, 64, 3)
    assert np.isfinite(made.images).all()
    after = pipeline("a gold sphere", **size, output_type="latent", generator=seed())
    assert not torch.equal(before.images, after.images)
    assert sum(p.stat().st_size for p in turbo.rglob("*") if p.is_file()) <= 6_000_000


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def train_line(folder: Path, deadline: float = float("inf"), orthogonal: bool = False) -> torch.Tensor:
    """The weight of a layer that was trained for ten steps to draw a line, or until the deadline."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    trainer = Run(folder, torch.device("cpu"), deadline=deadline).trainer("line", model, 80, 0.1, orthogonal)
    for rng in trainer.steps(batch=8):
        x = torch.from_numpy(rng.random((8, 1))).float()
        trainer.learn(((model(x) - 3 * x) ** 2).mean())
    return model.weight.detach()


@pytest.mark.parametrize("orthogonal", [False, True])
def test_resumed_training_ends_where_unbroken_training_does(tmp_path: Path, orthogonal: bool) -> None:
    unbroken = train_line(tmp_path / "unbroken", orthogonal=orthogonal)
    for _ in range(4):  # each go does one step, then finds that its time is over
        with pytest.raises(OutOfTime):
            train_line(tmp_path / "broken", time.monotonic(), orthogonal)
    torch.testing.assert_close(train_line(tmp_path / "broken", orthogonal=orthogonal), unbroken)


def test_gradients_that_are_no_numbers_change_nothing_and_then_stop_it(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    before = model.weight.detach().clone()
    trainer = Run(tmp_path, torch.device("cpu")).trainer("line", model, 800, 0.1)

    def train() -> None:
        for _ in trainer.steps(batch=8):
            trainer.learn(model(torch.ones(8, 1)).mean() * torch.nan)

    with pytest.raises(FloatingPointError, match="line"):
        train()
    assert torch.equal(model.weight.detach(), before)
    assert trainer.step < 20


@pytest.mark.parametrize("control", hints.CONTROLS)
def test_a_step_of_training_can_be_captured_as_a_graph(control: str) -> None:
    unet = diffusion.make_unet()
    hint = torch.rand(2, 3, 128, 128, generator=seed())
    painter = diffusion.Painter(unet, None, {control: diffusion.grow_controlnet(unet, hint)})
    diffusion.ready(painter, Run(Path(), torch.device("cpu")))

    def loss(kind: str, b: dict[str, torch.Tensor]) -> torch.Tensor:
        out = painter(b["x"], b["t"], b["states"], kind, b["hint"], torch.ones(2, 1, 1, 1))
        return (out - b["x"]).square().mean()

    batch = {"x": torch.randn(2, 4, 16, 16), "t": torch.tensor([3, 900]), "states": torch.randn(2, 32, 128)}
    parameters = list(painter.parameters())
    with Capturable():
        value = graphs.Gradients(parameters, loss, torch.device("cpu"))(control, {**batch, "hint": hint})
    assert torch.isfinite(value)
    assert sum(parameter.grad is not None for parameter in parameters) > 100


def test_muon_makes_every_direction_equally_strong() -> None:
    matrix = torch.randn(24, 60, generator=seed()) * torch.logspace(0, -2, 24)[:, None]
    strengths = torch.linalg.svdvals(muon.orthogonalize(matrix))
    assert torch.linalg.svdvals(matrix).max() > 20 * torch.linalg.svdvals(matrix).min()
    assert (strengths > 0.6).all()
    assert (strengths < 1.3).all()


def test_losses_and_seeds_are_recorded(trained: Path) -> None:
    parts = json.loads((trained / "mini" / "training.json").read_text())["parts"]
    assert set(parts) >= {"classifier", "text", "vae", "joint", "decoder", "turbo"}
    for name, part in parts.items():
        assert part["finished"], name
        assert part["samples"] > 0, name
        assert part["seed"] == 0, name
        losses = [line["loss"] for line in part["losses"] if "loss" in line]
        assert losses, name
        assert np.isfinite(losses).all(), name


def test_known_words_are_one_token_each(trained: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(trained / "tokenizer")
    lettered = [w for w in words.known_words() if w.isalpha()]
    assert [w for w in lettered if len(tokenizer(w).input_ids) != 3] == []


def test_depth_hint_is_affine_in_disparity() -> None:
    depth = np.full((40, 50), np.inf, np.float32)
    depth[5:35, 5:45] = np.linspace(2, 8, 40)
    hint = hints.depth_hint(depth)[..., 0]
    assert (hint[0, 0], hint[20, 5], hint[20, 44]) == (0, 255, 51)
    inner = slice(8, 42)
    fit = np.polyfit(1 / depth[20, inner], hint[20, inner], 1)
    assert np.abs(np.polyval(fit, 1 / depth[20, inner]) - hint[20, inner]).max() < 1


def test_normal_hint_encodes_axes() -> None:
    normals = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]], np.float32)
    assert hints.normal_hint(normals)[0].tolist() == [
        [255, 128, 128],
        [128, 255, 128],
        [128, 128, 255],
        [128, 128, 128],
    ]
