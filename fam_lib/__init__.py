"""FAM: visual explanations for feature representations, and measures of what they are worth.

Explaining: :func:`explain` and :func:`explain_all` make maps by a :class:`Method` of :data:`METHODS`; a
:class:`Weighting` of your own makes a method of your own.

Measuring: :func:`extract` gives features, :func:`evaluate` ranks a gallery under :class:`Labels`, :func:`measure` is
Eq. 15 to 17 on the features of :func:`explanation_map`, with :func:`retained_area` beside it, and :func:`summarise`
gives means with intervals.
"""

from fam_lib.explain import Explanation, explain, explain_all
from fam_lib.faithfulness import Faithfulness, measure, paired_difference, retained_area, summarise
from fam_lib.features import cosine_similarity, extract
from fam_lib.localisation import energy_inside, pointing_game, region_share
from fam_lib.masking import explanation_map, explanation_mask, gaussian_blur, top_share_mask
from fam_lib.methods import METHODS, Method
from fam_lib.randomize import execution_order, layer_groups, randomised
from fam_lib.retrieval import Labels, Ranking, cmc, evaluate, mean_ap, top_gallery
from fam_lib.settings import Settings
from fam_lib.weighting import Probe, Weighting

__all__ = [
    "METHODS",
    "Explanation",
    "Faithfulness",
    "Labels",
    "Method",
    "Probe",
    "Ranking",
    "Settings",
    "Weighting",
    "cmc",
    "cosine_similarity",
    "energy_inside",
    "evaluate",
    "execution_order",
    "explain",
    "explain_all",
    "explanation_map",
    "explanation_mask",
    "extract",
    "gaussian_blur",
    "layer_groups",
    "mean_ap",
    "measure",
    "paired_difference",
    "pointing_game",
    "randomised",
    "region_share",
    "retained_area",
    "summarise",
    "top_gallery",
    "top_share_mask",
]
__version__ = "0.2.0"
