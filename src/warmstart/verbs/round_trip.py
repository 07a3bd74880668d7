"""Does a saved classifier give the same logits in a process that never saw it? `python -m … FOLDER` asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from warmstart.backbones.classifier import Classifier
from warmstart.backbones.load import load_preprocessor
from warmstart.core.errors import RoundTripError

VERIFICATION = "verification.safetensors"
TOLERANCE = 1e-3  # logits, float32; other machines sum in another order


def save_verification(model: Classifier, batch: dict[str, torch.Tensor], folder: Path) -> np.ndarray:
    """Keep a few rows' inputs and their logits, (rows, labels), in float32."""
    with torch.inference_mode():
        logits = model.float().cpu().eval()(**batch).logits
    save_file({**{name: value.contiguous() for name, value in batch.items()}, "logits": logits}, folder / VERIFICATION)
    return np.asarray(logits.numpy())


def reloaded_difference(folder: Path, texts: list[list[str]] | None = None) -> float:
    """Largest difference between the kept logits and those of the folder loaded here and now.

    Args:
        folder: a result folder.
        texts: raw rows, one list per column ("text", "text_pair"), to check the tokenizer with.
    """
    kept = load_file(folder / VERIFICATION)
    expected = kept.pop("logits")
    model = Classifier.from_pretrained(folder, dtype=torch.float32).eval()
    preprocessor = load_preprocessor(folder, model.config)
    with torch.inference_mode():
        difference = (model(**kept).logits - expected).abs().max()
        if texts is not None:
            inputs = preprocessor.encode(dict(zip(("text", "text_pair"), texts, strict=False)))
            again = model(**inputs.batch(range(len(inputs)))).logits
            difference = torch.maximum(difference, (again - expected).abs().max())
    return float(difference)


def check_round_trip(folder: Path, texts: list[list[str]] | None = None) -> float:
    """Load the folder in a new process and compare.

    Returns:
        The largest difference in logits.

    Raises:
        RoundTripError: it does not load, or differs by more than `TOLERANCE`.
    """
    return in_new_process("warmstart.verbs.round_trip", folder, texts, ("logits", "processor"), TOLERANCE)


def in_new_process(module: str, folder: Path, given: object, words: tuple[str, str], tolerance: float) -> float:
    """Run a module that loads a folder and prints `{"difference": …}`.

    Args:
        module: what is run with `python -m`, the folder its argument.
        folder: what it loads.
        given: what it reads, as JSON, from standard input.
        words: what is compared, and what besides the weights it depends on.
        tolerance: the largest difference that is let pass.

    Raises:
        RoundTripError: it does not load, or differs by more than the tolerance.
    """
    command = [sys.executable, "-m", module, str(folder)]
    found = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if found.returncode != 0:
        reason = (found.stderr.strip().splitlines() or ["no message"])[-1]
        raise RoundTripError(f"{folder} does not load in a new process: {reason}")
    difference = float(json.loads(found.stdout.strip().splitlines()[-1])["difference"])
    if not difference <= tolerance:
        raise RoundTripError(
            f"{folder}, loaded in a new process, gives {words[0]} that differ by {difference:.2g} "
            f"(allowed: {tolerance:g}); its weights or {words[1]} are not those that were tested."
        )
    return difference


def main(arguments: list[str]) -> None:
    """Print the difference as JSON; raw texts come as JSON on standard input."""
    texts = json.loads(sys.stdin.read() or "null")
    sys.stdout.write(json.dumps({"difference": reloaded_difference(Path(arguments[0]), texts)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
