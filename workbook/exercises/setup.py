"""Notebook 01: cosine, which gallery images count, average precision by the trapezoid rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fam_lib.features import cosine_similarity
from fam_lib.retrieval import Labels, rank, top_gallery
from workbook.exercises.verdict import Answer, Trial, judge, normal


def check_cosine(answer: Answer) -> None:
    """Exercise 1.1: answer(a, b) -> cosine of every row of a (Q, D) with every row of b (G, D), (Q, G)."""
    a, b = normal(3, 6, seed=0), 2 * normal(4, 6, seed=1)
    right = cosine_similarity(a, b)
    by_image, by_number = (lambda x: F.normalize(x, dim=1)), (lambda x: F.normalize(x, dim=0))
    mistakes = {
        "this is the dot product: divide each vector by its length": a @ b.T,
        "only the queries are divided by their length": by_image(a) @ b.T,
        "only the gallery is divided by its length": a @ by_image(b).T,
        "normalised along the wrong axis: a length belongs to an image (a row), not to a dimension": by_number(a)
        @ by_number(b).T,
        "this is a distance, 1 - cosine: more alike must be larger": 1 - right,
        "wrong sign": -right,
        "rows and columns are exchanged: queries are rows, gallery images columns": right.T,
    }
    judge(answer, Trial((a, b), right, mistakes))


def check_counted(answer: Answer) -> None:
    """Exercise 1.2: answer(query_id, query_cam, ids, cams) -> which gallery images are ranked, (G,) bool."""
    query_id, query_cam = 3, 1
    ids, cams = torch.tensor([3, 3, 5, 5, 0, -1, -1, 3]), torch.tensor([1, 2, 1, 2, 1, 1, 2, 3])
    counted = top_gallery(torch.zeros(1, len(ids)), Labels([query_id], [query_cam], ids, cams), k=5)
    right = torch.zeros_like(ids).index_fill(0, counted[0], 1)
    own, junk = (ids == query_id) & (cams == query_cam), ids == -1
    mistakes = {
        "this marks the images that are removed: turn it round": 1 - right,
        "the query's own camera stays: finding the same moment again is no achievement": ~junk,
        "all images of the query's camera are removed, those of other people too": ~junk & (cams != query_cam),
        "all images of the query's identity are removed: nothing is left to be found": ~junk & (ids != query_id),
        "junk images (identity -1) stay, and would count as wrong matches": ~own,
        "distractors (identity 0) are removed: they are there to be mistaken for the person": right * (ids != 0),
    }
    judge(answer, Trial((query_id, query_cam, ids, cams), right, mistakes))


def check_trapezoid(answer: Answer) -> None:
    """Exercise 1.3: answer(correct) -> area under the precision-recall curve of a ranked list (G,) bool."""
    correct = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 0], dtype=torch.bool)
    ids, apart = torch.where(correct, 1, 2), torch.linspace(1, 0, len(correct))[None]
    ranking = rank(apart, Labels([1], [1], ids, torch.full_like(ids, 2)))
    hits, places = correct.cumsum(0), torch.arange(1, len(correct) + 1)
    after = (hits / places)[correct]
    before = ((hits - 1) / (places - 1))[correct]
    from_match = torch.cat([torch.ones(1), after[:-1]])
    mistakes = {
        "this is standard average precision: take the mean of the precisions before and at each match": after.mean(),
        "this is the precision just before each match alone": before.mean(),
        "the precision before a match is taken at the match before it: the wrong images in between lower it": (
            (from_match + after).mean() / 2
        ),
        "divided by the length of the list: recall grows by 1 / (number of matches)": (before + after).sum()
        / (2 * len(correct)),
    }
    top = torch.tensor([1, 0, 1], dtype=torch.bool)
    first = rank(torch.tensor([[0.9, 0.5, 0.1]]), Labels([1], [1], [1, 2, 1], [2, 2, 2]))
    special = {
        "the curve starts at recall 0 with precision 1, not 0": torch.tensor((0.5 + (1 / 2 + 2 / 3) / 2) / 2),
        "before a match at rank 1 there is no image: 0 / 0; the curve starts with precision 1": torch.tensor(torch.nan),
    }
    judge(
        answer,
        Trial((correct,), ranking.ap_trapezoid[0], mistakes),
        Trial((top,), first.ap_trapezoid[0], special),
    )
