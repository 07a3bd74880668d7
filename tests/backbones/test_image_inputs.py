"""Pixel batches against the whole image processor, and augmentation that repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from saved import picture

from warmstart.backbones.image_inputs import ImagePreprocessor, PixelInputs, augment
from warmstart.core.errors import ModelError

PROCESSORS = {
    "vit": lambda: tf.ViTImageProcessorPil(size={"height": 24, "width": 24}),
    "clip": lambda: tf.CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
    "clip, wider": lambda: tf.CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}),
    "convnext": lambda: tf.ConvNextImageProcessorPil(size={"shortest_edge": 24}, crop_pct=0.875),
    "convnext, large": lambda: tf.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "siglip": lambda: tf.SiglipImageProcessorPil(size={"height": 24, "width": 24}),
    "plain": lambda: tf.ViTImageProcessorPil(size={"height": 24, "width": 24}, do_normalize=False),
    "bytes": lambda: tf.ViTImageProcessorPil(size={"height": 24, "width": 24}, do_normalize=False, do_rescale=False),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("name", list(PROCESSORS))
def test_geometry_and_arithmetic_equal_the_whole_processor(name, mode):
    processor = PROCESSORS[name]()
    own = ImagePreprocessor(PROCESSORS[name]())
    for width, height in ((50, 38), (31, 60), (24, 24)):
        image = picture(width, height, mode=mode)
        wanted = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        found = own.encode({"image": [image]}).batch([0])["pixel_values"]
        assert found.shape == wanted.shape == (1, 3, own.size, own.size)
        assert found.dtype == torch.float32
        step = own.scale / min(own.std)  # one of 255, as the model sees it
        assert (found - wanted).abs().max() <= 1.01 * step


def test_a_palette_with_transparency():
    image = picture(mode="P")
    image.info["transparency"] = 0
    own = ImagePreprocessor(PROCESSORS["vit"]())
    assert own.geometry(image).shape == (3, 24, 24)


@pytest.mark.parametrize("size", [16, 40])
@pytest.mark.parametrize("name", list(PROCESSORS))
def test_another_size(name, size, tmp_path):
    own = ImagePreprocessor(PROCESSORS[name](), size)
    assert own.size == size
    for width, height in ((50, 38), (31, 60)):
        assert own.geometry(picture(width, height)).shape == (3, size, size)
    own.save(tmp_path)
    again = ImagePreprocessor(tf.AutoImageProcessor.from_pretrained(tmp_path, backend="pil"))
    np.testing.assert_array_equal(again.geometry(picture()), own.geometry(picture()))
    assert again.describe() == own.describe()


def test_another_size_shows_the_same_part_of_the_picture():
    small, large = (ImagePreprocessor(PROCESSORS["clip, wider"](), size) for size in (24, 48))
    image = picture(200, 150)
    halved = Image.fromarray(large.geometry(image).transpose(1, 2, 0)).resize((24, 24), Image.Resampling.BOX)
    difference = np.asarray(halved).transpose(2, 0, 1).astype(int) - small.geometry(image)
    assert np.abs(difference).mean() < 3


def test_a_processor_that_keeps_the_shape_is_cut_square():
    own = ImagePreprocessor(tf.CLIPImageProcessorPil(size={"shortest_edge": 24}, do_center_crop=False))
    assert own.geometry(picture(60, 30)).shape == (3, 24, 24)


def test_a_processor_that_does_more_is_refused():
    with pytest.raises(ModelError, match="does more than resize, crop, rescale and normalise"):
        ImagePreprocessor(tf.EfficientNetImageProcessorPil(size={"height": 24, "width": 24}, include_top=True))


def test_descriptions_tell_what_changes_the_pixels():
    settings: list[dict] = [
        {},
        {"size": {"height": 32, "width": 32}},
        {"resample": 3},
        {"image_mean": [0.4, 0.5, 0.5]},
        {"do_normalize": False},
        {"do_rescale": False},
    ]
    described = [
        ImagePreprocessor(tf.ViTImageProcessorPil(**{"size": {"height": 24, "width": 24}, **values})).describe()
        for values in settings
    ]
    described += [ImagePreprocessor(PROCESSORS[name]()).describe() for name in ("clip", "clip, wider", "convnext")]
    assert all(described.count(one) == 1 for one in described)


def test_pixels_are_decoded_once(monkeypatch):
    own = ImagePreprocessor(PROCESSORS["vit"]())
    inputs = own.encode({"image": [picture(seed=seed) for seed in range(4)]})
    assert isinstance(inputs, PixelInputs)
    first = inputs.batch([2, 0])["pixel_values"]
    assert first.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(own, "geometry", lambda image: pytest.fail("decoded again"))
    assert torch.equal(inputs.batch([0, 2])["pixel_values"], first[[1, 0]])
    assert (len(inputs), inputs.lengths.tolist()) == (4, [1, 1, 1, 1])


def test_pixels_that_do_not_fit_in_memory(monkeypatch):
    monkeypatch.setattr("warmstart.backbones.image_inputs._KEEP_BYTES", 2 * 3 * 24 * 24)
    inputs = ImagePreprocessor(PROCESSORS["vit"]()).encode({"image": [picture(seed=seed) for seed in range(4)]})
    once, again = (inputs.batch(range(4))["pixel_values"] for _ in range(2))
    assert torch.equal(once, again)
    assert len(inputs._kept) == 2


def test_images_may_come_by_index():
    class Lazy:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, row: int) -> Image.Image:
            assert isinstance(row, int)
            return picture(seed=row)

    own = ImagePreprocessor(PROCESSORS["vit"]())
    found = own.encode({"image": Lazy()}).batch(np.array([1, 0]))["pixel_values"]
    wanted = own.encode({"image": [picture(seed=1), picture(seed=0)]}).batch([0, 1])["pixel_values"]
    assert torch.equal(found, wanted)


def test_augmentation_repeats_with_its_seed_and_keeps_the_shape():
    inputs = ImagePreprocessor(PROCESSORS["vit"]()).encode({"image": [picture(seed=seed) for seed in range(3)]})
    plain = inputs.batch([0, 1, 2])["pixel_values"]
    state = torch.get_rng_state()
    first, again, other = (inputs.batch([0, 1, 2], augment_seed=seed)["pixel_values"] for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == plain.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)
    assert plain.min() - 1e-5 <= first.min() and first.max() <= plain.max() + 1e-5  # noqa: PT018 - one range
    assert torch.equal(inputs.batch([0, 1, 2])["pixel_values"], plain)


def test_augmentation_is_crops_and_flips():
    """With the whole picture kept only the flip and the aspect are left; a constant stays constant."""
    constant = torch.full((8, 3, 10, 10), 0.3)
    torch.testing.assert_close(augment(constant, torch.Generator().manual_seed(0)), constant)
    ramp = torch.linspace(-1, 1, 32).view(1, 1, 1, 32).expand(400, 1, 32, 32).contiguous()
    out = augment(ramp, torch.Generator().manual_seed(0))
    rising = out[:, 0, 16, 31] > out[:, 0, 16, 0]
    assert 150 < int(rising.sum()) < 250
    width = (out[:, 0, 16, 30] - out[:, 0, 16, 1]).abs() / (29 * 2 / 31)  # share of the width that is kept
    assert float(width.min()) ** 2 > 0.6 * 3 / 4 - 0.02
    assert float(width.max()) <= 1.01
    torch.testing.assert_close(out[:, :, 0], out[:, :, -1], atol=1e-5, rtol=0)  # no rotation


@pytest.mark.real
def test_a_file_from_disk(tmp_path: Path):
    path = tmp_path / "picture.png"
    picture(mode="L").save(path)
    own = ImagePreprocessor(PROCESSORS["vit"]())
    np.testing.assert_array_equal(own.geometry(Image.open(path)), own.geometry(picture(mode="L")))
