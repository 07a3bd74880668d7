"""Images → pixel batches: geometry by the model's own image processor, arithmetic on the batch.

Resizing and cropping are the processor's (once per image, kept as bytes); rescaling and normalising happen on the
batch, channels last. Augmentation draws from a generator of its own, so it repeats exactly on resumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from warmstart.backbones.text_inputs import Inputs
from warmstart.core.errors import ModelError

_KEEP_BYTES = 4 << 30  # decoded images kept in memory up to this size


class ImagePreprocessor:
    """A transformers image processor, used through Pillow.

    Args:
        processor: the image processor (its `backend="pil"` form).
        size: side of the square that comes out, in pixels; the processor's own when None.

    Raises:
        ModelError: when the processor does more than resize, crop, rescale and normalise.
    """

    def __init__(self, processor: Any, size: int | None = None) -> None:
        self.processor = processor
        if size is not None:
            _set_size(processor, size)
        elif not _gives_squares(processor):
            _set_size(processor, self.size)  # the shorter side alone is set: cut the middle
        self.mean = _channel_values(processor, "image_mean", 0.0)
        self.std = _channel_values(processor, "image_std", 1.0)
        self.scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        self._check()

    @property
    def size(self) -> int:
        """Side of the images that come out, in pixels."""
        crop = getattr(self.processor, "crop_size", None)
        values = dict(crop) if getattr(self.processor, "do_center_crop", False) and crop else dict(self.processor.size)
        return int(values.get("height") or values["shortest_edge"])

    def _check(self) -> None:
        """Compare one image with what the whole processor makes of it."""
        image = _probe_image()
        whole = np.asarray(self.processor(image, return_tensors="np")["pixel_values"][0])
        ours = self.normalise(torch.from_numpy(self.geometry(image))[None])[0].numpy()
        tolerance = 1.01 * self.scale / min(self.std)  # rounding to bytes, at most
        if whole.shape != ours.shape or np.abs(whole - ours).max() > tolerance:
            raise ModelError(
                f"The image processor {type(self.processor).__name__} does more than "
                "resize, crop, rescale and normalise: not supported."
            )

    def geometry(self, image: Image.Image) -> np.ndarray:
        """Resize and crop as the processor does: (channels, height, width), bytes."""
        out = self.processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="np")
        pixels: np.ndarray = np.clip(np.rint(out["pixel_values"][0]), 0, 255).astype(np.uint8)
        return pixels

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Inputs:
        """Take column "image": Pillow images, or anything that gives them by index."""
        return PixelInputs(rows["image"], self)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (batch, channels, height, width) → what the model reads, channels last."""
        mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (self.mean, self.std))
        scaled = (pixels.to(torch.float32) * self.scale - mean) / std
        return scaled.contiguous(memory_format=torch.channels_last)

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json."""
        self.processor.save_pretrained(folder)

    def describe(self) -> dict[str, Any]:
        """Processor class, geometry, mean and deviation."""
        cropped = bool(getattr(self.processor, "do_center_crop", False))
        return {
            "processor": type(self.processor).__name__,
            "size": self.size,
            "resize": _plain(self.processor.size) if self.processor.do_resize else None,
            "crop": _plain(self.processor.crop_size) if cropped else None,
            "crop_pct": getattr(self.processor, "crop_pct", None),
            "resample": None if self.processor.resample is None else int(self.processor.resample),
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": self.scale,
        }


class PixelInputs:
    """Images of one size, decoded when first asked for and kept in memory while they fit."""

    def __init__(self, images: Sequence[Any], preprocessor: ImagePreprocessor) -> None:
        self._images, self._preprocessor = images, preprocessor
        self._kept: dict[int, np.ndarray] = {}
        self._kept_bytes = 0

    @property
    def lengths(self) -> np.ndarray:
        """Ones: every image costs the same."""
        return np.ones(len(self._images), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._images)

    def _pixels(self, row: int) -> np.ndarray:
        found = self._kept.get(row)
        if found is None:
            found = self._preprocessor.geometry(self._images[int(row)])
            if self._kept_bytes + found.nbytes <= _KEEP_BYTES:
                self._kept[row] = found
                self._kept_bytes += found.nbytes
        return found

    def batch(self, rows: Sequence[int], augment_seed: int | None = None) -> dict[str, Tensor]:
        """pixel_values, (rows, channels, height, width)."""
        pixels = torch.from_numpy(np.stack([self._pixels(row) for row in rows]))
        values = self._preprocessor.normalise(pixels)
        if augment_seed is not None:
            values = augment(values, torch.Generator().manual_seed(augment_seed))
        return {"pixel_values": values}


def augment(pixels: Tensor, generator: torch.Generator, min_area: float = 0.6) -> Tensor:
    """Random resized crop (area `min_area` to 1, aspect 3/4 to 4/3) and horizontal flip, one draw per image.

    Args:
        pixels: (batch, channels, height, width).
        generator: where the draws come from.
        min_area: smallest share of the image that is kept.

    Returns:
        The same shape, bilinear.
    """
    draw = torch.rand(len(pixels), 5, generator=generator)  # area, aspect, x, y, flip
    moved = resized_crop(pixels, draw, min_area, (pixels.shape[-2], pixels.shape[-1]))
    return moved.contiguous(memory_format=torch.channels_last)


def resized_crop(pixels: Tensor, draw: Tensor, min_area: float, size: tuple[int, int]) -> Tensor:
    """Cut a part out of every image, bring it to one size, and mirror some.

    Args:
        pixels: (batch, channels, height, width), floating point.
        draw: (batch, 5), from 0 to 1: area, aspect, x, y, and from a half on for the mirror.
        min_area: smallest share of the image that is kept; aspects are 3/4 to 4/3, cut where they leave the image.
        size: height and width to bring the parts to.

    Returns:
        (batch, channels, *size), bilinear.
    """
    area = min_area + (1 - min_area) * draw[:, 0]
    aspect = torch.exp((draw[:, 1] * 2 - 1) * float(np.log(4 / 3)))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = draw.new_zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = width * torch.where(draw[:, 4] < 0.5, 1.0, -1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (draw[:, 2] * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (draw[:, 3] * 2 - 1) * (1 - height)
    grid = torch.nn.functional.affine_grid(theta, [*pixels.shape[:2], *size], align_corners=False)
    return torch.nn.functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _probe_image() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((64, 40), Image.Resampling.BICUBIC)


def _gives_squares(processor: Any) -> bool:
    out = processor(_probe_image(), do_rescale=False, do_normalize=False, return_tensors="np")
    height, width = out["pixel_values"][0].shape[-2:]
    return bool(height == width)


def _plain(size: Any) -> Any:
    return int(size) if isinstance(size, int) else {name: int(value) for name, value in dict(size).items() if value}


def _set_size(processor: Any, size: int) -> None:
    current = dict(processor.size)
    if "shortest_edge" in current:
        ratio = 1.0
        if getattr(processor, "do_center_crop", False):
            ratio = current["shortest_edge"] / dict(processor.crop_size).get("height", current["shortest_edge"])
        processor.size = {"shortest_edge": round(size * ratio)}
        processor.do_center_crop = True
    else:
        processor.size = {"height": size, "width": size}
    processor.crop_size = {"height": size, "width": size}


def _channel_values(processor: Any, name: str, default: float) -> tuple[float, ...]:
    values = getattr(processor, name, None) if processor.do_normalize else None
    if values is None:
        return (default,) * 3
    return tuple(float(value) for value in (values if isinstance(values, (list, tuple)) else [values] * 3))
