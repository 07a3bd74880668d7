"""Features kept on disk, one file per (weights, data, preprocessing, precision); the newest stay within a limit."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_BYTES = 5 << 30
_STALE_SECONDS = 3600.0


class FeatureCache:
    """A folder of float32 arrays named by the digest of what made them.

    Args:
        root: the folder; made when first written to.
        limit: total size in bytes; the least recently used files go first.
    """

    def __init__(self, root: Path, limit: int = LIMIT_BYTES) -> None:
        self.root, self.limit = root / "features", limit

    def key(self, parts: dict[str, Any]) -> str:
        """Digest of everything that determines the features."""
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> np.ndarray | None:
        """The array, or None when it is absent or damaged."""
        path = self.root / f"{key}.npy"
        try:
            with path.open("rb") as file:
                found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            os.utime(path)
        except (OSError, ValueError, EOFError, MemoryError):  # a damaged header can ask for any size
            return None
        return found

    def put(self, key: str, features: np.ndarray) -> None:
        """Keep an array; a full disk only means that it is computed again next time."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, suffix=".part", delete=False) as file:
                part = Path(file.name)
                try:
                    np.save(file, features, allow_pickle=False)
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise
            part.replace(self.root / f"{key}.npy")
            self._trim()
        except OSError:
            return

    def _trim(self) -> None:
        for path in self.root.glob("*.part"):  # of processes that were killed
            if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                path.unlink(missing_ok=True)
        files = sorted(self.root.glob("*.npy"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > self.limit:
                path.unlink(missing_ok=True)
