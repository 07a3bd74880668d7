"""What a strategy kept of the original model, in sentences. Records in, text out; the chart is in `training_plots`."""

from __future__ import annotations

from collections.abc import Sequence

from warmstart.core.records import Ability, Forgetting, GroupDrift, StrategyRun
from warmstart.report import formats
from warmstart.report.training_plots import drift_name

_NEIGHBOURS = 10


def kept_sentence(runs: Sequence[StrategyRun]) -> str:
    """The share of neighbours kept: Fine-tuning keeps 71 % of each reference row's 10 nearest neighbours.

    Args:
        runs: of one strategy; the mean over its seeds is told.

    Returns:
        Nothing when it was not measured.
    """
    share = _mean([found.neighbours_kept for found in _measured(runs)])
    if share is None:
        return ""
    name = formats.strategy_name(runs[0].strategy)
    return f"{name} keeps {_whole(share)} of each reference row's {_NEIGHBOURS} nearest neighbours."


def sentences(runs: Sequence[StrategyRun]) -> tuple[str, ...]:
    """All that was measured of what the runs of one strategy forgot; empty when nothing was."""
    found = _measured(runs)
    if not found:
        return ()
    first = found[0]
    lines = [kept_sentence(runs), _rows(first)]
    for place, ability in enumerate(first.abilities):
        after = _mean([one.abilities[place].after for one in found if len(one.abilities) > place])
        lines.append(_ability(ability, after))
    lines.append(_farthest(first.groups))
    lines.extend(note if note.endswith(".") else f"{note}." for note in first.notes)
    return tuple(line for line in lines if line)


def _measured(runs: Sequence[StrategyRun]) -> list[Forgetting]:
    return [run.forgetting for run in runs if run.forgetting is not None]


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if formats.finite(value)]
    return sum(known) / len(known) if known else None


def _rows(found: Forgetting) -> str:
    what = f"{formats.count(found.rows)} rows: {found.reference}"
    if found.rows <= _NEIGHBOURS + 1:
        return f"Measured on {what}."
    chance = _NEIGHBOURS / (found.rows - 1)
    return f"Measured on {what}; features that have nothing in common with the original's would keep {_whole(chance)}."


def _ability(ability: Ability, after: float | None) -> str:
    if after is None or not formats.finite(ability.before):
        return ""
    show = formats.percent if "accuracy" in ability.name else formats.number
    better = "higher" if ability.higher_is_better else "lower"
    name = ability.name[:1].upper() + ability.name[1:]
    return f"{name} went from {show(ability.before)} to {show(after)}; {better} is better."


def _farthest(groups: Sequence[GroupDrift]) -> str:
    """The group whose activations are least like the original's."""
    known = [row for row in groups if formats.finite(row.cka)]
    if not known:
        return ""
    row = min(known, key=lambda row: row.cka)
    moved = f", weights moved by {formats.percent(row.weight_distance)} of their length"
    return (
        f"The group that changed most is {drift_name(row)}: CKA {row.cka:.2f}"
        f"{moved if formats.finite(row.weight_distance) else ''}."
    )


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"
