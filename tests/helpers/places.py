"""Where this repository and the public data of its tests lie."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HPCAUXVAE_TEST_DATA", ROOT.parent / "shared" / "data"))
