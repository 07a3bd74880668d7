"""How often a candidate is expected in a pool: a streaming estimate of item frequency, and the log-Q of mixed pools.

Sampled softmax divides the share of every drawn candidate by how often it is expected to be drawn (Bengio and Senécal
2008). The numbers here are expected counts in one pool: `draws · probability`, summed over all the ways in which a
candidate may get there. So the same item has the same correction wherever in a mixed pool it came from (the balance
heuristic; tensorflow/recommenders#635 corrects each part by itself).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor

from warmstart.core.errors import SettingError


class FrequencyEstimator:
    """Estimates from the stream of training rows how probable each item is in a draw (Yi et al. 2019, algorithm 2).

    What is averaged is the gap, in rows, between two appearances of an item; its inverse is the probability. Plain
    means at first and a moving average later; the logarithm is corrected for the bias that the inverse of a mean of few
    gaps has, ψ(k) − log k. An item never seen is taken to have its first appearance now.

    Args:
        items: ids are 0 to `items − 1`.
        decay: weight of the newest gap once there are 1 / decay of them; smaller is steadier, larger follows drift.
    """

    def __init__(self, items: int, decay: float = 0.01) -> None:
        if items < 1 or not 0 < decay <= 1:
            raise SettingError(f"A frequency estimate needs items and a decay in (0, 1]; it has {items} and {decay}.")
        self.decay = decay
        self.rows = 0
        self._last = np.zeros(items, dtype=np.int64)  # row of the last appearance, counted from 1; 0: none
        self._gap = np.zeros(items, dtype=np.float64)
        self._seen = np.zeros(items, dtype=np.int64)

    def update(self, ids: Tensor | np.ndarray) -> None:
        """Take in the items of some rows, (rows,), in the order in which they were drawn."""
        for item in np.asarray(ids).tolist():
            self.rows += 1
            self._seen[item] += 1
            weight = max(self.decay, 1.0 / self._seen[item])
            self._gap[item] += weight * (self.rows - self._last[item] - self._gap[item])
            self._last[item] = self.rows

    def log_probability(self, ids: Tensor) -> Tensor:
        """Log of the probability of each item in one draw, (ids,)."""
        places = ids.cpu().numpy()
        seen = self._seen[places]
        gap = np.where(seen > 0, self._gap[places], max(1, self.rows))
        effective = np.minimum(np.maximum(seen, 1), 2.0 / self.decay - 1)  # gaps that a moving average is worth
        log_gap = np.log(gap) - (digamma(effective) - np.log(effective))
        return torch.from_numpy(np.minimum(-log_gap, 0.0)).to(ids.device)

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed training needs."""
        values = {"last": self._last, "gap": self._gap, "seen": self._seen, "rows": np.array(self.rows)}
        return {name: torch.from_numpy(np.array(value)) for name, value in values.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self._last, self._gap, self._seen = (state[name].numpy().copy() for name in ("last", "gap", "seen"))
        self.rows = int(state["rows"])


def pool_log_q(*parts: tuple[int, Tensor]) -> Tensor:
    """Log of the expected count of each candidate in a pool that is drawn in several ways at once, (candidates,).

    In a batch of B rows with M uniform negatives out of N items, a query's pool is B − 1 draws by popularity and M
    draws with probability 1/N: `pool_log_q((B - 1, log_p), (M, uniform))`, `uniform` being −log N for every candidate.
    The positive of the row is not drawn; `info_nce` leaves it uncorrected. Draws that hit the positive again must be
    excluded (`masks.same`); the counts stay those of all draws.

    Args:
        parts: for each way, how many draws, and the log-probability of each candidate in one draw, (candidates,).

    Raises:
        SettingError: there is no draw at all.
    """
    drawn = [(count, log_p) for count, log_p in parts if count > 0]
    if not drawn:
        raise SettingError("A pool that nothing was drawn for has no expected counts.")
    return torch.stack([np.log(count) + log_p for count, log_p in drawn]).logsumexp(0)


def presence_log_q(log_counts: Tensor) -> Tensor:
    """Log of the probability that a candidate is in a pool that holds each candidate once, (candidates,).

    With many small chances the number of draws of a candidate is Poisson, so the chance of one or more is
    1 − exp(−expected count) (the Horvitz-Thompson weight of a sample without its repeats).

    Args:
        log_counts: `pool_log_q`, (candidates,).
    """
    return torch.log(-torch.expm1(-log_counts.exp()))
