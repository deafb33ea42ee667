"""What every part's training has in common: budget, learning rate, averaged weights, checkpoints, losses."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .muon import Muon

CHECKPOINT_SECONDS = 120
LOG_STEPS = 50
WARM_UP_STEPS = 50
MOST_SKIPPED = 10
DECAY_SHARE = 0.2  # the learning rate falls to zero over this last share of the samples


class OutOfTime(Exception):
    """The time given on the command line is over; everything is saved."""


@dataclass
class Run:
    """One folder of training: where things lie, on which device, until when."""

    folder: Path
    device: torch.device
    seed: int = 0
    deadline: float = float("inf")  # of time.monotonic()
    init: Path | None = None

    @property
    def batch_scale(self) -> int:
        """How many times the stages' batches fill the device."""
        return 16 if self.device.type == "cuda" else 1

    def trainer(self, name: str, model: nn.Module, samples: int, rate: float, orthogonal: bool = False) -> "Trainer":
        return Trainer(self, name, model, samples, rate, orthogonal=orthogonal)

    def finished(self, name: str, samples: int) -> bool:
        """Whether a part has been trained to its end, and on no fewer samples than now asked for."""
        path = self.folder / "checkpoints" / f"{name}.json"
        summary = json.loads(path.read_text()) if path.exists() else {"finished": False}
        return summary["finished"] and summary["samples"] >= samples

    def autocast(self) -> torch.autocast:
        # CPUs without instructions for bfloat16 are far slower with it.
        fast = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        # Graphs must hold the casts of weights, which a cache would leave out.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast, cache_enabled=self.device.type != "cuda")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name, then rename it: readers never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)


@dataclass
class Trainer:
    """Trains one part: `for rng in trainer.steps(batch): …; trainer.learn(loss)`.

    Steps draw from a generator seeded by (seed, step), so a resumed run sees what it would have seen. After
    the last step the model holds its averaged weights.
    """

    run: Run
    name: str
    model: nn.Module
    samples: int
    rate: float
    average_decay: float = 0.998
    orthogonal: bool = False  # matrices learn with Muon
    seen: int = 0
    step: int = 0
    seconds: float = 0.0
    _skipped: int = 0
    """Steps in a row whose gradients were no numbers."""
    _sums: dict[str, list[float | torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.names, self.parameters = list(named), list(named.values())
        matrices = [p for n, p in named.items() if self.orthogonal and p.ndim > 1 and "embedding" not in n]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, self.rate, betas=(0.9, 0.99), fused=True)
        ]
        if matrices:
            self.optimizers.append(Muon(matrices, self.rate))
        self.average = [p.detach().clone() for p in self.parameters]
        self._checkpoint = self.run.folder / "checkpoints" / f"{self.name}.pt"
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint, map_location=self.run.device, weights_only=True)
            locked = {n for n, p in self.model.named_parameters() if not p.requires_grad}
            self.model.load_state_dict({k: v for k, v in state["model"].items() if k not in locked}, strict=False)
            if list(state["average"]) == self.names:  # else something has been locked or unlocked since
                for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                    optimizer.load_state_dict(kept)
            self.average = [state["average"].get(n, p.detach().clone()) for n, p in named.items()]
            self.seen, self.step, self.seconds = state["seen"], state["step"], state["seconds"]

    @property
    def progress(self) -> float:
        """Share of the samples seen, 0..1."""
        return min(self.seen / self.samples, 1.0)

    def steps(self, batch: int | Callable[[float], int]) -> Iterator[np.random.Generator]:
        """One step a turn until all samples are seen; `batch` may depend on the progress."""
        saved = time.monotonic()
        self.model.train()
        while self.seen < self.samples:
            started = time.monotonic()
            size = batch if isinstance(batch, int) else batch(self.progress)
            torch.manual_seed(self.run.seed * 1_000_003 + self.step)
            yield np.random.default_rng([self.run.seed, self.step])
            self.seen, self.step = self.seen + size, self.step + 1
            now = time.monotonic()
            self.seconds += now - started
            if now > self.run.deadline:
                self.save()
                raise OutOfTime(f"{self.name}: {self.seen} of {self.samples} samples")
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = now
        self._log_means()
        self.swap()  # from here on the model is its average
        self.save(finished=True)
        self.model.eval()

    def learn(self, loss: torch.Tensor, **numbers: float) -> None:
        """One optimizer step on the loss; numbers are logged beside it."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.apply(loss.detach(), **numbers)

    def apply(self, loss: torch.Tensor, **numbers: float) -> None:
        """One optimizer step by the gradients that the parameters have."""
        rate = self.rate * min((self.step + 1) / WARM_UP_STEPS, (1 - self.progress) / DECAY_SHARE, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        if not torch.isfinite(nn.utils.clip_grad_norm_(self.parameters, 1.0)):  # would stay in the weights for good
            self._skipped += 1
            if self._skipped >= MOST_SKIPPED:
                raise FloatingPointError(f"{self.name}: the gradients of {MOST_SKIPPED} steps in a row are no numbers")
            return
        self._skipped = 0
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(self.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        for name, value in {"loss": loss, **numbers}.items():  # read only when logged: it would wait
            self._sums.setdefault(name, []).append(value)
        if (self.step + 1) % LOG_STEPS == 0:
            self._log_means()

    def _log_means(self) -> None:
        if self._sums:
            self.log({name: round(sum(map(float, values)) / len(values), 5) for name, values in self._sums.items()})
            self._sums.clear()

    def log(self, numbers: dict[str, float]) -> None:
        line = {"part": self.name, "seen": self.seen, "seconds": round(self.seconds), **numbers}
        path = self.run.folder / "losses" / f"{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def swap(self) -> None:
        """Exchange the model's weights and their average."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                kept = parameter.clone()
                parameter.copy_(average)
                average.copy_(kept)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, for measuring."""
        self.swap()
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()
            self.swap()

    def save(self, finished: bool = False) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": dict(zip(self.names, self.average, strict=True)),
            "seen": self.seen,
            "step": self.step,
            "seconds": self.seconds,
        }
        write_whole(self._checkpoint, lambda path: torch.save(state, path))
        summary = {
            "part": self.name,
            "finished": finished,
            "samples": self.seen,
            "steps": self.step,
            "seconds": round(self.seconds),
            "seed": self.run.seed,
            "rate": self.rate,
            "init": self.run.init.name if self.run.init else None,
        }
        write_whole(self._checkpoint.with_suffix(".json"), lambda path: path.write_text(json.dumps(summary)))
