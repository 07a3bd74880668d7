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

_KEEP_BYTES = 4 << 30  # decoded images kept in memory up to this size


class ImagePreprocessor:
    """A transformers image processor, used through Pillow.

    Args:
        processor: the image processor (its `backend="pil"` form).
        size: side of the square that comes out, in pixels; the processor's own when None.
    """

    def __init__(self, processor: Any, size: int | None = None) -> None:
        self.processor = processor
        if size is not None:
            _set_size(processor, size)
        self.mean = _channel_values(processor, "image_mean", 0.0)
        self.std = _channel_values(processor, "image_std", 1.0)
        self.scale = float(processor.rescale_factor) if processor.do_rescale else 1.0

    @property
    def size(self) -> int:
        """Side of the images that come out, in pixels."""
        crop = getattr(self.processor, "crop_size", None)
        values = dict(crop) if getattr(self.processor, "do_center_crop", False) and crop else dict(self.processor.size)
        return int(values.get("height") or values["shortest_edge"])

    def geometry(self, image: Image.Image) -> np.ndarray:
        """Resize and crop as the processor does: (channels, height, width), bytes."""
        out = self.processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="np")
        return np.clip(np.rint(out["pixel_values"][0]), 0, 255).astype(np.uint8)

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> PixelInputs:
        """Take column "image": Pillow images, or anything that gives them by index."""
        return PixelInputs(rows["image"], self)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (batch, channels, height, width) → what the model reads, channels last."""
        scaled = pixels.to(torch.float32) * self.scale
        if self.processor.do_normalize:
            scaled = (scaled - torch.tensor(self.mean).view(-1, 1, 1)) / torch.tensor(self.std).view(-1, 1, 1)
        return scaled.contiguous(memory_format=torch.channels_last)

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json."""
        self.processor.save_pretrained(folder)

    def describe(self) -> dict[str, Any]:
        """Processor class, size, mean and deviation."""
        return {
            "processor": type(self.processor).__name__,
            "size": self.size,
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
        self.lengths = np.ones(len(images), dtype=np.int64)

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
    count = len(pixels)
    draw = torch.rand(count, 5, generator=generator)  # area, aspect, x, y, flip
    area = min_area + (1 - min_area) * draw[:, 0]
    aspect = torch.exp((draw[:, 1] * 2 - 1) * float(np.log(4 / 3)))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = width * torch.where(draw[:, 4] < 0.5, 1.0, -1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (draw[:, 2] * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (draw[:, 3] * 2 - 1) * (1 - height)
    grid = torch.nn.functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


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
    values = getattr(processor, name, None)
    if values is None:
        return (default,) * 3
    return tuple(float(value) for value in (values if isinstance(values, (list, tuple)) else [values] * 3))
