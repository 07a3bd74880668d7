"""Progressive unfreezing: the head first, then one group at a time from last to first (arXiv 1801.06146, sec. 3.3)."""

from __future__ import annotations

from warmstart.strategies.fine_tune import warm_classifier
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.trained import classifier_groups, rate_plan, train

OPENING_SHARE = 0.6  # of training, within which the last group to open opens


def progressive(context: Context) -> Outcome:
    """Each group opens in its turn, with a warm-up of its own, and stays open."""
    model = warm_classifier(context)
    groups = classifier_groups(model)
    opens_at = equal_stages(len(groups))
    return train(context, model, groups, rate_plan(context, opens_at), {"start": "probe", "opens_at": list(opens_at)})


def equal_stages(groups: int, share: float = OPENING_SHARE) -> tuple[float, ...]:
    """Openings, first group to last, equally spaced: the last group opens at 0, the first at `share`."""
    if groups == 1:
        return (0.0,)
    return tuple(share * (groups - 1 - index) / (groups - 1) for index in range(groups))
