"""The paper's empirical claims, each in a sentence of ours with the place where it is made and the rule for it."""

from __future__ import annotations

from dataclasses import dataclass

from workbook.claims.rules import (
    DROPS,
    EMPTY_MAPS,
    FAM,
    MUCH_SLOWER,
    SIMILAR_RETRIEVAL,
    Judge,
    affordable,
    beats,
    changes_with_weights,
    curves_beat,
    default_is_best,
    differ,
    finds_parts,
    follows_weights,
    ignores_area,
    localises,
    much_slower,
    needs_no_classifier,
    notices_foreground,
    order_stays,
    retrieves_alike,
    stays_alike,
    untestable,
)
from workbook.reid.motivation import CLASS_MAPS, PAIR_MAPS, UNIFORM_MAPS

CONTROL = "control (ours)"  # where a row is made that the paper does not claim, but that its claims rest on

EARLIER = ("grad-cam", "score-cam", "ram", "cg-ram")
RIVALS = (*EARLIER, "grad-fam")  # of Score-FAM
PAPER_METHODS = (*EARLIER, *FAM)


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        id: a short name that stays.
        text: the claim in our own words.
        where: the places of the paper where it is made, or :data:`CONTROL`.
        measured: the reading of the claim that the judge decides, in words.
        judge: the rule: tables to verdict and evidence.
    """

    id: str
    text: str
    where: str
    measured: str
    judge: Judge


_TABLE2 = "Sec. 4.2, Table 2"

CLAIMS = (
    Claim(
        "lead-as-drop",
        "Of the six methods, Score-FAM's explanation maps lose the least similarity to the person's images.",
        "abstract, Sec. 1, 4.2, 5, Table 2",
        "AS drop of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("as_drop",)),
    ),
    Claim(
        "lead-ap-drop",
        "Of the six methods, Score-FAM's explanation maps lose the least average precision.",
        "abstract, Sec. 1, 4.2, 5, Table 2",
        "AP drop of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("ap_drop",)),
    ),
    Claim(
        "lead-ap-increase",
        "Of the six methods, Score-FAM's explanation maps most often retrieve better than the original.",
        _TABLE2,
        "AP increase of Score-FAM against each of the other five methods",
        beats(("score-fam",), RIVALS, ("ap_increase",)),
    ),
    Claim(
        "lead-large",
        "Score-FAM leads the other methods by a large margin on all three metrics.",
        "Sec. 1, 4.2, 5, Table 2",
        "the three leads by Eq. 14, each above half of the paper's smallest one as a share of the rival's score; at "
        "equal area their direction",
        beats(("score-fam",), RIVALS, large=True),
    ),
    Claim(
        "retrieves-alike",
        "Score-FAM's explanation maps retrieve much as the originals do: the feature depends almost entirely on the "
        "regions that Score-FAM marks.",
        _TABLE2,
        f"AP drop of Score-FAM below the paper's larger one, {SIMILAR_RETRIEVAL} %; at equal area below that of a map "
        "of noise",
        retrieves_alike,
    ),
    Claim(
        "grad-fam-beats-ram",
        "Grad-FAM explains better than RAM.",
        _TABLE2,
        "the three metrics of Grad-FAM against RAM",
        beats(("grad-fam",), ("ram",)),
    ),
    Claim(
        "own-reference",
        "The image itself is a better reference for its explanation than another image.",
        "Sec. 3.1, 4.2",
        "the three metrics of Grad-FAM against Grad-RAM, which differ in the reference only",
        beats(("grad-fam",), ("grad-ram",)),
    ),
    Claim(
        "class-maps-worse",
        "Grad-CAM and Score-CAM, asked for a training identity, do much worse than RAM on all metrics.",
        _TABLE2,
        "the three metrics of RAM against both by Eq. 14, each lead above half of the paper's smallest one as a share "
        "of the rival's score; at equal area the direction",
        beats(("ram",), ("grad-cam", "score-cam"), large=True),
    ),
    Claim(
        "class-maps-meaningless",
        "Explanations by training identities mean nothing for images of new people.",
        "Sec. 1, 2.1, 4.2",
        "both drops of a map of noise smaller than those of Grad-CAM and Score-CAM",
        beats(("random-map",), ("grad-cam", "score-cam"), DROPS),
    ),
    Claim(
        "cg-ram-worst",
        "CG-RAM is the worst of the six methods: the gradient of the cosine is no good for explaining.",
        "Sec. 3.1, 4.2, Table 2",
        "both drops of CG-RAM against each of the other five (by AP increase it is not last in the paper's Table 2)",
        beats(tuple(name for name in PAPER_METHODS if name != "cg-ram"), ("cg-ram",), DROPS),
    ),
    Claim(
        "class-dependence",
        "Score-CAM shows what resembles the training identity that it is asked for, not the person.",
        "Sec. 1, Fig. 1 b",
        "correlation between the Score-CAM maps of the three best classes; maps differ if they are no more alike than "
        "those of two people",
        differ(CLASS_MAPS, "score-cam"),
    ),
    Claim(
        "pair-dependence",
        "RAM gives quite different maps of an image for different gallery images.",
        "Sec. 1, Fig. 1 c",
        "correlation between the RAM maps of the three best gallery images; maps differ if they are no more alike than "
        "those of two people",
        differ(PAIR_MAPS, "ram"),
    ),
    Claim(
        "finds-what-counts",
        "Unlike earlier methods, FAM finds the regions that contribute most to the feature itself.",
        "abstract, Sec. 1, 4.2, 5",
        "areas under the insertion and deletion curves of the feature's cosine, Grad-FAM and Score-FAM against each of "
        "the four earlier methods",
        curves_beat(FAM, EARLIER),
    ),
    Claim(
        "finds-parts",
        "Score-FAM points out the parts of the person that tell it from others.",
        _TABLE2,
        "energy of Score-FAM inside the distinguishing parts, against an even spread of its energy over the person",
        finds_parts,
    ),
    Claim(
        "pictures",
        "Maps kept by Eq. 14 suit the eye better than a fixed share of pixels, and Score-FAM marks regions that the "
        "other methods overlook.",
        "Sec. 4.2, Fig. 3, Fig. 4",
        "nothing",
        untestable("a matter of looking: no table measures it"),
    ),
    Claim(
        "scores-matter",
        "The similarity score of a channel tells how important it is for the feature.",
        "Sec. 3.2, Eq. 10",
        "both drops of Score-FAM against random weights of the same channels",
        beats(("score-fam",), ("random-weights",), DROPS),
    ),
    Claim(
        "softmax",
        "The softmax of the scores is a sound choice of weights.",
        "Sec. 3.2, Eq. 13",
        "both drops of Score-FAM with its default weights against every other setting of the ablation",
        default_is_best("weights", ("score-fam",)),
    ),
    Claim(
        "last-layer",
        "The last convolutional layer is usually the best one to explain.",
        "Sec. 3.2",
        "both drops of Grad-FAM and Score-FAM at the default layer against every other layer of the ablation",
        default_is_best("layer", FAM),
    ),
    Claim(
        "thresholds-fair",
        "The thresholds of Eq. 14 are a little arbitrary, but the comparison of methods is fair.",
        "Sec. 4.2",
        "every difference of two methods in a drop that is established with the default thresholds, with the others "
        "(changed by the paired changes of both drops)",
        order_stays("thresholds"),
    ),
    Claim(
        "sensitive-to-masking",
        "Taking away a tenth of the input's values already changes the retrieval.",
        "Sec. 4.2",
        "nothing",
        untestable("no table masks the whole image by 10 %"),
    ),
    Claim(
        "time-ratio",
        "Score-FAM takes much more time than Grad-FAM.",
        "Sec. 3.2, Table 1",
        f"ratio of the seconds for an image (slowest and fastest run as interval), above {MUCH_SLOWER}",
        much_slower,
    ),
    Claim(
        "time-acceptable",
        "The time of Score-FAM is acceptable for a few images.",
        "Sec. 3.2, Table 1",
        "seconds for an image, below the paper's own (slowest and fastest run as interval)",
        affordable,
    ),
    Claim(
        "sanity",
        "Grad-FAM and Score-FAM pass the sanity check: their maps change as the weights are made random.",
        "Sec. 4.3, Fig. 5",
        "rank correlation with the original maps when all layers are random; maps have changed if they are no more "
        "alike than those of two people",
        changes_with_weights(FAM),
    ),
    Claim(
        "map-quality",
        "The quality of a map reflects the quality of the model.",
        "Sec. 4.3",
        "nothing",
        untestable("no table sets the quality of maps against that of models"),
    ),
    Claim(
        "byol-foreground",
        "Early in BYOL's training, objects in the foreground already get much attention.",
        "Sec. 4.4, Fig. 6",
        "paired change of Grad-FAM's energy on the foreground, last map, untrained network to first checkpoint",
        notices_foreground,
    ),
    Claim(
        "byol-localises",
        "As BYOL goes on, attention leaves the background and gathers in a small region.",
        "Sec. 4.4, Fig. 6",
        "paired changes of Grad-FAM's last map, first checkpoint to last: energy on the foreground rises, area falls",
        localises,
    ),
    Claim(
        "no-classifier",
        "FAM explains self-supervised networks without a classifier being trained for it.",
        "abstract, Sec. 1, 4.4, 5",
        f"empty maps of Grad-FAM and Score-FAM at every checkpoint, at most {EMPTY_MAPS} %",
        needs_no_classifier,
    ),
    Claim(
        "control-noise",
        "A map of noise scores worse than the methods.",
        CONTROL,
        "both drops of each of the six methods against a map of noise",
        beats(PAPER_METHODS, ("random-map",), DROPS),
    ),
    Claim(
        "control-uniform",
        "The mean of the activations, which costs one forward pass, scores worse than Score-FAM.",
        CONTROL,
        "both drops of Score-FAM against uniform weights",
        beats(("score-fam",), ("uniform",), DROPS),
    ),
    Claim(
        "control-same-picture",
        "Score-FAM shows something else than the mean of the activations.",
        CONTROL,
        "correlation between the two maps; they differ if they are no more alike than the means of two people",
        differ(UNIFORM_MAPS, "uniform"),
    ),
    Claim(
        "control-area",
        "The score does not reward area.",
        CONTROL,
        "both drops of a map of noise that keeps 10 % and 50 % of the pixels",
        ignores_area,
    ),
    Claim(
        "control-sanity",
        "The sanity check tells an explanation from the mean of the activations, which ignores what is explained.",
        CONTROL,
        "rank correlation of the uniform control with its original maps when all layers are random: it must fail, that "
        "is be more alike than the maps of two people",
        stays_alike("uniform"),
    ),
    *(
        Claim(
            f"control-weights-{method}",
            f"{name}'s map changes when the network forgets what its activations are for.",
            CONTROL,
            "rank correlation with the trained network's maps when all layers behind the explained one are random and "
            "its activations are not: no more than the maps of two people",
            follows_weights(method),
        )
        for method, name in (("grad-fam", "Grad-FAM"), ("score-fam", "Score-FAM"))
    ),
)
