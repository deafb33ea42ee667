"""Model files that are broken, mislabelled or mean harm: each is named and refused, and everything else works on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from safetensors.torch import load_file, save_file

from paintover.bridge.errors import BadModelFile, PaintoverError
from paintover.bridge.messages import DONE, Generate, ImageResult, JobState
from paintover.bridge.parameters import Settings
from paintover.server import model_files, models

from ..server_process import ServerProcess, running
from .model_folders import checkpoint, refused, write_control, write_folder, write_tensors
from .tiny_models import write_model

DEEP = "[" * 100_000
UNET = "unet/diffusion_pytorch_model.safetensors"

pytestmark = pytest.mark.usefixtures("data")


def header_only(header: Any, length: int | None = None, tail: int = 64) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(tail)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "F16", "shape": [4, 8], "data_offsets": [0, 64], **changes}}


# ---------------------------------------------------------------- single files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header_only(tensor(), length=1 << 60), "not a safetensors"),
        (header_only(tensor(), length=(1 << 64) - 1), "not a safetensors"),
        (header_only(tensor(), length=90 << 20), "cut short"),
        (header_only(tensor(data_offsets=[0, 1 << 60], shape=[1 << 59])), "cut short"),
        (header_only(tensor(data_offsets=[0, 1 << 60])), "not a safetensors"),
        (header_only(tensor(data_offsets=[64, 0])), "not a safetensors"),
        (header_only(tensor(data_offsets=["0", "64"])), "not a safetensors"),
        (header_only(tensor(data_offsets=[0.0, 64.0])), "not a safetensors"),
        (header_only(tensor(data_offsets=[-64, 0])), "not a safetensors"),
        (header_only(tensor(data_offsets=64)), "not a safetensors"),
        (header_only(tensor(shape="abc")), "not a safetensors"),
        (header_only(tensor(shape=[-4, -8])), "not a safetensors"),
        (header_only(tensor(shape=[True, 32])), "not a safetensors"),
        (header_only(tensor(shape=[1 << 40, 1 << 40])), "not a safetensors"),
        (header_only(tensor(dtype=["F16"])), "not a safetensors"),
        (header_only({"x": None}), "not a safetensors"),
        (header_only([1, 2]), "not a safetensors"),
        (header_only(DEEP.encode()), "nested too deeply"),
        (header_only(b'{"x":' + b'{"x":' * 50_000), "nested too deeply"),
        (header_only(b"{}"), "neither"),
        (header_only(b'{"\xff": 1}'), "not a safetensors"),
        (bytes(1000), "not a safetensors"),
        (b"", "empty"),
    ],
)
def test_files_that_lie(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert words in refused(file)


def test_tensors_of_odd_shapes_in_telling_places(tmp_path: Path) -> None:
    shapes = checkpoint(768)
    key = next(name for name in shapes if name.endswith("attn2.to_k.weight"))
    for shape in ((), (768,), (4, 768, 1), (4, 0)):
        assert "another family" in refused(write_tensors(tmp_path / "model.safetensors", {**shapes, key: shape}))


def test_other_names_than_safetensors_are_not_read(tmp_path: Path) -> None:
    """The libraries go by the ending, and would unpickle these."""
    file = write_tensors(tmp_path / "model.safetensors", checkpoint(768))
    for name in ("model", "model.SAFETENSORS", "model.safetensors.bin2", "model.pkl"):
        assert ".safetensors" in refused(file.rename(tmp_path / name))
        file = (tmp_path / name).rename(tmp_path / "model.safetensors")
    models.add(file)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    assert "no model_index.json" in refused(tmp_path / "folder.safetensors")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")  # opening it would wait for ever
        assert "not a file" in refused(tmp_path / "pipe.safetensors")
        (tmp_path / "zeros.safetensors").symlink_to("/dev/zero")
        assert refused(tmp_path / "zeros.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    assert refused(tmp_path / "loop.safetensors")
    assert refused(tmp_path / ("x" * 5000 + ".safetensors"))
    assert refused(Path("model\0.safetensors"))
    assert refused(tmp_path / "gone.safetensors")


def test_files_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tensors(tmp_path / "model.safetensors", checkpoint(768))
    folder = write_folder(tmp_path / "castle")

    def forbidden(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:  # tests may run as root, who may read everything
        patch.setattr(Path, "open", forbidden)
        assert "Permission denied" in refused(file)
        patch.setattr(Path, "read_text", forbidden)
        assert "model_index.json" in (words := refused(folder))
        assert "Permission denied" in words
    models.add(file)


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("model_index.json", DEEP, "nested too deeply"),
        ("model_index.json", "[]", "not a JSON object"),
        ("model_index.json", "", "not valid JSON"),
        ("model_index.json", '{"_class_name": ["StableDiffusionPipeline"]}', "neither"),
        ("model_index.json", '{"_class_name": "StableDiffusion3Pipeline"}', "neither"),
        ("unet/config.json", DEEP, "nested too deeply"),
        ("unet/config.json", "\ufeff{", "not valid JSON"),
        ("unet/config.json", '{"block_out_channels": [1000000000]}', "do not fit"),
        ("unet/config.json", '{"block_out_channels": [[2, [1e300]]]}', "do not fit"),
        ("unet/config.json", '{"cross_attention_dim": -1}', "do not fit"),
        ("unet/config.json", '{"layers_per_block": 1000000}', "do not fit"),
        ("text_encoder/config.json", '{"num_hidden_layers": 100000000}', "do not fit"),
        ("text_encoder/config.json", '{"vocab_size": 1000000000000}', "do not fit"),
        ("scheduler/scheduler_config.json", "{", "not valid JSON"),
        (UNET, "", "empty"),
        (UNET, "\x80\x04.", "not a safetensors"),
    ],
)
def test_folders_with_one_bad_file(tmp_path: Path, place: str, text: str, words: str) -> None:
    folder = write_folder(tmp_path / "castle")
    (folder / place).write_text(text)
    assert words in refused(folder)


@pytest.mark.parametrize("place", ["unet/config.json", UNET, "tokenizer/vocab.json", "scheduler/scheduler_config.json"])
def test_folders_and_links_in_the_place_of_files(tmp_path: Path, place: str) -> None:
    folder = write_folder(tmp_path / "castle")
    (folder / place).unlink()
    (folder / place).mkdir()
    assert refused(folder)
    (folder / place).rmdir()
    (folder / place).symlink_to(Path(place).name)
    assert refused(folder)
    (folder / place).unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / place)
        assert refused(folder)


@pytest.mark.parametrize(
    "index",
    [[], {}, {"a": 5}, {"a": ["x"]}, "x", {"a": "../vae/diffusion_pytorch_model.safetensors"}, {"a": "weights.bin"},
     {"a": "/etc/passwd"}, {"a": ""}, {"a": ".."}],
)  # fmt: skip
def test_indexes_that_name_other_things_than_shards(tmp_path: Path, index: Any) -> None:
    folder = write_folder(tmp_path / "castle")
    (folder / UNET).rename(folder / "unet" / "weights.bin")
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "does not name .safetensors" in refused(folder)


def test_a_configuration_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "castle")
    with (folder / "unet" / "config.json").open("wb") as file:
        file.truncate(8 << 30)
    assert "too large" in refused(folder)


def test_a_control_and_a_model_under_each_others_names(tmp_path: Path) -> None:
    control, folder = write_control(tmp_path / "net"), write_folder(tmp_path / "castle")
    models.add(folder)
    for path, kind in ((str(control), model_files.check_model), (str(folder), model_files.check_control)):
        arguments = ("sd15",) if kind is model_files.check_model else ()
        with pytest.raises(BadModelFile, match=r"instead of|not a ControlNet"):
            kind(Path(path), *arguments)  # type: ignore[operator]
    with pytest.raises(BadModelFile, match="sd15 model instead of a sdxl"):
        model_files.check_model(folder, "sdxl")


@pytest.mark.parametrize(
    "text",
    [DEEP, "[]", "{}", '{"models": [], "controls": {}}', '{"models": {"x": 5}, "controls": {}}',
     '{"models": {"x": {"family": "sd15"}}, "controls": {}}',
     '{"models": {"x": {"family": "sd15", "path": 5}}, "controls": {}}',
     '{"models": {"x": {"family": "sd15", "path": "/", "controls": [1]}}, "controls": {}}',
     '{"models": {"x": {"family": "sd15", "path": "/", "defaults": {"steps": "many"}}}, "controls": {}}',
     '{"models": {"x": {"family": "flux", "path": "/"}}, "controls": {}}',
     '{"models": {}, "controls": {"sd15": {"depth": 5}}}', '{"models": {}, "controls": {"sd15": 5}}'],
)  # fmt: skip
def test_a_damaged_list_is_named(text: str) -> None:
    models.registry_file().parent.mkdir()
    models.registry_file().write_text(text)
    with pytest.raises(BadModelFile, match=r"models\.json"):
        models.installed()


# ---------------------------------------------------------------- in a server that goes on working


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.mark}",))


def edit_config(folder: Path, part: str, **changes: Any) -> None:
    own = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    path = folder / part / own.get(part, "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, part: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / part / ("model.safetensors" if "text" in part else "diffusion_pytorch_model.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def one_nan(weights: dict[str, torch.Tensor]) -> None:
    list(weights.values())[3].view(-1)[0] = float("nan")


def bad_pickles(folder: Path, mark: Path) -> None:
    """A pickle by every name that some loader might look for."""
    bomb = pickle.dumps(Bomb(mark))
    for part in ("unet", "vae", "text_encoder"):
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.ckpt", "model.pt"):
            (folder / part / name).write_bytes(bomb)
    (folder / UNET).write_bytes(bomb)


def vocabulary(folder: Path) -> None:
    path = folder / "tokenizer" / "vocab.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps({word: number * 100 for word, number in words.items()}))


BAD: dict[str, Callable[[Path], Any]] = {
    "no numbers": lambda folder: edit_weights(folder, "unet", one_nan),
    "no numbers in the text encoder": lambda folder: edit_weights(folder, "text_encoder", one_nan),
    "half of its weights": lambda folder: edit_weights(folder, "unet", lambda w: [w.popitem() for _ in range(9)]),
    "half of its vae": lambda folder: edit_weights(folder, "vae", lambda w: [w.popitem() for _ in range(9)]),
    "half of its text encoder": lambda folder: edit_weights(folder, "text_encoder", lambda w: w.popitem()),
    "other sizes": lambda folder: edit_config(folder, "unet", block_out_channels=[32, 16]),
    "texts for sizes": lambda folder: edit_config(folder, "unet", block_out_channels="wide"),
    "zeros": lambda folder: edit_config(folder, "unet", norm_num_groups=0, attention_head_dim=0),
    "nothing for sizes": lambda folder: edit_config(folder, "vae", block_out_channels=None, layers_per_block=[]),
    "unheard-of blocks": lambda folder: edit_config(folder, "unet", down_block_types=["Exec", "os.system"]),
    "a text encoder of text": lambda folder: edit_config(folder, "text_encoder", hidden_size="8", hidden_act="exec"),
    "no heads": lambda folder: edit_config(folder, "text_encoder", num_attention_heads=0),
    "a quantised one": lambda folder: edit_config(folder, "unet", quantization_config={"quant_method": "exec"}),
    "a strange scheduler": lambda folder: edit_config(folder, "scheduler", _class_name="os.system"),
    "a scheduler of text": lambda folder: edit_config(folder, "scheduler", beta_start="x", num_train_timesteps="y"),
    "a scheduler of nothing": lambda folder: edit_config(folder, "scheduler", prediction_type="wealth"),
    "words without end": vocabulary,
    "a vocabulary of nonsense": lambda folder: (folder / "tokenizer" / "vocab.json").write_text('["a", 5]'),
    "merges of nonsense": lambda folder: (folder / "tokenizer" / "merges.txt").write_bytes(b"\xff\xfe\n x y z \n" * 9),
    "long texts": lambda folder: edit_config(folder, "tokenizer", model_max_length=1e30),
    "another's text encoder": lambda folder: edit_config(folder, "unet", encoder_hid_dim=7),
    "a unet that is a vae": lambda folder: shutil.copy(folder / UNET.replace("unet", "vae"), folder / UNET),
    "a missing part": lambda folder: shutil.rmtree(folder / "vae"),
    "an empty file": lambda folder: (folder / UNET).write_bytes(b""),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """A real server with a good tiny model, and bad ones that were added while they were good."""
    root = tmp_path_factory.mktemp("models")
    mark = root / "unpickled"
    good = write_model(root / "good", "sd15")
    entries = {"good": {"family": "sd15", "path": str(good)}}
    for number, (name, spoil) in enumerate({**BAD, "pickles": lambda folder: bad_pickles(folder, mark)}.items()):
        folder = shutil.copytree(good, root / f"bad{number}")
        spoil(folder)
        entries[name] = {"family": "sd15", "path": str(folder)}
    wide = write_model(root / "wide", "sd15", text_width=64)
    nan = shutil.copytree(good / "controlnet-edge", root / "nan-control")
    edit_weights(root, "nan-control", one_nan)
    controls = {"depth": str(wide / "controlnet-depth"), "normal": str(good / "unet"), "edge": str(nan)}
    data = root / "data"
    data.mkdir()
    (data / "models.json").write_text(json.dumps({"models": entries, "controls": {"sd15": controls}}))
    with running(data, "diffusers") as process:
        yield process, mark


def paint(server: ServerProcess, model: str, **settings: Any) -> np.ndarray:
    values = {"control_depth": False, "steps": 1, "seed": 1, "model": model, **settings}
    with server.client() as client:
        from .tiny_models import make_passes

        request = Generate(Settings.from_mapping(values), 64, 64, make_passes(64, 64))
        messages = list(client.follow(client.submit(request), timeout=200))
    assert isinstance(messages[-1], JobState)
    assert messages[-1].state == DONE
    (image,) = (message.image for message in messages if isinstance(message, ImageResult))
    assert image.shape == (64, 64, 3)
    return image


@pytest.mark.parametrize("name", [*BAD, "pickles"])
def test_a_bad_model_costs_only_its_own_job(server: tuple[ServerProcess, Path], name: str) -> None:
    process, mark = server
    before = paint(process, "good", prompt="moss")
    worker = process.worker().pid
    with pytest.raises(PaintoverError) as caught:
        paint(process, name)
    assert caught.value.code == "bad_model_file", caught.value.message
    assert caught.value.hint
    assert np.array_equal(paint(process, "good", prompt="moss"), before), "the next model paints as ever"
    assert process.worker().pid == worker, "the painting process lived on"
    assert not mark.exists(), "something was unpickled"


@pytest.mark.parametrize(
    ("control", "words"), [("depth", "another family"), ("normal", "UNet2DConditionModel"), ("edge", "NaN")]
)
def test_a_bad_control_costs_only_the_jobs_that_want_it(
    server: tuple[ServerProcess, Path], control: str, words: str
) -> None:
    process, _ = server
    with pytest.raises(BadModelFile, match=words):
        paint(process, "good", **{f"control_{control}": True})
    paint(process, "good")
    paint(process, "mini")
