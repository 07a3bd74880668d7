"""Random views of images: crop, flip, colour jitter, greyscale, blur (arXiv 2002.05709, sec. 3 and app. A), on batches.

Every image has draws of its own, by (seed, epoch, row), so views depend neither on the batch that an image is in nor on
what was interrupted. Which views make a pair, and what is learned from them, is `simclr.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from warmstart.backbones.image_inputs import resized_crop
from warmstart.core.errors import SettingError

DRAWS = 17
_LUMA = (0.299, 0.587, 0.114)
_JITTERED = 0.8  # share of views whose colours are jittered
_SIGMAS = (0.1, 2.0)  # pixels
_KERNEL = 0.1  # of the side
_CACHED = 16  # images at a time on a CPU: they stay in its cache from step to step


@dataclass(frozen=True)
class ViewPlan:
    """How much views of one image differ.

    Args:
        crop_scale: smallest share of the image's area that a crop keeps.
        color_jitter: strength s: brightness, contrast and saturation change by up to .8 s, hue by up to .2 s of a turn.
        grayscale: share of views without colour.
        blur: share of views that are blurred.
    """

    crop_scale: float = 0.08
    color_jitter: float = 1.0
    grayscale: float = 0.2
    blur: float = 0.5


PRESETS = {
    "simclr": ViewPlan(),  # app. A
    "cifar": ViewPlan(color_jitter=0.5, blur=0.0),  # app. B.9: images of few pixels
    "mild": ViewPlan(crop_scale=0.3, color_jitter=0.4, grayscale=0.1, blur=0.2),
}


def view_plan(
    preset: str, crop_scale: float | None, color_jitter: float | None, grayscale: float | None, blur: float | None
) -> ViewPlan:
    """A preset, with what is given in place of its values.

    Raises:
        SettingError: there is no such preset.
    """
    if preset not in PRESETS:
        raise SettingError(f"--augmentation is {preset!r}; it must be one of: {', '.join(PRESETS)}.")
    plan = PRESETS[preset]
    return ViewPlan(
        plan.crop_scale if crop_scale is None else crop_scale,
        plan.color_jitter if color_jitter is None else color_jitter,
        plan.grayscale if grayscale is None else grayscale,
        plan.blur if blur is None else blur,
    )


def draw_views(rows: Sequence[int], seed: int, epoch: int) -> Tensor:
    """What two views of each row are made from, (2, rows, DRAWS), uniform from 0 to 1."""
    drawn = [np.random.default_rng((seed, epoch, row)).random((2, DRAWS), dtype=np.float32) for row in rows]
    return torch.from_numpy(np.stack(drawn, axis=1))


def make_views(pixels: Tensor, draws: Tensor, plan: ViewPlan, size: int) -> Tensor:
    """One view of each image.

    Args:
        pixels: (batch, 3, height, width), bytes.
        draws: (batch, DRAWS), on the same device.
        plan: how much views differ.
        size: side of the views, in pixels.

    Returns:
        (batch, 3, size, size), from 0 to 1.
    """
    out = torch.empty(len(pixels), 3, size, size, device=pixels.device)
    step = _CACHED if pixels.device.type == "cpu" else max(1, len(pixels))
    for start in range(0, len(pixels), step):
        part, draw = pixels[start : start + step], draws[start : start + step]
        view = resized_crop(part.float() / 255, draw[:, :5], plan.crop_scale, (size, size))
        _some(view, draw[:, 5] < _JITTERED if plan.color_jitter > 0 else draw[:, 5] < 0, draw, plan.color_jitter)
        grey = (draw[:, 14] < plan.grayscale).nonzero()[:, 0]
        view[grey] = luma(view[grey]).expand(-1, 3, -1, -1)
        soft = (draw[:, 15] < plan.blur).nonzero()[:, 0]
        if len(soft):
            sigma = _SIGMAS[0] + (_SIGMAS[1] - _SIGMAS[0]) * draw[soft, 16]
            view[soft] = gaussian_blur(view[soft], sigma, radius=max(1, round(_KERNEL * size / 2)))
        out[start : start + step] = view
    return out


def _some(view: Tensor, chosen: Tensor, draw: Tensor, strength: float) -> None:
    """Jitter the colours of the chosen views in place, the four changes in an order of each view's own."""
    spread = 2 * draw[:, 6:10] - 1  # (batch, changes), from -1 to 1
    factors = (1 + 0.8 * strength * spread[:, :3]).clamp(min=0)
    amounts = torch.cat([factors, 0.2 * strength * spread[:, 3:]], dim=1)
    order = draw[:, 10:14].argsort(1)  # (batch, changes)
    for turn in range(len(CHANGES)):
        for number, change in enumerate(CHANGES):
            places = (chosen & (order[:, turn] == number)).nonzero()[:, 0]
            if len(places):
                view[places] = change(view[places], amounts[places, number].view(-1, 1, 1, 1))


def luma(pixels: Tensor) -> Tensor:
    """Grey levels, (batch, 1, height, width), as Pillow's "L" weighs colours."""
    red, green, blue = pixels.unbind(1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scale, (batch, 3, height, width) by (batch, 1, 1, 1)."""
    return (pixels * factor).clamp_(0, 1)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance to the image's mean grey."""
    return torch.lerp(luma(pixels).mean((2, 3), keepdim=True), pixels, factor).clamp_(0, 1)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance to each pixel's grey."""
    return torch.lerp(luma(pixels), pixels, factor).clamp_(0, 1)


def hue(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of the HSV cone by (batch, 1, 1, 1) of a whole turn."""
    red, green, blue = pixels.unbind(1)  # (batch, height, width) each
    value = pixels.amax(1)
    chroma = value - pixels.amin(1)
    unit = chroma.clamp(min=1e-8)
    sixth = torch.where(
        value == red,
        (green - blue) / unit,
        torch.where(value == green, (blue - red) / unit + 2, (red - green) / unit + 4),
    )
    sixth += 6 * turn[:, 0]
    out = torch.empty_like(pixels)
    for channel, offset in enumerate((5, 3, 1)):
        place = (sixth + offset).remainder_(6)
        share = torch.minimum(place, 4 - place).clamp_(0, 1)
        out[:, channel] = torch.addcmul(value, chroma, share, value=-1)
    return out


def gaussian_blur(pixels: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image by its own sigma, in pixels, (batch,), with 2 radius + 1 taps a direction; edges are mirrored."""
    taps = torch.arange(radius + 1, dtype=pixels.dtype, device=pixels.device)
    weights = torch.exp(-0.5 * (taps / sigma[:, None]).square())  # (batch, radius + 1)
    weights = weights / (2 * weights.sum(1, keepdim=True) - weights[:, :1])
    for axis in (2, 3):
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = torch.nn.functional.pad(pixels, padding, mode="reflect")
        length = pixels.shape[axis]
        pixels = padded.narrow(axis, radius, length) * weights[:, 0].view(-1, 1, 1, 1)
        for tap in range(1, radius + 1):
            both = padded.narrow(axis, radius - tap, length) + padded.narrow(axis, radius + tap, length)
            pixels.addcmul_(both, weights[:, tap].view(-1, 1, 1, 1))
    return pixels


CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)
