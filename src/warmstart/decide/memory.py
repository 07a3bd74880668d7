"""How much memory each strategy will hold at its peak: arithmetic on parameters, activations and what is there already.

Where the figures come from (a real step, or a configuration alone) is left to whoever fills `ComputeEvidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmstart.core.decision import ComputeEvidence
from warmstart.core.sizes import show_bytes

FLOAT = 4  # bytes: trunks are loaded, and trained, in float32
_MOMENTS = 2  # of AdamW (arXiv 1711.05101), a parameter
_AVERAGE = 1  # a moving average of what learns
FULL = ("fine_tune", "progressive", "scratch")  # everything learns


@dataclass(frozen=True)
class Memory:
    """What one strategy holds, in bytes, by part."""

    strategy: str
    parts: tuple[tuple[str, float], ...]  # what, bytes

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(size for _, size in self.parts)

    def arithmetic(self) -> str:
        """The sum in words: "weights 28.0 GB + gradients 28.0 GB = 56.0 GB"."""
        terms = " + ".join(f"{what} {show_bytes(size)}" for what, size in self.parts if size >= 1)
        return f"{terms} = {show_bytes(self.total)}"


def memory_of(strategy: str, compute: ComputeEvidence) -> Memory:
    """What a strategy holds at its peak.

    A trained strategy works on a copy of the model, which stays there; on an accelerator the original is not on the
    device, so there is one set of weights either way, and what is resident beside it.

    Args:
        strategy: its name.
        compute: sizes.
    """
    weights = float(compute.parameters * FLOAT)
    parts: list[tuple[str, float]] = [("what is held already", float(compute.resident_bytes)), ("weights", weights)]
    learns = 0
    if strategy in FULL:
        learns = compute.parameters
    elif strategy == "lora":
        learns = compute.lora_parameters
        parts.append((f"{learns:,} LoRA parameters", float(learns * FLOAT)))
    if learns:
        parts += [
            ("gradients", float(learns * FLOAT)),
            ("AdamW's moments", float(_MOMENTS * learns * FLOAT)),
            ("their average", float(_AVERAGE * learns * FLOAT) if compute.averaged else 0.0),
            (f"activations of {compute.batch} rows", compute.batch * compute.activation_bytes),
        ]
    else:
        parts.append((f"a forward pass of {compute.batch} rows", compute.batch * compute.forward_bytes))
    return Memory(strategy, tuple(parts))


def activation_bytes(layers: int, hidden: int, heads: int, tokens: int, value_bytes: int = FLOAT) -> float:
    """What a transformer keeps of one row for the backward pass, in bytes.

    Korthikanti et al. 2022 (arXiv 2205.05198, equation 2): tokens · hidden · (34 + 5 · heads · tokens / hidden) a layer
    in 16 bits, without recomputation; twice that in 32.

    Args:
        layers: of the trunk.
        hidden: width.
        heads: of attention, a layer.
        tokens: of the row.
        value_bytes: of one number.
    """
    return layers * tokens * hidden * (34 + 5 * heads * tokens / hidden) * value_bytes / 2


def layer_inputs(layers: int, hidden: int, tokens: int) -> float:
    """Bytes that gradient checkpointing keeps of one row: what goes into each layer, from which the rest is redone."""
    return float(FLOAT * layers * tokens * hidden)


def forward_bytes(hidden: int, tokens: int, inner: int, heads: int) -> float:
    """What one row holds at once in a forward pass of which nothing is kept: one layer's input, inner and attention."""
    return float(FLOAT * tokens * (4 * hidden + 2 * inner + heads * tokens))


def largest_that_fits(strategy: str, compute: ComputeEvidence, device_bytes: int) -> float:
    """Parameters of the largest model of this shape whose memory for a strategy fits, all parts scaled alike."""
    total = memory_of(strategy, compute).total - compute.resident_bytes
    room = device_bytes - compute.resident_bytes
    return max(0.0, compute.parameters * room / total)
