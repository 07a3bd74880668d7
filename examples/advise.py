"""Which strategy fits 150 labelled reviews and a budget of two minutes, and why. `python examples/advise.py`."""

from __future__ import annotations

import warmstart


def main() -> None:
    """Print the plan, its evidence and the forecasts."""
    plan = warmstart.advise(data="sample:reviews", drop_invalid=True, train_size=150, test_size=100, time_budget=120)
    print(f"Plan: {plan.strategy}, else {plan.runner_up}")
    for line in plan.reasons:
        print(f"- {line}")
    for line in plan.would_change:
        print(f"- What would change it: {line}")
    evidence = plan.evidence
    print(f"Majority {evidence.majority:.3f}, TF-IDF {evidence.tfidf}, kNN {evidence.knn}, probe {evidence.probe}")
    for forecast in plan.forecasts:
        ruled = "" if forecast.allowed else "ruled out: "
        print(f"{forecast.strategy:14} {forecast.score}  {forecast.seconds:6.1f} s  {ruled}{forecast.reason}")


if __name__ == "__main__":
    main()
