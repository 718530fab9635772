"""BYOL (Grill et al., 2020): a feature extractor learned without a label, for Section 4.4 and Figure 6.

Two networks look at two random views of an image. The *online* network (backbone, projector, predictor) is
trained to predict what the *target* network (backbone, projector) says about the other view; the target is a
slow average of the online one and gets no gradient. Heads, loss, views, momentum update, LARS and schedules are
lightly's; devices, precision and processes are Lightning Fabric's; the backbone is any of timm's.

What is explained afterwards is the **online backbone** in eval mode, without the heads. That is the part that
is kept, it has no classifier, and FAM needs none.

SimCLR (Chen et al., 2020) is a second pretext task through the same training, so that tasks can be compared.
"""

from fam_lib.byol.analysis import (
    changes_table,
    checkpoint_table,
    explain_checkpoints,
    extract,
    knn_correct,
    measure,
    measure_maps,
)
from fam_lib.byol.config import PAPER, PRETEXTS, QUICK, STREET, STREET_HRNET, BYOLConfig
from fam_lib.byol.experiments import EXPERIMENTS, Experiment, Quiz, imagenet, open_experiment, synthetic
from fam_lib.byol.footage import Footage, watch
from fam_lib.byol.network import (
    BYOL,
    SimCLR,
    byol_loss,
    make_backbone,
    make_network,
    make_optimiser,
    peak_rate,
    rate_at,
    simclr_loss,
    tau_at,
)
from fam_lib.byol.pictures import PictureFolder, StreetPhotos, box_masks, open_classes, read_street_photos
from fam_lib.byol.pretexts import over_seeds, pretext_table, run_pretexts
from fam_lib.byol.probe import linear_probe, probe_table
from fam_lib.byol.training import Checkpoint, describe, milestones, spread, train_byol, untrained
from fam_lib.byol.views import Views, batches, make_views, normalise

__all__ = [
    "BYOL",
    "EXPERIMENTS",
    "PAPER",
    "PRETEXTS",
    "QUICK",
    "STREET",
    "STREET_HRNET",
    "BYOLConfig",
    "Checkpoint",
    "Experiment",
    "Footage",
    "PictureFolder",
    "Quiz",
    "SimCLR",
    "StreetPhotos",
    "Views",
    "batches",
    "box_masks",
    "byol_loss",
    "changes_table",
    "checkpoint_table",
    "describe",
    "explain_checkpoints",
    "extract",
    "imagenet",
    "knn_correct",
    "linear_probe",
    "make_backbone",
    "make_network",
    "make_optimiser",
    "make_views",
    "measure",
    "measure_maps",
    "milestones",
    "normalise",
    "open_classes",
    "open_experiment",
    "over_seeds",
    "peak_rate",
    "pretext_table",
    "probe_table",
    "rate_at",
    "read_street_photos",
    "run_pretexts",
    "simclr_loss",
    "spread",
    "synthetic",
    "tau_at",
    "train_byol",
    "untrained",
    "watch",
]
