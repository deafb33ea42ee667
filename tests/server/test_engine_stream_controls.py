"""ControlNets that the stream wants and does not get: the picture goes on without them."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest
import torch

from paintover.server import models
from paintover.server.pipelines import loading

from .test_engine_stream import Painted, apart, close


def test_a_control_that_a_model_lacks_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normal = {"normal": models.MINI_TURBO.controls["normal"]}
    entry = dataclasses.replace(models.MINI_TURBO, name="bare", controls=normal)
    monkeypatch.setattr(models, "BUILT_IN", (*models.BUILT_IN, entry))
    paint = Painted()
    for _ in range(3):
        frame = paint(model="bare")
    said = [said.failure.code for said in paint.said if said.failure]
    assert said == ["unsupported_control"] * 2, "depth and edge"
    assert close(frame, paint(control_depth=False, control_edge=False))


def test_a_control_that_does_not_load_is_tried_again_once_it_is_switched_on_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(models.MINI_TURBO, name="bare", controls={"normal": str(tmp_path / "normal")})
    monkeypatch.setattr(models, "BUILT_IN", (*models.BUILT_IN, entry))
    paint, values = Painted(), {"model": "bare", "control_depth": False, "control_edge": False}
    plain = paint(**values)
    (said,) = [said for said in paint.said if said.failure]
    assert (said.refused, said.control) == ("bare", "normal")
    shutil.copytree(models.MINI_TURBO.controls["normal"], tmp_path / "normal")
    assert close(plain, paint(**values)), "not again and again"
    paint(control_normal=False, **values)
    for _ in range(200):
        if apart(paint(**values), plain) > 1:
            return
    raise AssertionError("it never came")


def test_a_job_loads_its_controlnets_while_the_stream_loads_a_model() -> None:
    """While one thread loads, transformers has every module that any thread makes begin without memory."""
    device, failed = torch.device("cpu"), []
    model = loading.shared_model(models.MINI, device, torch.float32, lambda share: None)
    number, over = 0, threading.Event()

    def stream() -> None:
        nonlocal number
        try:
            while not over.is_set():
                number += 1
                entry = dataclasses.replace(models.MINI, name=f"mini {number}")
                loaded = loading.shared_model(entry, device, torch.float32, lambda share: None)
                assert not any(weight.is_meta for weight in loaded.text_encoders[0].parameters())
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)

    beside = threading.Thread(target=stream)
    beside.start()
    try:
        while number < 8 and not failed:
            model.controlnets.clear()
            net = loading.load_control(model, "normal")
            assert not any(weight.is_meta for weight in net.parameters())
    finally:
        over.set()
        beside.join(60)
    assert not failed
