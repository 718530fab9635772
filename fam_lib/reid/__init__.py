"""Person re-identification: data in Market1501's layout, the bag-of-tricks network, its training and
features."""

from fam_lib.reid.config import TrainConfig
from fam_lib.reid.data import ImageSet, ReidData, load_market_layout
from fam_lib.reid.features import RetrievalScores, extract_features, retrieval_scores
from fam_lib.reid.model import IdentityClassifier, ReidModel
from fam_lib.reid.prepare import prepare, untrained
from fam_lib.reid.queries import Queries, load_queries
from fam_lib.reid.training import train

__all__ = [
    "IdentityClassifier",
    "ImageSet",
    "Queries",
    "ReidData",
    "ReidModel",
    "RetrievalScores",
    "TrainConfig",
    "extract_features",
    "load_market_layout",
    "load_queries",
    "prepare",
    "retrieval_scores",
    "train",
    "untrained",
]
