"""What all unit tests share: no window, no randomness between runs, and nothing written in the work tree."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before fam_lib is imported: caches, figures and executed notebooks of tests go to a folder of their own.
_scratch = tempfile.mkdtemp(prefix="fam-tests-")
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
for _name in ("CACHE", "FIGURES", "BUILD"):
    os.environ[f"FAM_{_name}"] = os.path.join(_scratch, _name.lower())
os.environ["MPLBACKEND"] = "Agg"

from hypothesis import settings  # noqa: E402

settings.register_profile("workbook", derandomize=True, deadline=None, database=None)
settings.load_profile("workbook")
