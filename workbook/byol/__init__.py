"""BYOL (Grill et al., 2020): a feature extractor learned without a label, for Section 4.4 and Figure 6.

Two networks look at two random views of an image. The *online* network (backbone, projector, predictor) is
trained to predict what the *target* network (backbone, projector) says about the other view; the target is a
slow average of the online one and gets no gradient. Heads, loss, views, momentum update, LARS and schedules are
lightly's; devices, precision and processes are Lightning Fabric's; the backbone is any of timm's.

What is explained afterwards is the **online backbone** in eval mode, without the heads. That is the part that
is kept, it has no classifier, and FAM needs none.

SimCLR (Chen et al., 2020) is a second pretext task through the same training, so that tasks can be compared.
"""

from workbook.byol.analysis import changes_table, checkpoint_table, explain_checkpoints, extract, measure_maps
from workbook.byol.checkpoints import checkpoints
from workbook.byol.config import PAPER
from workbook.byol.experiments import open_experiment, synthetic
from workbook.byol.network import BYOL, byol_loss
from workbook.byol.pretexts import pretext_table, run_pretexts
from workbook.byol.probe import linear_probe, probe_table
from workbook.byol.training import describe, train_byol
from workbook.byol.views import Views

__all__ = [
    "BYOL",
    "PAPER",
    "Views",
    "byol_loss",
    "changes_table",
    "checkpoint_table",
    "checkpoints",
    "describe",
    "explain_checkpoints",
    "extract",
    "linear_probe",
    "measure_maps",
    "open_experiment",
    "pretext_table",
    "probe_table",
    "run_pretexts",
    "synthetic",
    "train_byol",
]
