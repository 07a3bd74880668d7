"""A few images and random views of each as one picture, so that it can be seen what training compares."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from warmstart.contrastive.view_rows import ViewSource
from warmstart.contrastive.views import draw_views, make_views
from warmstart.data.pictures import as_jpeg

_IMAGES, _EPOCHS = 5, 3  # of each image, itself and the two views of so many epochs
_SIDE, _GAP = 96, 4  # pixels


def view_grid(source: ViewSource) -> str:
    """The picture as a data URI: a row for each image, itself first."""
    rows = list(range(min(_IMAGES, len(source))))
    pixels = torch.from_numpy(source.images.rows(rows))
    columns = [pixels.numpy()]
    for epoch in range(1, _EPOCHS + 1):
        for draws in draw_views(rows, source.seed, epoch):
            views = make_views(pixels, draws, source.plan, source.preprocessor.size)
            columns.append((views * 255).round().byte().numpy())
    step = _SIDE + _GAP
    sheet = Image.new("RGB", (len(columns) * step - _GAP, len(rows) * step - _GAP), "white")
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            tile = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            sheet.paste(tile.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (x * step, y * step))
    return as_jpeg(sheet)
