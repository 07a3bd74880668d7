"""What two towers must beat: popularity, item-kNN and EASE, each fitted in closed form to who took what.

Each is a `Scorer`. Order and time play no part in them. Which setting is best is chosen by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from warmstart.core.errors import SettingError

EASE_ITEMS = 8_000  # above, the inverse of an items × items matrix takes too long and too much memory


def matrix(histories: Sequence[np.ndarray], items: int) -> sparse.csr_matrix:
    """Users × items, one where a user took an item."""
    starts = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    columns = np.concatenate([*histories, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    found = sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(histories), items))
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


class Popularity:
    """The same for everyone: how many users took an item."""

    def __init__(self, histories: Sequence[np.ndarray], items: int) -> None:
        self._counts = np.asarray(matrix(histories, items).sum(0), dtype=np.float32).ravel()

    def __call__(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """See `Scorer`."""
        return np.tile(self._counts, (len(histories), 1))


class ItemKNN:
    """Sum of the cosines of an item with those of the history, over its nearest items (Deshpande and Karypis 2004).

    Args:
        histories: of the users to learn from.
        items: number of items.
        neighbours: of each item; farther ones count nothing.
        shrink: added to the product of the norms, so that rare items weigh less.
    """

    def __init__(
        self, histories: Sequence[np.ndarray], items: int, neighbours: int = 200, shrink: float = 10.0
    ) -> None:
        self._items = items
        taken = matrix(histories, items)
        norms = np.sqrt(np.asarray(taken.sum(0), dtype=np.float32)).ravel()
        product = (taken.T @ taken).tocsr()
        rows = np.repeat(np.arange(items), np.diff(product.indptr))
        values = product.data / (norms[rows] * norms[product.indices] + shrink)
        values[rows == product.indices] = 0.0
        product.data = values.astype(np.float32)
        for row in range(items):
            part = slice(product.indptr[row], product.indptr[row + 1])
            if product.indptr[row + 1] - product.indptr[row] > neighbours:
                edge = np.partition(product.data[part], -neighbours)[-neighbours]
                product.data[part][product.data[part] < edge] = 0.0
        product.eliminate_zeros()
        self._near = product.T.tocsr()  # a history's row sums the similarities of each candidate's neighbours

    def __call__(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """See `Scorer`."""
        return np.asarray((matrix(histories, self._items) @ self._near).todense(), dtype=np.float32)


class Ease:
    """The linear model of items on items without self-weights (Steck 2019, arXiv 1905.03375, eq. 8).

    Args:
        histories: of the users to learn from.
        items: number of items.
        penalty: the L2 regularisation, lambda.

    Raises:
        SettingError: there are too many items for the inverse.
    """

    def __init__(self, histories: Sequence[np.ndarray], items: int, penalty: float = 100.0) -> None:
        if items > EASE_ITEMS:
            raise SettingError(f"EASE inverts an items × items matrix: {items:,} items are too many for it.")
        self._items = items
        taken = matrix(histories, items)
        gram = np.asarray((taken.T @ taken).todense(), dtype=np.float64)
        gram[np.diag_indices(items)] += penalty
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(items)] = 0.0
        self.weights = weights.astype(np.float32)

    def __call__(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """See `Scorer`."""
        return np.asarray(matrix(histories, self._items) @ self.weights, dtype=np.float32)
