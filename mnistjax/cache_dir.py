"""Where prepared data is kept between runs."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """`$MNISTJAX_CACHE`, else the cache directory of this user and system."""
    return Path(os.environ.get("MNISTJAX_CACHE") or platformdirs.user_cache_path("mnistjax"))
