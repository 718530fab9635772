"""How nbval compares the committed notebooks; the unit tests have their own settings in tests/conftest.py."""

from __future__ import annotations

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """Compare texts only: HTML carries random ids, and pictures are checked by their sha256 elsewhere."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("text/html", "image/svg+xml")
