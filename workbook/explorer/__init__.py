"""Panels to explore explanations live: :func:`explorer` for one image, :func:`match_explorer` for a rank list.

`views` and `matches` do the work and draw it, and know nothing of widgets; `job` runs it beside the kernel;
`panels` holds the controls. :func:`static_explorer` and :func:`fig_matches` are for readers without a kernel.
"""

from workbook.explorer.matches import fig_matches, look_at_matches, rank_lists
from workbook.explorer.panels import explorer, match_explorer
from workbook.explorer.views import static_explorer

__all__ = [
    "explorer",
    "fig_matches",
    "look_at_matches",
    "match_explorer",
    "rank_lists",
    "static_explorer",
]
