"""Makes the model `mini`: its pictures, its judge, and every part of it.

    python -m tools.train_mini --out DIR

runs all parts, in order, each from where it was stopped:
  text        tokenizer and text encoder (taken as they are with --init)
  data        pictures of simple scenes with exact passes, rendered on the CPU
  classifier  the judge that names materials
  vae         the VAE (taken as it is with --init)
  joint       the UNet and its ControlNets, together (on whole pictures at once with --init)
  decoder     mini-turbo's small decoder
  turbo       mini-turbo's LoRA, distilled from the joint part
  export      the model folders DIR/mini and DIR/mini_turbo: fp16 safetensors for diffusers, with training.json and
              vocabulary.md

Checkpoints lie in DIR/checkpoints, losses in DIR/losses. Stop it at any time; the same command goes on.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from . import autoencoder, classifier, data, diffusion, export, text, turbo
from .run import OutOfTime, Run

PARTS = ("text", "data", "classifier", "vae", "joint", "decoder", "turbo", "export")
# How many samples each part sees, as a share of --samples.
SHARES = {
    "text": 0.1,
    "classifier": 0.1,
    "vae": 0.3,
    "joint": 1.0,
    "decoder": 0.2,
    "turbo": 0.3,
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_mini",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these parts (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything is written")
    parser.add_argument("--init", type=Path, metavar="DIR", help="a model folder to start from instead of noise")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--images", type=int, default=10_000, help="pictures to render (10000)")
    parser.add_argument(
        "--samples",
        type=int,
        default=400_000,
        help="samples of the joint part; the others take fixed shares of it (400000)",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after so long, to be resumed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    run = Run(options.out, torch.device(device), options.seed, deadline, options.init)
    samples = {part: int(options.samples * share) for part, share in SHARES.items()}
    do = {
        "text": lambda: text.train(run, samples["text"]),
        "data": lambda: data.make(run.folder / "data", run.folder / "tokenizer", options.images, run.seed),
        "classifier": lambda: classifier.train(run, samples["classifier"]),
        "vae": lambda: autoencoder.train(run, samples["vae"]),
        "joint": lambda: diffusion.train_joint(run, samples["joint"]),
        "decoder": lambda: turbo.train_decoder(run, samples["decoder"]),
        "turbo": lambda: turbo.train_lora(run, samples["turbo"]),
        "export": lambda: export.export(run),
    }
    try:
        for part, action in do.items():
            if options.parts and part not in options.parts:
                continue
            if part in samples and run.finished(part, samples[part]):
                print(f"{part}: done before", flush=True)
                continue
            action()
    except OutOfTime as stopped:
        print(f"out of time in {stopped}; the same command goes on from here", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
