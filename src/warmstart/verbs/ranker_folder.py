"""The result of `ranker` on disk and in use: the model, item vectors, what events say of pairs of items, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from warmstart.core.errors import DataError, ResultError
from warmstart.core.files import check_digests, write_text
from warmstart.core.recommend import RankerRecord
from warmstart.retrieve.candidates import make_lists
from warmstart.retrieve.evidence import Evidence
from warmstart.retrieve.ranker import Ranker, RankerConfig
from warmstart.verbs.predict import RESULTS
from warmstart.verbs.two_tower_folder import CONFIG, WEIGHTS, read_record

EVIDENCE = "evidence.safetensors"


@dataclass(frozen=True)
class LoadedRanker:
    """A trained ranker with everything that it reads.

    Attributes:
        model: the transformer.
        evidence: counts of all events that the towers' folder held.
        towers: file of the towers → its digest; see `check_towers`.
    """

    model: Ranker
    evidence: Evidence
    towers: dict[str, str]

    def scores(
        self, history: Sequence[int], candidates: npt.NDArray[np.int64], retrieved: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Scores of candidates, higher is better, (candidates,); the candidates' order does not matter.

        Args:
            history: the towers' item numbers, oldest first; the latest `max_history` are read.
            candidates: item numbers, each once, (candidates,).
            retrieved: inner products of the query with the candidates' vectors, (candidates,).

        Raises:
            DataError: the history is empty, an item is not known, or the arrays do not fit together.
        """
        items, values = np.asarray(candidates, dtype=np.int64), np.asarray(retrieved, dtype=np.float32)
        read = np.asarray(history, dtype=np.int64)
        if items.ndim != 1 or items.shape != values.shape:
            raise DataError(f"there are {items.shape} candidates and {values.shape} scores of them")
        if len(read) == 0:
            raise DataError("the history is empty: there is nothing to rank by")
        if not len(items):
            return np.zeros(0, dtype=np.float32)
        for what, numbers in (("history", read), ("candidates", items)):
            if numbers.min() < 0 or numbers.max() >= self.evidence.items:
                raise DataError(f"the {what} hold an item that is none of the {self.evidence.items:,} that are known")
        if len(np.unique(items)) < len(items):
            raise DataError("a candidate is there twice")
        if not np.isfinite(values).all():
            raise DataError("a score of the retriever is not finite")
        lists = make_lists([read], items[None], values[None], self.evidence, self.model.shape.max_history)
        with torch.inference_mode():
            return np.asarray(self.model(lists)[0].numpy())

    def check_towers(self, folder: str | Path) -> None:
        """Whether a result of `contrast two-tower` is the one that the ranker was trained for.

        Raises:
            ResultError: it is another one.
        """
        files = read_record(Path(folder).expanduser()).files
        if any(files.get(name) != digest for name, digest in self.towers.items()):
            raise ResultError(f"This ranker was trained for other towers than those in {folder}.")


def save_ranker(folder: Path, ranker: LoadedRanker) -> None:
    """Write everything but the record into an empty folder."""
    write_text(folder / CONFIG, ranker.model.shape.to_json())
    save_file({name: value.contiguous() for name, value in ranker.model.state_dict().items()}, folder / WEIGHTS)
    evidence = ranker.evidence
    arrays = {
        "counts": evidence.counts,
        "starts": evidence.starts,
        "others": evidence.others.astype(np.int32),
        "values": evidence.values,
    }
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}, folder / EVIDENCE
    )


def load_ranker(result: str | Path, towers: str | Path | None = None) -> LoadedRanker:
    """Load a result of `ranker`.

    Args:
        result: its folder.
        towers: the result of `contrast two-tower` that it is to be used with; None leaves that unchecked.

    Raises:
        ResultError: the folder is none, is incomplete, was altered, or goes with other towers.
    """
    folder = Path(result).expanduser()
    if not (folder / RESULTS).is_file():
        raise ResultError(f"{folder} holds no result: {RESULTS} is not there.")
    try:
        record = RankerRecord.from_json((folder / RESULTS).read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{folder} is no result of ranker.") from error
    check_digests(folder, record.files)
    found = read_ranker(folder, record.towers)
    if towers is not None:
        found.check_towers(towers)
    return found


def read_ranker(folder: Path, towers: dict[str, str]) -> LoadedRanker:
    """What `save_ranker` wrote, unchecked."""
    try:
        config = RankerConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
        weights, kept = load_file(folder / WEIGHTS), load_file(folder / EVIDENCE)
        model = Ranker(config, weights["vectors"])
        model.load_state_dict(weights)
        arrays = {name: kept[name].numpy() for name in ("counts", "starts", "others", "values")}
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ResultError(f"{folder} cannot be read ({str(error).splitlines()[0]}).") from error
    evidence = Evidence(arrays["counts"], arrays["starts"], arrays["others"].astype(np.int64), arrays["values"])
    return LoadedRanker(model.eval(), evidence, towers)
