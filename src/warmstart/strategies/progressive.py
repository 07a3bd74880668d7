"""Progressive unfreezing: the head first, then one group at a time from last to first (arXiv 1801.06146, sec. 3.3).

When each group opens is data (`train/unfreezing.py`): equal stages, a plateau of the validation score, or as given.
"""

from __future__ import annotations

from warmstart.strategies.fine_tune import warm_classifier
from warmstart.strategies.protocol import Context, Outcome
from warmstart.strategies.trained import classifier_groups, rate_plan, train


def progressive(context: Context) -> Outcome:
    """Each group opens in its turn, with a warm-up of its own, and stays open."""
    model = warm_classifier(context)
    unfreezing = context.settings.unfreezing
    plan = rate_plan(context, unfreezing)
    return train(context, model, classifier_groups(model), plan, {"start": "probe", "unfreezing": unfreezing.kind})
