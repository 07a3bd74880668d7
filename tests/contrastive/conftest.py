"""Makes the loops, the tiny models and the toy tasks importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "train", HERE.parent / "backbones"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
