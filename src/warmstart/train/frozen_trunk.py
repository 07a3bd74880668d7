"""The frozen-trunk cache: what the closed lower groups give for a row is computed once and read from disk afterwards.

While the leading groups are frozen (evaluation mode, no augmentation), their output for a row never changes. The first
pass over a row keeps the outputs after those groups that the schedule will stop at; later passes put them in the place
of the lower groups' own forward passes. Which groups are closed is `unfreezing.py`'s; what is learned is not changed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from warmstart.backbones.groups import Group, called_modules
from warmstart.backbones.text_inputs import Inputs
from warmstart.train.activations import ActivationFile

FOLDER = "frozen-trunk"
"""Name of the folder of activations, and what the names of their notes begin with."""

_HEADROOM = 2**30  # bytes of disk that are left to others
_TOLERANCE = 1e-3  # relative; the same arithmetic in other batch shapes differs by rounding only


class NotCacheableError(Exception):
    """Why a model's lower groups cannot be skipped."""


class Cuts:
    """Where a model can be cut: after group `place`, and which module's output stands for all below.

    Args:
        model: the model, in any mode; it is run on one batch and left as it was.
        groups: its groups, the head last.
        places: the groups to cut after.
        batch: the model's inputs, as `Inputs.batch` gives them.

    Raises:
        NotCacheableError: the model cannot be run with its lower groups skipped.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[Group], places: Sequence[int], batch: dict[str, Tensor]
    ) -> None:
        if len({group.tower for group in groups if group.name != "head"}) > 1:
            raise NotCacheableError("the model has several towers")
        self._modules = [_skippable(model, group) for group in groups]
        self._ends: dict[int, str] = {}
        self._lengths: dict[str, int | None] = {}  # of a module's output, where it is a tuple
        with _undisturbed(model):
            plain = self._trace(model, batch, places)
            for place in self._ends:
                self._try(model, place, batch, plain)

    def __contains__(self, place: int) -> bool:
        """Whether the model is worth cutting after a group: something below it need not run."""
        return place in self._ends

    def skipping(self, model: nn.Module, place: int, value: Tensor) -> contextlib.AbstractContextManager[None]:
        """Within it, the groups up to `place` are not computed: `value` stands for what they give."""
        return _replaced(model, self._below(place), self._ends[place], value, self._lengths)

    @contextlib.contextmanager
    def catching(self, model: nn.Module, places: Sequence[int], keep: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Within it, the output after each place goes to `keep`."""
        ends = [(place, model.get_submodule(self._ends[place])) for place in places]
        handles = [module.register_forward_hook(_catcher(place, keep)) for place, module in ends]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _below(self, place: int) -> list[str]:
        return [name for names in self._modules[: place + 1] for name in names]

    def _trace(self, model: nn.Module, batch: dict[str, Tensor], places: Sequence[int]) -> Any:
        """Run once; note in which order the modules finish, and what kind of thing they give."""
        calls: list[str] = []
        wanted = self._below(max(places))
        handles = [model.get_submodule(name).register_forward_hook(self._noter(name, calls)) for name in wanted]
        try:
            output = model(**batch).logits
        finally:
            for handle in handles:
                handle.remove()
        if len(set(calls)) < len(calls):
            raise NotCacheableError("a block is passed through more than once")
        for place in places:
            below = set(self._below(place))
            done = [name for name in calls if name in below]
            if done:
                self._ends[place] = done[-1]
        if not self._ends:
            raise NotCacheableError("no module's output stands for the lower groups")
        return output

    def _noter(self, name: str, calls: list[str]) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            calls.append(name)
            self._lengths[name] = len(output) if isinstance(output, (tuple, list)) else None

        return note

    def _try(self, model: nn.Module, place: int, batch: dict[str, Tensor], plain: Tensor) -> None:
        """Skip the lower groups once and compare."""
        found: list[Tensor] = []
        with self.catching(model, [place], lambda _place, value: found.append(value)):
            model(**batch)
        rows = len(plain)
        if not found or found[0].dim() < 2 or len(found[0]) != rows:
            raise NotCacheableError("the lower groups give something other than one value per row")
        try:
            with self.skipping(model, place, found[0]):
                again = model(**batch).logits
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise NotCacheableError("the model needs what its lower groups compute on the way") from error
        if not torch.allclose(again, plain, rtol=_TOLERANCE, atol=_TOLERANCE * float(plain.abs().max())):
            raise NotCacheableError("the model reads its lower groups in other places as well")


