"""Views against slow references: Pillow and colorsys a pixel at a time, loops for crop and blur."""

from __future__ import annotations

import colorsys
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from saved import picture

from warmstart.backbones.image_inputs import resized_crop
from warmstart.contrastive import views
from warmstart.contrastive.views import DRAWS, PRESETS, ViewPlan, draw_views, make_views, view_plan
from warmstart.core.errors import SettingError

SIDE = 24
PLAIN = ViewPlan(crop_scale=1.0, color_jitter=0.0, grayscale=0.0, blur=0.0)


def pictures(count: int = 3, side: int = SIDE) -> torch.Tensor:
    made = [np.asarray(picture(side, side, seed)).transpose(2, 0, 1) for seed in range(count)]
    return torch.from_numpy(np.stack(made).copy())


def pillow(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())


def back(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def whole(count: int) -> torch.Tensor:
    """Draws for a crop of the whole image, not mirrored, with nothing else done."""
    draws = torch.ones(count, DRAWS)
    draws[:, 1] = 0.5
    draws[:, 4] = 0.0
    return draws


def cropped(image: torch.Tensor, draw: list[float], min_area: float, size: int) -> torch.Tensor:
    """One pixel at a time."""
    _, height, width = image.shape
    area, aspect = min_area + (1 - min_area) * draw[0], math.exp((2 * draw[1] - 1) * math.log(4 / 3))
    wide, high = min(1.0, math.sqrt(area * aspect)) * width, min(1.0, math.sqrt(area / aspect)) * height
    left, top = draw[2] * (width - wide), draw[3] * (height - high)
    out = torch.zeros(3, size, size, dtype=torch.float64)
    for y, x in itertools.product(range(size), range(size)):
        across = x if draw[4] < 0.5 else size - 1 - x
        at_x = min(max(left + (across + 0.5) * wide / size - 0.5, 0.0), width - 1.0)
        at_y = min(max(top + (y + 0.5) * high / size - 0.5, 0.0), height - 1.0)
        x0, y0 = int(at_x), int(at_y)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        dx, dy = at_x - x0, at_y - y0
        out[:, y, x] = (1 - dy) * ((1 - dx) * image[:, y0, x0] + dx * image[:, y0, x1]) + dy * (
            (1 - dx) * image[:, y1, x0] + dx * image[:, y1, x1]
        )
    return out


def test_crops_are_those_of_a_loop() -> None:
    images = pictures(4).double() / 255
    draw = torch.rand(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw[0, 4], draw[1, 4] = 0.1, 0.9
    found = resized_crop(images, draw, 0.1, (17, 17))
    for image, values, made in zip(images, draw.tolist(), found, strict=True):
        torch.testing.assert_close(made, cropped(image, values, 0.1, 17), atol=1e-9, rtol=0)


def test_an_enlarged_crop_is_pillows() -> None:
    image = pictures(1).double() / 255
    draw = torch.tensor([[0.1, 0.3, 0.6, 0.2, 0.0]], dtype=torch.float64)
    area, aspect = 0.1 + 0.9 * 0.1, math.exp(-0.4 * math.log(4 / 3))
    wide, high = math.sqrt(area * aspect) * SIDE, math.sqrt(area / aspect) * SIDE
    box = (0.6 * (SIDE - wide), 0.2 * (SIDE - high), 0.6 * (SIDE - wide) + wide, 0.2 * (SIDE - high) + high)
    expected = back(pillow(image[0]).resize((32, 32), Image.Resampling.BILINEAR, box=box))
    made = resized_crop(image, draw, 0.1, (32, 32))[0].float()
    inner = (slice(None), slice(3, -3), slice(3, -3))  # Pillow reads nothing beyond the box
    assert (made[inner] - expected[inner]).abs().max() < 2 / 255


def test_a_crop_of_everything_changes_nothing_and_can_be_mirrored() -> None:
    pixels, draws = pictures(2), whole(2)
    draws[1, 4] = 0.9
    made = make_views(pixels, draws, PLAIN, SIDE)
    torch.testing.assert_close(made[0], pixels[0] / 255, atol=1e-5, rtol=0)
    torch.testing.assert_close(made[1], (pixels[1] / 255).flip(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.2, 0.8, 1.0, 1.7])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_pillows_do(name: str, factor: float) -> None:
    enhance = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }[name]
    pixels = pictures() / 255
    made = getattr(views, name)(pixels, torch.full((3, 1, 1, 1), factor))
    for image, found in zip(pixels, made, strict=True):
        assert (found - back(enhance(pillow(image)).enhance(factor))).abs().max() < 2 / 255


def test_every_image_has_a_factor_of_its_own() -> None:
    pixels = pictures() / 255
    factors = torch.tensor([0.5, 1.0, 1.5]).view(-1, 1, 1, 1)
    for change in views.CHANGES:
        made = change(pixels, factors)
        for place in range(3):
            torch.testing.assert_close(
                made[place : place + 1], change(pixels[place : place + 1], factors[place : place + 1])
            )


@pytest.mark.parametrize("turn", [-0.2, -0.05, 0.0, 0.13, 0.5])
def test_hue_is_that_of_colorsys(turn: float) -> None:
    pixels = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pixels[0, :, 0, 0] = 0.3  # grey has no hue
    pixels[0, :, 0, 1] = torch.tensor([0.5, 0.5, 0.1])  # two channels are the largest
    pixels[0, :, 0, 2] = 0.0
    made = views.hue(pixels, torch.full((2, 1, 1, 1), turn, dtype=torch.float64))
    for image, y, x in itertools.product(range(2), range(6), range(5)):
        h, s, v = colorsys.rgb_to_hsv(*pixels[image, :, y, x].tolist())
        expected = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
        assert made[image, :, y, x].tolist() == pytest.approx(expected, abs=1e-6)


def test_grey_is_pillows() -> None:
    pixels = pictures() / 255
    for image, found in zip(pixels, views.luma(pixels), strict=True):
        expected = np.asarray(pillow(image).convert("L"), dtype=np.float32) / 255
        assert np.abs(found[0].numpy() - expected).max() < 1 / 255


@pytest.mark.parametrize("radius", [1, 3])
def test_blur_is_a_convolution(radius: int) -> None:
    pixels = pictures(2, 9).double() / 255
    sigmas = torch.tensor([0.4, 1.9], dtype=torch.float64)
    made = views.gaussian_blur(pixels, sigmas, radius)
    taps = range(-radius, radius + 1)
    for image, sigma, found in zip(pixels.numpy(), sigmas.tolist(), made.numpy(), strict=True):
        weight = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma * sigma)) for a in taps for b in taps}
        padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
        total = sum(weight.values())
        for y, x in itertools.product(range(9), range(9)):
            sums = sum(w * padded[:, y + radius + a, x + radius + b] for (a, b), w in weight.items())
            np.testing.assert_allclose(found[:, y, x], sums / total, atol=1e-9)


