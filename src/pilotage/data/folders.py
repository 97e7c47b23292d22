"""Where things made once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Of starts and other things made once: $PILOTAGE_CACHE, else ~/.cache/pilotage."""
    return Path(os.environ.get("PILOTAGE_CACHE") or Path.home() / ".cache" / "pilotage")


def data_folder() -> Path:
    """Of data sets: $PILOTAGE_DATA, else `datasets` in the cache folder."""
    return Path(os.environ.get("PILOTAGE_DATA") or cache_folder() / "datasets")
