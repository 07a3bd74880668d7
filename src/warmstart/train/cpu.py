"""What makes a training step on a CPU quicker without changing what is learned: dropout's draws, and plain attention.

torch draws dropout masks on a CPU one number at a time, which is a sixth of a step of a small encoder; and its fused
attention computes the backward pass slowly there. Figures are in docs/lab-notes.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.backbones.classifier import Classifier

_DROPOUT = nn.functional.dropout
_LEVELS = 2**16


def dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout` with masks that numpy's SFC64 draws, seeded by torch's own generator.

    The same random state gives the same mask, so a resumed run is the same to the bit. `p` is met to 1 / 65,536.
    """
    level = round(p * _LEVELS)
    if not training or values.device.type != "cpu" or inplace or not 0 < level < _LEVELS or not values.numel():
        return _DROPOUT(values, p, training, inplace)
    seed = int(torch.randint(0, 2**62, ()))
    drawn = np.random.SFC64(seed).random_raw(-(-values.numel() // 4)).view(np.uint16)[: values.numel()]
    kept = torch.from_numpy(drawn >= level).view(values.shape).to(values.dtype)
    return values * kept.mul_(_LEVELS / (_LEVELS - level))


@contextlib.contextmanager
def quick_steps(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within it, training a model on a CPU uses the quicker ways; elsewhere nothing changes.

    Args:
        model: a `Classifier`, or a model that holds some.
        device: where it is trained.
    """
    if device.type != "cpu":
        yield
        return
    trunks = [module.backbone for module in model.modules() if isinstance(module, Classifier)]
    switched = [trunk for trunk in trunks if trunk._supports_sdpa and trunk.config._attn_implementation == "sdpa"]
    for trunk in switched:
        trunk.set_attn_implementation("eager")
    nn.functional.dropout = dropout  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.functional.dropout = _DROPOUT
        for trunk in switched:
            trunk.set_attn_implementation("sdpa")