class FrozenTrunk:
    """The kept activations of one set of rows.

    Args:
        folder: where the files go.
        name: of the set of rows, part of the files' names.
        inputs: the rows.
        cuts: where the model can be cut.
        limit: bytes that the files may take.
        notes: folder of notes that `save` wrote, to go on from.
    """

    def __init__(
        self, folder: Path, name: str, inputs: Inputs, cuts: Cuts, limit: int, notes: Path | None = None
    ) -> None:
        self._folder, self._name, self._lengths, self._cuts, self._limit = folder, name, inputs.lengths, cuts, limit
        self._files: dict[int, ActivationFile] = {}
        self._stale: list[ActivationFile] = []
        self._wanted: list[int] = []
        self.refused, self.most_bytes = "", 0
        folder.mkdir(parents=True, exist_ok=True)
        for note in sorted(notes.glob(f"{FOLDER}-{name}-*.json")) if notes is not None else ():
            place = int(note.stem.rpartition("-")[2])
            file = ActivationFile.reopen(self._path(place), note, self._lengths)
            if file is not None:
                self._files[place] = file

    def enter_stage(self, places: Sequence[int]) -> None:
        """Say which cuts are still to come, the one in force first. Files of others go at the next `tidy`."""
        self._wanted = [place for place in places if place in self._cuts]
        self._stale += [self._files.pop(place) for place in list(self._files) if place not in self._wanted]

    def tidy(self) -> None:
        """Remove the files that no later step reads, nor a run that is resumed from here."""
        while self._stale:
            self._stale.pop().remove()

    @contextlib.contextmanager
    def around(self, model: nn.Module, rows: Sequence[int], batch: dict[str, Tensor]) -> Iterator[None]:
        """Run the model on a batch within this: from the kept activations when all rows have them, else keeping them.

        Args:
            model: the model that the cuts were made on, or a copy of it.
            rows: the batch's row numbers, (batch,).
            batch: the model's inputs.
        """
        if not self._wanted:
            yield
            return
        place = self._wanted[0]
        file = self._files.get(place)
        mask = batch.get("attention_mask")
        if file is not None and file.has(rows):
            value = file.read(rows, None if mask is None else int(mask.shape[1]))
            with self._cuts.skipping(model, place, value.to(next(iter(batch.values())).device)):
                yield
            return
        caught: dict[int, Tensor] = {}
        with self._cuts.catching(model, self._wanted, caught.__setitem__):
            yield
        for at in tuple(self._wanted):
            if self._wanted and at in caught:  # the first may find that there is no room for any
                self._keep(at, rows, caught[at], mask)

    def save(self, notes: Path) -> None:
        """Write down what is kept so far, so that a run resumed from here reads the same values as this one."""
        for place, file in self._files.items():
            file.save(notes / f"{FOLDER}-{self._name}-{place}.json")

    def _path(self, place: int) -> Path:
        return self._folder / f"{self._name}-{place}.bin"

    def _keep(self, place: int, rows: Sequence[int], value: Tensor, mask: Tensor | None) -> None:
        file = self._files.get(place)
        if file is None:
            by_token = mask is not None and value.dim() == 3 and value.shape[1] == mask.shape[1]
            file = ActivationFile(self._path(place), self._lengths, value, by_token=by_token)
            if not self._has_room(file.bytes, first=place == self._wanted[0]):
                return
            file.create()
            self._files[place] = file
            self.most_bytes = max(self.most_bytes, sum(file.bytes for file in self._files.values()))
        file.write(rows, value.detach())

    def _has_room(self, more: int, *, first: bool) -> bool:
        """Whether a file of so many bytes may be made; if not, and nothing can change that, why."""
        free = shutil.disk_usage(self._folder).free - _HEADROOM
        taken = sum(file.bytes for file in (*self._files.values(), *self._stale))
        if taken + more <= self._limit and more <= free:
            return True
        if first and not self._stale:
            short = "the disk has no room" if more > free else f"--cache-gb allows {self._limit / 2**30:.3g}"
            self.refused = f"the lower layers' activations take {(taken + more) / 2**30:.2g} GB, and {short}"
            self._wanted = []
        return False


def _skippable(model: nn.Module, group: Group) -> tuple[str, ...]:
    """The modules of a group that need not run; embeddings do: models read shapes and masks off them."""
    if group.name == "embeddings":
        return ()
    return tuple(path for name in group.modules for path, _ in called_modules(name, model.get_submodule(name)))


def _catcher(place: int, keep: Callable[[int, Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        keep(place, output[0] if isinstance(output, (tuple, list)) else output)

    return hook


@contextlib.contextmanager
def _replaced(
    model: nn.Module, names: Sequence[str], end: str, value: Tensor, lengths: dict[str, int | None]
) -> Iterator[None]:
    """Give modules another forward for a while: the last gives the value, the others hand on what they get."""
    modules = [model.get_submodule(name) for name in names]
    before = [module.__dict__.get("forward") for module in modules]
    try:
        for name, module in zip(names, modules, strict=True):
            module.__dict__["forward"] = _stand_in(value if name == end else None, lengths.get(name))
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = own


def _stand_in(value: Tensor | None, length: int | None) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        result = given if value is None else value
        return result if length is None else (result, *[None] * (length - 1))

    return forward


@contextlib.contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, every module's own mode restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
