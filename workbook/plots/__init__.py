"""Figures: tensors or arrays in, a figure out. Nothing here calls a model, reads a file or saves one.

`paper` holds the paper's figures, `charts`, `lead`, `sanity` and `byol` the figures of numbers, `overlays` what the
pictures are made of, `style` the look, `canvas` the geometry of a page.
"""

from workbook.plots.byol import fig_byol_pretexts, fig_byol_trend
from workbook.plots.charts import (
    effective_channels,
    fig_agreement,
    fig_correlation,
    fig_curves,
    fig_metrics,
    fig_weights,
)
from workbook.plots.lead import fig_lead
from workbook.plots.overlays import image_grid, overlay
from workbook.plots.paper import (
    fig1_motivation,
    fig2_pipeline,
    fig3_explanation_maps,
    fig4_methods,
    fig_method_grid,
    fig_rank_list,
    pick_channels,
)
from workbook.plots.sanity import fig_sanity_curves
from workbook.plots.style import use_look

__all__ = [
    "effective_channels",
    "fig1_motivation",
    "fig2_pipeline",
    "fig3_explanation_maps",
    "fig4_methods",
    "fig_agreement",
    "fig_byol_pretexts",
    "fig_byol_trend",
    "fig_correlation",
    "fig_curves",
    "fig_lead",
    "fig_method_grid",
    "fig_metrics",
    "fig_rank_list",
    "fig_sanity_curves",
    "fig_weights",
    "image_grid",
    "overlay",
    "pick_channels",
    "use_look",
]
