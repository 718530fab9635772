"""What all unit tests share: no window, no randomness between runs, and nothing written in the work tree."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbook.reid.model import ReidModel

# Before fam_lib is imported: caches, figures and executed notebooks of tests go to a folder of their own.
_scratch = tempfile.mkdtemp(prefix="fam-tests-")
atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
for _name in ("CACHE", "FIGURES", "BUILD"):
    os.environ[f"FAM_{_name}"] = os.path.join(_scratch, _name.lower())
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("workbook", derandomize=True, deadline=None, database=None)
settings.load_profile("workbook")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For results that several tests of a file want."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model() -> ReidModel:
    """The toy network of the evaluation's tests; files about other networks have a fixture of their own."""
    from evaluation_toys import tiny_model

    return tiny_model()