def test_the_changes_come_one_after_the_other_in_each_views_own_order() -> None:
    """Whole views, made again one at a time."""
    plan = ViewPlan(crop_scale=1.0, color_jitter=1.0, grayscale=0.3, blur=0.5)
    count = 40
    pixels = pictures(count)
    draws = torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(3))
    draws[:, :5] = whole(count)[:, :5]
    made = make_views(pixels, draws, plan, SIDE)
    orders, greys, soft, calm = set(), 0, 0, 0
    for place in range(count):
        draw = draws[place].tolist()
        view = pixels[place : place + 1] / 255
        if draw[5] < 0.8:
            order = tuple(sorted(range(4), key=lambda number: draw[10 + number]))
            orders.add(order)
            for number in order:
                spread = 2 * draw[6 + number] - 1
                amount = 0.2 * spread if number == 3 else 1 + 0.8 * spread
                view = views.CHANGES[number](view, torch.full((1, 1, 1, 1), amount))
        else:
            calm += 1
        if draw[14] < 0.3:
            greys += 1
            view = views.luma(view).expand(-1, 3, -1, -1)
        if draw[15] < 0.5:
            soft += 1
            view = views.gaussian_blur(view, torch.tensor([0.1 + 1.9 * draw[16]]), 1)
        torch.testing.assert_close(made[place], view[0], atol=2e-5, rtol=0)
    assert len(orders) > 8
    assert min(greys, soft, calm) > 2
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1 + 1e-6


def test_views_depend_on_the_image_the_epoch_and_the_seed_alone() -> None:
    one, other = draw_views([7], 3, 1), draw_views([2, 7, 9], 3, 1)
    assert torch.equal(one[:, 0], other[:, 1])
    different = [draw_views([7], 3, 1)[1], draw_views([8], 3, 1)[0], draw_views([7], 4, 1)[0], draw_views([7], 3, 2)[0]]
    assert all(not torch.equal(one[0], found) for found in different)
    pixels, plan = pictures(35), ViewPlan()
    draws = draw_views(range(35), 0, 0)
    made = make_views(pixels, draws[0], plan, 16)
    assert torch.equal(made, make_views(pixels, draws[0], plan, 16))
    torch.testing.assert_close(made[30:], make_views(pixels[30:], draws[0, 30:], plan, 16))
    assert (made - make_views(pixels, draws[1], plan, 16)).abs().mean() > 0.02


def test_draws_are_uniform() -> None:
    drawn = draw_views(range(2000), 0, 0).reshape(-1, DRAWS)
    assert torch.allclose(drawn.mean(0), torch.full((DRAWS,), 0.5), atol=0.03)
    assert 0 <= float(drawn.min()) < 0.001 < 0.999 < float(drawn.max()) < 1


def test_presets_and_what_is_given_in_place_of_their_values() -> None:
    assert view_plan("simclr", None, None, None, None) == PRESETS["simclr"] == ViewPlan(0.08, 1.0, 0.2, 0.5)
    assert view_plan("cifar", None, None, None, None).blur == 0.0
    assert view_plan("mild", 0.5, 0.0, 0.0, 1.0) == ViewPlan(0.5, 0.0, 0.0, 1.0)
    with pytest.raises(SettingError, match="--augmentation"):
        view_plan("wild", None, None, None, None)
