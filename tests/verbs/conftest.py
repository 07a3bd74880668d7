"""Makes the pairs of the contrastive tests importable."""

import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "contrastive"
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))
