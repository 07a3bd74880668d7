"""How far two sets of inputs are apart: distances between features, and between pixels. Functions of arrays.

A bare distance says nothing, so `scaled` puts each between two worked reference points: what it is where nothing is
far, and where everything is. Which rows these are, and what they are encoded with, is left to `warmstart.verbs.domain`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from warmstart.core.decision import DomainMeasure
from warmstart.core.errors import DataError
from warmstart.core.metrics import Floats
from warmstart.train.probe_solver import solve_probe

Doubles = npt.NDArray[np.float64]
_FEWEST = 8  # rows a side
_LEVELS = 256


def proxy_a_distance(one: Floats, other: Floats, seed: int = 0) -> float:
    """2 (1 - 2 e), where e is the cross-validated error of a linear classifier that tells the two sets apart.

    Ben-David et al. 2007 ("Analysis of Representations for Domain Adaptation", section 4). 0: they cannot be told
    apart; 2: always. Errors above one half are chance and count as 0.

    Args:
        one: features, (rows, width).
        other: features, (other rows, width); the larger set is cut to the size of the smaller.
        seed: of the cut and the folds.

    Raises:
        DataError: for fewer than eight rows on a side, or widths that differ.
    """
    first, second = _even(one, other, seed)
    labels = np.repeat(np.arange(2), len(first))
    found = solve_probe(np.concatenate([first, second]), labels, 2, seed=seed)
    error = float((found.cross_validated_logits.argmax(axis=1) != labels).mean())
    return max(0.0, 2.0 * (1.0 - 2.0 * error))


def mmd_squared(one: Floats, other: Floats, seed: int = 0) -> float:
    """Squared maximum mean discrepancy, unbiased, with a Gaussian kernel as wide as the median distance.

    Gretton et al. 2012 ("A Kernel Two-Sample Test", equation 3 and section 8). About 0 for two draws of one
    distribution, and then as often below it as above; at most 2.

    Args:
        one: features, (rows, width).
        other: features, (other rows, width); the larger set is cut to the size of the smaller.
        seed: of the cut.

    Raises:
        DataError: as `proxy_a_distance`.
    """
    first, second = _even(one, other, seed)
    rows = len(first)
    squares = _squared_distances(np.concatenate([first, second]))  # (2 rows, 2 rows)
    middle = float(np.median(squares[np.triu_indices(2 * rows, 1)]))
    kernel = np.exp(-squares / max(middle, 1e-300))
    within = sum(float(block.sum() - np.trace(block)) for block in (kernel[:rows, :rows], kernel[rows:, rows:]))
    return within / (rows * (rows - 1)) - 2.0 * float(kernel[:rows, rows:].mean())


def frechet_distance(one: Floats, other: Floats, seed: int = 0) -> float:
    """Squared Fréchet distance of two Gaussians with the sets' means and covariances: |m₁-m₂|² + tr(S₁+S₂-2√(S₁S₂)).

    Dowson and Landau 1982; of network features, Heusel et al. 2017 (arXiv 1706.08500, equation 6). Biased upwards for
    few rows, so it is compared only with distances between as many.

    Args:
        one: features, (rows, width).
        other: features, (other rows, width); the larger set is cut to the size of the smaller.
        seed: of the cut.

    Raises:
        DataError: as `proxy_a_distance`.
    """
    first, second = _even(one, other, seed)
    gap = first.mean(axis=0) - second.mean(axis=0)
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (first, second))  # covariances are a'a and b'b
    # The eigenvalues of S₁S₂ = a'a b'b are the squared singular values of a b', a matrix of (rows, rows).
    cross = np.linalg.svd(a @ b.T, compute_uv=False)
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2.0 * cross.sum())


def colour_gap(one: Floats, other: Floats) -> float:
    """How far the colours of one set must be moved to become those of the other, as a share of the whole range.

    The mean over channels of the first Wasserstein distance between the sets' pixel values (on a line, the area
    between the two cumulative histograms).

    Args:
        one: shares of pixels at each level, (channels, 256), each channel summing to 1.
        other: the same.
    """
    steps = np.abs(np.cumsum(one, axis=1) - np.cumsum(other, axis=1))[:, :-1]  # (channels, 255)
    return float(steps.sum(axis=1).mean() / (one.shape[1] - 1))


def pixel_histogram(pictures: list[npt.NDArray[np.uint8]]) -> Doubles:
    """Shares of the pixels at each level, every picture counting the same: (channels, 256).

    Args:
        pictures: each (height, width, channels).
    """
    total = np.zeros((pictures[0].shape[2], _LEVELS))
    for picture in pictures:
        for channel in range(picture.shape[2]):
            counts = np.bincount(picture[:, :, channel].ravel(), minlength=_LEVELS)
            total[channel] += counts / counts.sum()
    return total / len(pictures)


def channel_gap(one: Doubles, other: Doubles) -> float:
    """How far apart the channels' means and deviations are: root mean square over both and all channels, 0 to 1.

    Args:
        one: shares of pixels at each level, (channels, 256).
        other: the same.
    """
    differences = np.concatenate([np.subtract(*pair) for pair in zip(_moments(one), _moments(other), strict=True)])
    return float(np.sqrt((differences**2).mean()))


def _moments(shares: Doubles) -> tuple[Doubles, Doubles]:
    """Mean and deviation of each channel, (channels,), of levels from 0 to 1."""
    levels = np.linspace(0.0, 1.0, shares.shape[1])
    mean = shares @ levels
    return mean, np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0))


def scaled(
    name: str,
    measure: Callable[[Floats, Floats, int], float],
    user: Floats,
    reference: Floats,
    scrambled: Floats,
    far_is: str,
    seed: int = 0,
) -> DomainMeasure:
    """A distance between features of the user's and of the reference rows, with both ends of its scale.

    Near is what is found between two random halves of the reference rows, far what is found between them and the same
    rows scrambled. All three are taken between as many rows, because the distances depend on how many there are.

    Args:
        name: what to call it.
        measure: one of the distances above.
        user: (rows, width).
        reference: (rows, width).
        scrambled: (rows, width).
        far_is: what the scrambled rows are, in words.
        seed: of the halves.

    Raises:
        DataError: for fewer than sixteen reference rows.
    """
    order = np.random.default_rng(seed).permutation(len(reference))
    half = len(order) // 2
    first, second = reference[order[:half]], reference[order[half:]]
    count = min(half, len(user), len(scrambled))
    first, second, user, scrambled = (_cut(rows, count, seed) for rows in (first, second, user, scrambled))
    return DomainMeasure(
        name=name,
        value=measure(user, first, seed),
        near=measure(second, first, seed),
        far=measure(scrambled, first, seed),
        near_is="one half of the reference rows against the other",
        far_is=far_is,
    )


def _cut(rows: Floats, count: int, seed: int) -> Floats:
    if len(rows) <= count:
        return rows
    return rows[np.random.default_rng(seed).permutation(len(rows))[:count]]


def _even(one: Floats, other: Floats, seed: int) -> tuple[Doubles, Doubles]:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise DataError(f"features of shapes {one.shape} and {other.shape} cannot be compared")
    count = min(len(one), len(other))
    if count < _FEWEST:
        raise DataError(f"a distance needs {_FEWEST} rows on either side, not {count}")
    first, second = (np.asarray(_cut(side, count, seed), dtype=np.float64) for side in (one, other))
    return first, second


def _squared_distances(rows: Doubles) -> Doubles:
    norms = (rows**2).sum(axis=1)
    found: Doubles = np.maximum(norms[:, None] + norms - 2.0 * rows @ rows.T, 0.0)
    return found
