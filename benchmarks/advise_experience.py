"""Write what `advise` learned from: the committed cells of `advise_regret.py` → src/warmstart/decide/experience.json.

python benchmarks/advise_experience.py
"""

from __future__ import annotations

import json
import sys

import advise_regret as regret
import contract

from warmstart.core.files import write_text

TARGET = contract.RESULTS.parents[1] / "src" / "warmstart" / "decide" / "experience.json"


def main() -> None:
    cells = {path.stem: json.loads(path.read_text()) for path in (contract.RESULTS / "advise_regret").glob("*.json")}
    done = regret.cases(cells)
    if not done:
        sys.exit("No case of advise_regret is complete: run python benchmarks/advise_regret.py first.")
    lines = ",\n".join(" " + json.dumps(entry.to_dict()) for entry in regret.observations(done))
    write_text(TARGET, f"[\n{lines}\n]\n")
    print(f"{lines.count(chr(10)) + 1} outcomes of {len(done)} cases: {TARGET.name}")


if __name__ == "__main__":
    main()
