"""Makes the tiny models and the toy tasks importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent.parent / "train"
for folder in (HERE, HERE.parent / "backbones"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
