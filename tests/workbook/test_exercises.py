"""The exercises: solutions are right, typical mistakes are named, and a stub that is not filled in only says so."""

from __future__ import annotations

import ast
import copy
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from fam_lib import randomize
from toys import ConvHead, pictures, seeded
from workbook.byol import BYOL
from workbook.byol.config import QUICK
from workbook.exercises import verdict
from workbook.exercises.evaluation import check_ap_drop, check_retained_area, check_top_share
from workbook.exercises.methods import check_cg_ram, check_mask, check_score_map
from workbook.exercises.sanity import check_cascade, check_sharper, check_spearman
from workbook.exercises.self_supervised import check_momentum, check_nearest, check_spread
from workbook.exercises.setup import check_cosine, check_counted, check_trapezoid
from workbook.exercises.verdict import NOT_DONE, RIGHT

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))
STATEMENT = re.compile(r"### Exercise (\d\.\d): .+\n\n\*[A-Z][a-z]+ minutes, (easy|medium|hard)\.\*")
FOLDED = re.compile(r"<details><summary>(Hint|Solution)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)


# -- the exercises as they stand in the notebooks ------------------------------------------------------------


def cells_of(path: Path) -> list[tuple[str, str]]:
    """(kind, source) of each cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def exercises_of(path: Path) -> dict[str, tuple[str, str, str]]:
    """Number -> the statement, and the sources of the two cells that follow it."""
    cells = cells_of(path)
    found = {}
    for n, (_, text) in enumerate(cells):
        if text.startswith("### Exercise"):
            found[text.split()[2].rstrip(":")] = (text, cells[n + 1][1], cells[n + 2][1])
    return found


def imports_of(path: Path) -> str:
    """The import statements of a notebook's code cells, which a solution may rely on."""
    trees = [ast.parse(text) for kind, text in cells_of(path) if kind == "code"]
    wanted = [node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in wanted)


EXERCISES = {number: (path, *parts) for path in NOTEBOOKS for number, parts in exercises_of(path).items()}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_has_two_or_three_exercises_from_easy_to_hard(path: Path) -> None:
    statements = {number: text for number, (text, _, _) in exercises_of(path).items()}
    assert list(statements) == [f"{int(path.stem[:2])}.{n}" for n in range(1, len(statements) + 1)]
    assert len(statements) in (2, 3)
    levels = [STATEMENT.match(text)[2] for text in statements.values()]
    assert levels == sorted(levels, key=["easy", "medium", "hard"].index)


@pytest.mark.parametrize("number", EXERCISES)
def test_an_exercise_has_a_checker_a_hint_and_a_solution(number: str) -> None:
    _, statement, answer, folded = EXERCISES[number]
    assert STATEMENT.match(statement)
    stub, checker = ast.parse(answer).body[-2:]
    assert isinstance(stub, ast.FunctionDef)
    assert ast.unparse(stub.body[0]) == "return None"
    assert ast.unparse(checker).startswith("check_")
    assert ast.unparse(checker).endswith(f"({stub.name})")
    assert [name for name, _ in FOLDED.findall(folded)] == ["Hint", "Solution"]


@pytest.mark.parametrize("number", EXERCISES)
def test_a_stub_that_is_not_filled_in_runs_and_says_so(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(EXERCISES[number][2], {"torch": torch})
    assert capsys.readouterr().out == NOT_DONE + "\n"


def sanity_notebook() -> dict[str, Any]:
    """What notebook 04 has computed before its exercises, for a toy network."""
    model, X = seeded(ConvHead()), pictures()
    groups = randomize.layer_groups(randomize.execution_order(model, X), 2)
    steps = [name for name, _ in randomize.randomised(model, groups)]
    context = {"model": model, "X": X, "groups": groups, "n_score": 2, "earlier": "body", "clean": 1}
    return context | {"seed": 0, "calibration": None, "deep": SimpleNamespace(steps=steps)}


CONTEXTS = {"4.1": sanity_notebook}


@pytest.mark.parametrize("number", EXERCISES)
def test_a_solution_runs_and_its_checker_says_right(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, _, answer, folded = EXERCISES[number]
    solution = dict(FOLDED.findall(folded))["Solution"].split("```python\n")[1].split("\n```")[0]
    namespace = CONTEXTS.get(number, dict)()
    exec(imports_of(path), namespace)
    exec(solution, namespace)
    capsys.readouterr()
    checker = ast.unparse(ast.parse(answer).body[-1])
    exec(checker, namespace)
    assert capsys.readouterr().out == RIGHT + "\n"


# -- typical mistakes ----------------------------------------------------------------------------------------


def norm(x: Tensor) -> Tensor:
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return (x - low) / (high - low)


def up(A: Tensor, size: tuple[int, int], **options: Any) -> Tensor:
    return F.interpolate(A[None], size=size, **({"mode": "bilinear"} | options))[0]


def drop(x: Tensor, e: Tensor, b: Tensor, eps: float = 0) -> Tensor:
    return (x - e).clamp(min=0) / (x - b + eps)


def best(L: Tensor, share: float) -> Tensor:
    values = L.flatten(1).sort(1, descending=True).values
    threshold = values[:, round(share * values.shape[1]) - 1]
    return L.ge(threshold[:, None, None]).float()


def unit(z: Tensor) -> Tensor:
    return z / z.norm(dim=1, keepdim=True)


def weighted(alpha: Tensor, A: Tensor) -> Tensor:
    return torch.einsum("nc,nchw->nhw", alpha, A)


def ranks_by_order(x: Tensor) -> Tensor:
    return x.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).double()


def smaller(x: Tensor) -> Tensor:
    """How many values of the same map are smaller."""
    x = x.flatten(1)
    return (x[:, None, :] < x[:, :, None]).sum(2)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (x.flatten(1).double() for x in (a, b))
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def closest(closeness: Tensor, labels: Tensor) -> Tensor:
    return labels[closeness.argmax(1)] == labels


def without_itself(closeness: Tensor) -> Tensor:
    return closeness.clone().fill_diagonal_(-torch.inf)


def in_place(network: nn.Sequential, n: int) -> nn.Sequential:
    for layer in [layer for layer in network if isinstance(layer, nn.Linear)][-n:]:
        layer.reset_parameters()
    return network


def forget(
    network: nn.Sequential, n: int, *, which: slice, bias: bool = True, seed: int | None = None
) -> nn.Sequential:
    other = copy.deepcopy(network)
    for layer in [layer for layer in other if isinstance(layer, nn.Linear)][which]:
        kept = layer.bias.detach().clone()
        if seed is not None:
            torch.manual_seed(seed)
        layer.reset_parameters()
        if not bias:
            layer.bias.data = kept
    return other


MISTAKES: list[tuple[Callable[..., None], Callable[..., Any], str]] = [
    (check_cosine, lambda a, b: a @ b.T, "this is the dot product"),
    (check_cosine, lambda a, b: F.normalize(a, dim=0) @ F.normalize(b, dim=0).T, "wrong axis"),
    (check_cosine, lambda a, b: 1 - unit(a) @ unit(b).T, "this is a distance"),
    (check_cosine, lambda a, b: unit(b) @ unit(a).T, "rows and columns are exchanged"),
    (check_cosine, lambda a, b: unit(a) @ b.T, "only the queries"),
    (check_counted, lambda q, c, ids, cams: ids != -1, "the query's own camera stays"),
    (check_counted, lambda q, c, ids, cams: ~((ids == q) & (cams == c)), "junk images (identity -1) stay"),
    (check_counted, lambda q, c, ids, cams: (ids != -1) & (cams != c), "those of other people too"),
    (check_counted, lambda q, c, ids, cams: (ids != -1) & (ids != q), "nothing is left to be found"),
    (check_counted, lambda q, c, ids, cams: (ids > 0) & ~((ids == q) & (cams == c)), "distractors (identity 0)"),
    (check_counted, lambda q, c, ids, cams: (ids == -1) | ((ids == q) & (cams == c)), "turn it round"),
    (check_trapezoid, lambda x: (x.cumsum(0) / torch.arange(1, len(x) + 1))[x].mean(), "standard average precision"),
    (check_trapezoid, lambda x: torch.trapezoid(*_curve(x)), "at the match before it"),
    (check_trapezoid, lambda x: _trapezoid(x, start=0.0), "precision 1, not 0"),
    (check_trapezoid, lambda x: _trapezoid(x, start=torch.nan), "0 / 0"),
    (check_trapezoid, lambda x: _trapezoid(x, start=1.0) * x.sum() / len(x), "divided by the length of the list"),
    (check_mask, lambda A, size: up(norm(A), size), "Norm comes before Up"),
    (check_mask, lambda A, size: up(A, size), "Norm is missing"),
    (check_mask, lambda A, size: norm(A), "Up is missing"),
    (check_mask, lambda A, size: norm(up(A, size, align_corners=True)), "align_corners=True"),
    (check_mask, lambda A, size: norm(up(A, size, mode="nearest")), "nearest neighbours"),
    (check_mask, lambda A, size: norm(up(A, size).reshape(1, -1, 1)).view(-1, *size), "share one minimum"),
    (check_mask, lambda A, size: norm(up(A, size)), "0 / 0 = NaN"),
    (check_score_map, lambda S, A: weighted(S.softmax(1), A), "the ReLU is missing"),
    (check_score_map, lambda S, A: weighted(S.softmax(1), A.relu()), "to each channel before the sum"),
    (check_score_map, lambda S, A: weighted(S.softmax(0), A).relu(), "softmax over the wrong dimension"),
    (check_score_map, lambda S, A: weighted(S, A).relu(), "the softmax is missing"),
    (check_score_map, lambda S, A: weighted(S.exp(), A).relu(), "without the sum in the denominator"),
    (check_score_map, lambda S, A: (S.softmax(1)[:, :, None, None] * A).mean(1).relu(), "number of channels"),
    (check_score_map, lambda S, A: A.mean(1).relu(), "S is not used"),
    (check_cg_ram, lambda f, v, Z: unit(v) / (f.norm(dim=1, keepdim=True) * Z), "the second term is missing"),
    (check_cg_ram, lambda f, v, Z: unit(v) / Z, "Grad-RAM"),
    (check_cg_ram, lambda f, v, Z: unit(f) / Z, "Grad-FAM"),
    (check_cg_ram, lambda f, v, Z: _cosine_gradient(f, v), "1 / Z is missing"),
    (check_cg_ram, lambda f, v, Z: -_cosine_gradient(f, v) / Z, "wrong sign"),
    (check_cg_ram, lambda f, v, Z: _cosine_gradient(unit(f), v) / Z, "1 / |f| is missing"),
    (check_retained_area, lambda L: (L >= 0.3).float().mean((1, 2)), "the medium zone is kept in full"),
    (check_retained_area, lambda L: (L >= 0.6).float().mean((1, 2)), "the medium zone is lost"),
    (check_retained_area, lambda L: 0.9 * (L >= 0.3).float().mean((1, 2)), "the high zone counts delta"),
    (check_retained_area, lambda L: ((L >= 0.6) + 0.9 * (L >= 0.3)).mean((1, 2)), "counted twice"),
    (check_retained_area, lambda L: L.mean((1, 2)), "mean saliency"),
    (check_retained_area, lambda L: _zones(L).mean(0), "averaged over the images"),
    (check_retained_area, lambda L: _zones(L).sum((1, 2)), "divide by H * W"),
    (check_retained_area, lambda L: (0.9 * (L > 0.3) + 0.1 * (L > 0.6)).mean((1, 2)), "use >=, not >"),
    (check_retained_area, lambda L: (0.9 * (L >= 0.3) + 0.1 * (L > 0.6)).mean((1, 2)), "at B_High"),
    (check_retained_area, lambda L: (0.9 * (L > 0.3) + 0.1 * (L >= 0.6)).mean((1, 2)), "at B_Low"),
    (check_ap_drop, lambda x, e, b: ((x - e).clamp(min=0) / x).mean(), "the baseline is missing"),
    (check_ap_drop, lambda x, e, b: ((x - e) / (x - b)).mean(), "max(0, .) is missing"),
    (check_ap_drop, lambda x, e, b: ((e - x).clamp(min=0) / (x - b)).mean(), "wrong sign"),
    (check_ap_drop, lambda x, e, b: (x - e).clamp(min=0).sum() / (x - b).sum(), "ratio of two means"),
    (check_ap_drop, drop, "one value for each query"),
    (check_ap_drop, lambda x, e, b: drop(x, e, b).mean(), "this divides by 0"),
    (check_ap_drop, lambda x, e, b: drop(x, e, b, eps=1e-7).mean(), "1e-07 added to the denominator"),
    (check_ap_drop, lambda x, e, b: drop(x, e, b).where(x > b, 0).mean(), "undefined queries count as 0"),
    (check_ap_drop, lambda x, e, b: drop(x, e, b)[x != b].mean(), "the denominator is negative"),
    (check_top_share, lambda L, share: best(-L, share), "the least salient pixels"),
    (check_top_share, lambda L, share: best(L.view(1, -1, 1), share).view_as(L), "the images are ranked together"),
    (check_top_share, lambda L, share: best(L.view(-1, L.shape[-1], 1), share).view_as(L), "each row keeps its share"),
    (check_top_share, lambda L, share: (L / L.amax((1, 2), keepdim=True) >= 1 - share).float(), "another number"),
    (check_top_share, lambda L, share: L * best(L, share), "a mask holds 0 and 1"),
    (check_top_share, best, "keep too many pixels"),
    (check_sharper, lambda S, factor: factor * S.softmax(1), "before the softmax"),
    (check_sharper, lambda S, factor: (S / factor).softmax(1), "divided by the factor"),
    (check_sharper, lambda S, factor: (factor * S).softmax(0), "softmax over the wrong dimension"),
    (check_sharper, lambda S, factor: S.softmax(1) ** factor, "no longer sum to 1"),
    (check_spearman, correlation, "Pearson's correlation"),
    (check_spearman, lambda a, b: correlation(a.flatten(1).argsort(1), b.flatten(1).argsort(1)), "not the ranks"),
    (check_spearman, lambda a, b: -correlation(ranks_by_order(a), ranks_by_order(b)), "wrong sign"),
    (check_spearman, lambda a, b: correlation(ranks_by_order(a), ranks_by_order(b)).mean(), "one number"),
    (check_spearman, lambda a, b: F.cosine_similarity(*(1 + ranks_by_order(x) for x in (a, b))), "not subtracted"),
    (check_spearman, lambda a, b: correlation(ranks_by_order(a), ranks_by_order(b)), "by their place in the map"),
    (check_spearman, lambda a, b: correlation(smaller(a), smaller(b)), "their lowest rank"),
    (check_spearman, lambda a, b: correlation(-smaller(-a), -smaller(-b)), "their highest rank"),
    (check_cascade, in_place, "changed in place"),
    (check_cascade, lambda network, n: copy.deepcopy(network), "no layer was changed"),
    (check_cascade, partial(forget, which=slice(2)), "starts at the output"),
    (check_cascade, partial(forget, which=slice(-1, None)), "one layer alone"),
    (check_cascade, partial(forget, which=slice(-2, -1)), "one layer alone"),
    (check_cascade, partial(forget, which=slice(None)), "all layers are random"),
    (check_cascade, partial(forget, which=slice(1, None)), "the layers [2, 4, 6] are random, not [4, 6]"),
    (check_cascade, partial(forget, which=slice(-2, None), bias=False), "the biases are still"),
    (check_cascade, partial(forget, which=slice(-2, None), seed=0), "the same weights"),
    (check_momentum, lambda target, online, tau: tau * online + (1 - tau) * target, "exchanged"),
    (check_momentum, lambda target, online, tau: online, "became the online network"),
    (check_momentum, lambda target, online, tau: target + (1 - tau) * online, "its share is tau"),
    (check_spread, lambda z: z.std(0).mean() * z.shape[1] ** 0.5, "are not normalised"),
    (check_spread, lambda z: unit(z).std(1).mean() * z.shape[1] ** 0.5, "take it over the images"),
    (check_spread, lambda z: unit(z).std(0).mean(), "sqrt(D) is missing"),
    (check_spread, lambda z: 1 - unit(z).std(0).mean() * z.shape[1] ** 0.5, "0 must stand for collapse"),
    (check_nearest, lambda z, y: closest(unit(z) @ unit(z).T, y), "each image finds itself"),
    (check_nearest, lambda z, y: closest(without_itself(z @ z.T), y), "the dot product"),
    (check_nearest, lambda z, y: closest(without_itself(-torch.cdist(z, z)), y), "unnormalised features"),
    (check_nearest, lambda z, y: closest(-unit(z) @ unit(z).T, y), "the farthest image"),
    (check_nearest, lambda z, y: closest(without_itself(unit(z) @ unit(z).T), y).float().mean(), "the mean over"),
]  # fmt: skip


def _curve(correct: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall at the matches, and where the curve starts."""
    precision = (correct.cumsum(0) / torch.arange(1, len(correct) + 1))[correct]
    return torch.cat([torch.ones(1), precision]), torch.linspace(0, 1, len(precision) + 1)


def _trapezoid(correct: Tensor, start: float) -> Tensor:
    precision = correct.cumsum(0) / torch.arange(1, len(correct) + 1)
    return ((torch.cat([torch.tensor([start]), precision[:-1]]) + precision) / 2)[correct].mean()


def _cosine_gradient(f: Tensor, v: Tensor) -> Tensor:
    f = f.clone().requires_grad_()
    return torch.autograd.grad(F.cosine_similarity(f, v).sum(), f)[0]


def _zones(L: Tensor) -> Tensor:
    return torch.where(L >= 0.6, 1.0, torch.where(L >= 0.3, 0.9, 0.0))


@pytest.mark.parametrize(("check", "answer", "named"), MISTAKES, ids=lambda x: getattr(x, "__name__", x))
def test_a_typical_mistake_is_named(
    check: Callable[..., None], answer: Callable[..., Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(answer)
    message = capsys.readouterr().out
    assert message.startswith("not right: ")
    assert named in message


def test_every_checker_of_the_notebooks_is_tried_with_two_mistakes_or_more() -> None:
    used = {ast.unparse(ast.parse(answer).body[-1]).split("(")[0] for _, _, answer, _ in EXERCISES.values()}
    tried = [check.__name__ for check, _, _ in MISTAKES]
    assert {name for name in tried if tried.count(name) >= 2} == used


CHECKERS = sorted({check for check, _, _ in MISTAKES} - {check_cascade}, key=lambda check: check.__name__)


@pytest.mark.parametrize("check", CHECKERS, ids=lambda check: check.__name__)
def test_the_mistakes_of_a_checker_can_be_told_apart(
    check: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[verdict.Trial] = []
    monkeypatch.setattr(sys.modules[check.__module__], "judge", lambda answer, *given: trials.extend(given))
    check(None)
    assert trials
    for trial in trials:
        assert verdict.verdict(trial.right, trial) == RIGHT
        for name, wrong in trial.mistakes.items():
            assert verdict.verdict(wrong, trial) == f"not right: {name}"


def test_a_mistake_without_a_name_is_told_by_its_size_or_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    check_momentum(lambda target, online, tau: tau * target + (1 - tau) * online + 0.25)
    assert capsys.readouterr().out.startswith("not right: off by up to 0.25")
    check_momentum(lambda target, online, tau: target[0])
    assert capsys.readouterr().out == "not right: the shape is (3,), expected (4, 3)\n"


# -- what is right, by other hands ---------------------------------------------------------------------------


def peer_spearman(a: Tensor, b: Tensor) -> Tensor:
    pairs = zip(a.flatten(1), b.flatten(1), strict=True)
    return torch.tensor([spearmanr(x.numpy(), y.numpy()).statistic for x, y in pairs])


def peer_nearest(z: Tensor, labels: Tensor) -> Tensor:
    neighbours = KNeighborsClassifier(2, metric="cosine").fit(z, labels).kneighbors(z)[1]
    return labels[torch.from_numpy(neighbours[:, 1])] == labels


def peer_momentum(target: Tensor, online: Tensor, tau: float) -> Tensor:
    model = BYOL(QUICK)
    (moved, *_), (taught, *_) = model.target_projector.parameters(), model.projector.parameters()
    shape = moved.shape
    moved.data, taught.data = target, online
    model.move_target(tau)
    assert shape != moved.shape
    return moved.detach()


def peer_cascade(network: nn.Sequential, n: int) -> nn.Sequential:
    groups = randomize.layer_groups(["0", "2", "4", "6"], 4)
    return list(randomize.randomised(network, groups))[n - 1][1]


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_spearman, peer_spearman),
        (check_nearest, peer_nearest),
        (check_momentum, peer_momentum),
        (check_cascade, peer_cascade),
        (check_cosine, lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=2)),
        (check_cg_ram, lambda f, v, Z: _cosine_gradient(f, v) / Z),
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_an_independent_answer_is_right(
    check: Callable[..., None], answer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    check(answer)
    assert capsys.readouterr().out == RIGHT + "\n"
