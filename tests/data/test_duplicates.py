"""The same input is found, near and exact, by the quick way as by the slow one."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from warmstart.data.duplicates import fold, near_pairs, same_pictures, same_texts, unite
from warmstart.data.pictures import probe

IDS = st.lists(st.integers(0, 9), min_size=1, max_size=20)


def test_texts():
    same = same_texts([("A  dress!",), ("a dress",), ("a dress ",), ("a skirt",)])
    assert same.exact.tolist() == [0, 1, 1, 2]
    assert same.near.tolist() == [0, 0, 0, 1]


def test_pairs_differ_in_either_text():
    same = same_texts([("a", "b"), ("a", "c"), ("A", "b.")])
    assert same.near.tolist() == [0, 1, 0]


def test_folding():
    assert fold("It's  GREAT_stuff…") == "it s great stuff"
    assert fold(":-)") == ":-)"
    assert fold("良い 本") == "良い 本"


@settings(max_examples=60, deadline=None)
@given(st.tuples(IDS, st.randoms(use_true_random=False)))
def test_unite_is_the_transitive_closure(drawn):
    first, random = drawn
    second = [random.randrange(6) for _ in first]
    united = unite(np.asarray(first), np.asarray(second))
    linked = [
        [a == c or b == d for c, d in zip(first, second, strict=True)] for a, b in zip(first, second, strict=True)
    ]
    closed = np.asarray(linked)
    for _ in first:
        closed = closed @ closed
    assert np.array_equal(united[:, None] == united[None, :], closed)


def jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return probe({"bytes": stream.getvalue(), "path": None})


def noise(seed, size=64):
    grid = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)


def test_pictures_saved_again_are_near():
    probes = [jpeg(noise(1), 95), jpeg(noise(1), 60), jpeg(noise(1), 95), jpeg(noise(2), 95), jpeg(noise(1, 48), 90)]
    same = same_pictures(probes)
    assert same.exact.tolist() == [0, 1, 0, 2, 3]
    assert same.near.tolist() == [0, 0, 0, 1, 0]


def test_flat_pictures_are_not_near():
    flat = [jpeg(Image.new("RGB", (32, 32), (grey, grey, grey)), 90) for grey in (10, 11, 200)]
    assert len(set(same_pictures(flat).near)) == 3


def test_bands_find_what_comparing_all_finds():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 72))
    nudged = np.clip(base[:20] + rng.integers(-4, 5, (20, 72)), 0, 255)
    thumbs = np.concatenate([base, nudged]).astype(np.int16)
    grid = thumbs.reshape(-1, 8, 9)
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(len(thumbs), -1)
    slow = [
        (a, b)
        for a in range(len(thumbs))
        for b in range(a + 1, len(thumbs))
        if (bits[a] != bits[b]).sum() <= 3 and np.abs(thumbs[a] - thumbs[b]).mean() <= 6
    ]
    assert len(slow) >= 10
    assert [tuple(pair) for pair in near_pairs(thumbs).tolist()] == slow
