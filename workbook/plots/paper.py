"""The paper's figures, rank lists and the grid of methods: tensors or arrays in, a figure out.

Nothing here calls a model, reads a file or saves one. Images are (3, H, W) in [0, 1], saliency maps (H, W) in
[0, 1]. ``note`` says what the data are ("synthetic pedestrians").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from workbook.plots import canvas, style
from workbook.plots.canvas import LINE, MARGIN, axes_at, text_at, wrap
from workbook.plots.charts import KIND_LABELS, find_kinds
from workbook.plots.overlays import (
    GAP,
    GROUP_GAP,
    MAX_CELL,
    Array,
    Cell,
    bare,
    height_over_width,
    image_grid,
    same_length,
    show_image,
    show_overlay,
    to_map,
    to_numpy,
    zone_colorbar,
)
from workbook.plots.style import GREY, PAGE_WIDTH, colour_map

PIPELINE_HEIGHT = 1.3  # largest height of a picture in Figure 2, inches
NUMBERS_WIDTH = 1.15  # of its column of numbers
MIN_ARROW = 0.48  # room for an arrow and its label
PIPELINE_EQUATIONS = (
    r"$M_k = \mathrm{Norm}(\mathrm{Up}(A_k))$   (11)",
    r"$E_k = X \circ M_k + B \circ (1 - M_k)$",
    r"$S_k = \cos(f(E_k), f(X)) - \cos(f(B), f(X))$   (10)",
    r"$a_k = \exp S_k \, / \, \Sigma_h \exp S_h$   (13)",
    r"$L = \mathrm{ReLU}(\Sigma_k \, a_k A_k)$   (12)",
)
CHANNEL_NAMES = ("highest", "median", "lowest")  # what the S_k of its channels are among all
TICK, CROSS = "\N{CHECK MARK}", "\N{BALLOT X}"


@style.context()
def fig1_motivation(
    query: Array,
    score_fam: Array,
    identities: Sequence[tuple[Array, str, Array]],
    gallery: Sequence[tuple[Array, str, Array]],
    note: str = "",
) -> Figure:
    """Figure 1: (a) Score-FAM of a query, (b) Score-CAM for identities, (c) RAM for gallery images, (d) scale

    Args:
        query: (3, H, W) in [0, 1].
        score_fam: (H, W) in [0, 1].
        identities: (example image, label, Score-CAM map of the query), by falling confidence.
        gallery: (gallery image, label, RAM map of the query), in the order of the rank list.
        note: what the data are.

    Raises:
        ValueError: the two lists are empty or differ in length.
    """
    same_length(identities=identities, gallery=gallery)
    if not identities:
        raise ValueError("identities and gallery must hold at least one entry")
    n, bar_space = len(identities), 0.85
    aspect = height_over_width(query)
    free = PAGE_WIDTH - 2 * MARGIN - bar_space - n * (GROUP_GAP + GAP)
    width = min(free / (2 * n + 1), MAX_CELL[0], MAX_CELL[1] / aspect)
    height = width * aspect
    pair = 2 * width + GAP
    pair_lefts = MARGIN + width + GROUP_GAP + np.arange(n) * (pair + GROUP_GAP)
    right = pair_lefts[-1] + pair
    headings = [
        wrap(f"({letter}) {method} of the query for the {what} on its left (top {n})", right - pair_lefts[0])
        for letter, method, what in (("b", "Score-CAM", "training identity"), ("c", "RAM", "gallery image"))
    ]
    head = max(map(canvas.n_lines, headings)) * LINE + 0.04
    captions = [[wrap(label, pair + 0.5 * GROUP_GAP) for _, label, _ in row] for row in (identities, gallery)]
    below = max(1, *(canvas.n_lines(c) for row in captions for c in row)) * LINE + 0.12
    title = "Score-FAM needs neither a class nor another image"
    fig, top = canvas.page(right + bar_space + MARGIN, 2 * (head + height + below), title, note)

    first_top = top + head
    for i, (heading, row) in enumerate(zip(headings, (identities, gallery), strict=True)):
        text_at(fig, pair_lefts[0], top, heading, va="top")
        top += head
        ax = axes_at(fig, MARGIN, top, width, height)
        if i == 0:
            text_at(fig, MARGIN, top - head, "(a)", va="top")
            show_image(ax, query)
        else:
            show_overlay(ax, query, score_fam)
        text_at(fig, MARGIN + width / 2, top + height + 0.03, ("query", "Score-FAM")[i], ha="center", va="top")
        for (image, _, saliency), caption, left in zip(row, captions[i], pair_lefts, strict=True):
            show_image(axes_at(fig, left, top, width, height), image)
            show_overlay(axes_at(fig, left + width + GAP, top, width, height), query, saliency)
            text_at(fig, left + pair / 2, top + height + 0.03, caption, ha="center", va="top")
        top += height + below
    bar_top, bar_height = first_top, top - below - first_top
    text_at(fig, right + GROUP_GAP, bar_top - head, "(d)", va="top")
    zone_colorbar(fig, axes_at(fig, right + GROUP_GAP, bar_top, 0.13, bar_height), "vertical")
    return fig


def pick_channels(similarities: Array, alive: Array) -> list[int]:
    """The three channels with the highest, the median and the lowest S_k, for :func:`fig2_pipeline`.

    Args:
        similarities: (C,), S_k of Eq. 10.
        alive: (C,) bool, the channels to choose from, for instance those whose map is not flat.

    Raises:
        ValueError: no channel is alive.
    """
    order = np.argsort(-to_numpy(similarities), kind="stable")
    order = order[to_numpy(alive)[order] > 0]
    if not len(order):
        raise ValueError("there is no channel to choose from: similarities is empty or none is alive")
    return [int(order[0]), int(order[(len(order) - 1) // 2]), int(order[-1])]


@style.context()
def fig2_pipeline(
    image: Array,
    baseline: Array,
    activations: Array,
    masks: Array,
    masked_images: Array,
    channels: Sequence[int],
    similarities: Array,
    weights: Array,
    saliency: Array,
    baseline_similarity: float,
    note: str = "",
) -> Figure:
    """Figure 2: the Score-FAM pipeline, one row for each of three channels and one for the baseline.

    Args:
        image: (3, H, W) in [0, 1], X.
        baseline: (3, H, W) in [0, 1], B.
        activations: (3, h, w), A_k of the channels shown.
        masks: (3, H, W) in [0, 1], M_k.
        masked_images: (3, 3, H, W) in [0, 1], E_k.
        channels: the numbers k of :func:`pick_channels`.
        similarities: (C,), S_k of all channels (Eq. 10).
        weights: (C,), a_k of all channels (Eq. 13).
        saliency: (H, W) in [0, 1].
        baseline_similarity: cos(f(B), f(X)).
        note: what the data are.

    Raises:
        ValueError: there are not three channels, or the numbers of channels do not agree.
    """
    same_length(names=CHANNEL_NAMES, channels=channels)
    same_length(channels=channels, activations=activations, masks=masks, masked_images=masked_images)
    same_length(similarities=similarities, weights=weights)
    n, aspect = len(channels), height_over_width(image)
    room = PAGE_WIDTH - 2 * MARGIN - NUMBERS_WIDTH
    width = min(room / 5 - MIN_ARROW, PIPELINE_HEIGHT / aspect)
    height, step = width * aspect, room / 5
    columns = dict(zip(("image", "map", "mask", "masked", "numbers"), MARGIN + step * np.arange(5), strict=True))
    columns["result"] = PAGE_WIDTH - MARGIN - width
    row, heads = height + LINE + 0.14, 2 * LINE + 0.08
    equations = 1.35 * LINE * len(PIPELINE_EQUATIONS)
    below = max(0.0, equations + 0.2 - row)  # where the pictures are lower than the equations beside the last
    title = "Score-FAM, step by step, with the real intermediates of one image"
    fig, top = canvas.page(PAGE_WIDTH, heads + (n + 1) * row + below, title, note)
    _pipeline_heads(fig, columns, top, width)
    tops = top + heads + row * np.arange(n + 1)
    tops[n] += below / 2
    middles = tops + height / 2
    centre = float(middles[:n].mean())

    x = columns["image"]
    show_image(_captioned(fig, x, centre - height / 2, width, height, "image $X$"), image)
    _bus(fig, x + width, columns["map"], centre, middles[:n], "layer $l$", into=False)
    for i in range(n):
        numbers = float(similarities[channels[i]]), float(weights[channels[i]]) * len(weights)
        lines = _channel_lines(CHANNEL_NAMES[i], *numbers, baseline_similarity)
        pictures = (activations[i], masks[i], masked_images[i])
        _channel_row(fig, columns, tops[i], (width, height), channels[i], pictures, labelled=i == 0)
        text_at(fig, columns["numbers"] + NUMBERS_WIDTH / 2, middles[i], lines, ha="center", va="center")
    x = columns["result"]
    _bus(fig, columns["numbers"] + NUMBERS_WIDTH, x, centre, middles[:n], "Eq. 12", into=True)
    ax = _captioned(fig, x, centre - height / 2, width, height, "Score-FAM")
    show_overlay(ax, image, saliency)

    x = columns["masked"]
    show_image(_captioned(fig, x, tops[n], width, height, "baseline $B$"), baseline)
    _arrow(fig, x + width, columns["numbers"], middles[n], "$f$, cos")
    lines = f"empty mask\n{baseline_similarity:.3f} $-$ {baseline_similarity:.3f}\n$S$ = 0"
    text_at(fig, columns["numbers"] + NUMBERS_WIDTH / 2, middles[n], lines, ha="center", va="center")
    for i, equation in enumerate(PIPELINE_EQUATIONS):
        y = middles[n] + (i - (len(PIPELINE_EQUATIONS) - 1) / 2) * 1.35 * LINE
        text_at(fig, MARGIN, y, equation, ha="left", va="center")
    return fig


def _pipeline_heads(fig: Figure, columns: Mapping[str, float], top: float, width: float) -> None:
    heads = {"map": "feature map\n$A_k$", "mask": "mask\n$M_k$", "masked": "masked image\n$E_k$"}
    for name, head in heads.items():
        text_at(fig, columns[name] + width / 2, top, head, ha="center", va="top")
    head = "increase of\nsimilarity $S_k$"
    text_at(fig, columns["numbers"] + NUMBERS_WIDTH / 2, top, head, ha="center", va="top")


def _captioned(fig: Figure, left: float, top: float, width: float, height: float, caption: str) -> Axes:
    """Axes for a picture with its caption below."""
    text_at(fig, left + width / 2, top + height + 0.03, caption, ha="center", va="top")
    return axes_at(fig, left, top, width, height)


def _channel_row(
    fig: Figure,
    columns: Mapping[str, float],
    top: float,
    size: tuple[float, float],
    channel: int,
    pictures: tuple[Array, Array, Array],
    labelled: bool,
) -> None:
    """A_k, M_k and E_k of one channel with the arrows after each; labelled in the first row."""
    (width, height), middle = size, top + size[1] / 2
    activation, mask, masked = pictures
    values = to_numpy(activation)
    ax = _captioned(
        fig,
        columns["map"],
        top,
        width,
        height,
        f"$k$ = {channel}" + (", dead" if np.ptp(values) == 0 else ""),
    )
    # Cells, not pixels: the map is as coarse as it looks. Stretched to the picture it will be laid over.
    ax.imshow(values, cmap=colour_map(), interpolation="nearest", aspect="auto")
    bare(ax)
    ax = axes_at(fig, columns["mask"], top, width, height)
    ax.imshow(to_map(mask, "masks"), cmap="gray", vmin=0, vmax=1)
    bare(ax)
    show_image(axes_at(fig, columns["masked"], top, width, height), masked)
    for start, end, label in (
        ("map", "mask", "Eq. 11"),
        ("mask", "masked", "Eq. 10"),
        ("masked", "numbers", "$f$, cos"),
    ):
        _arrow(fig, columns[start] + width, columns[end], middle, label if labelled else "")


def _channel_lines(name: str, score: float, relative_weight: float, baseline: float) -> str:
    """One channel in numbers: its place among all, the two cosines, S_k, and a_k against uniform."""
    return "\n".join(
        (
            name,
            f"{score + baseline:.3f} $-$ {baseline:.3f}",
            f"$S_k$ = {_signed(score)}",
            f"$C a_k$ = {relative_weight:.2f}",
        )
    )


def _signed(value: float) -> str:
    """A number with its sign, a true minus and no negative zero."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _line(fig: Figure, x: Sequence[float], y: Sequence[float]) -> None:
    width, height = fig.get_size_inches()
    fig.add_artist(Line2D([v / width for v in x], [1 - v / height for v in y], color=GREY, linewidth=1.1))


def _arrow(fig: Figure, left: float, right: float, y: float, label: str = "", inset: float = 0.05) -> None:
    """An arrow from left to right, all in inches, with its label above."""
    width, height = fig.get_size_inches()
    ends = [((x) / width, 1 - y / height) for x in (left + inset, right - inset)]
    fig.add_artist(
        FancyArrowPatch(
            *ends,
            transform=fig.transFigure,
            arrowstyle="-|>",
            mutation_scale=9,
            color=GREY,
            shrinkA=0,
            shrinkB=0,
        )
    )
    if label:
        text_at(fig, (left + right) / 2, y - 0.05, label, ha="center", va="bottom")


def _bus(fig: Figure, left: float, right: float, centre: float, ends: np.ndarray, label: str, into: bool) -> None:
    """One wire that parts into several, or several that join into one: ``left`` to ``right`` in inches."""
    x = right - 0.3 if into else left + 0.24
    _line(fig, [x, x], [ends.min(), ends.max()])
    for y in ends:
        if into:
            _line(fig, [left + 0.02, x], [y, y])
        else:
            _arrow(fig, x - 0.05, right, y)
    if into:
        _arrow(fig, x - 0.05, right, centre)
    else:
        _line(fig, [left + 0.05, x], [centre, centre])
    text_at(fig, (left + right) / 2, ends.min() - 0.06, label, ha="center", va="bottom")


def fig3_explanation_maps(
    images: Array,
    saliencies: Array,
    top50: Array,
    top10: Array,
    ours: Array,
    note: str = "",
    captions: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Figure 3: images, maps, and explanation maps of the top 50 %, the top 10 %, and Eq. 14.

    Args:
        images: (N, 3, H, W) in [0, 1].
        saliencies: (N, H, W) in [0, 1].
        top50: (N, 3, H, W) in [0, 1].
        top10: (N, 3, H, W) in [0, 1].
        ours: (N, 3, H, W) in [0, 1], :func:`fam_lib.masking.explanation_map`.
        note: what the data are.
        captions: N rows of five texts below the cells, for instance the retained area.
    """
    same_length(images=images, saliencies=saliencies, top50=top50, top10=top10, ours=ours)
    rows = [[x, (x, m), a, b, c] for x, m, a, b, c in zip(images, saliencies, top50, top10, ours, strict=True)]
    heads = ["(a) image", "(b) result", "(c) top 50 %", "(d) top 10 %", "(e) Eq. 14"]
    title = "Explanation maps: fixed shares of pixels and Eq. 14"
    return image_grid(rows, None, heads, title, note=note, captions=captions, max_height=1.7)


def fig4_methods(
    queries: Array,
    methods: Mapping[str, Array],
    note: str = "",
    kinds: Mapping[str, str] | None = None,
) -> Figure:
    """Figure 4: every method on several queries; controls, which look at no target, stand apart.

    Args:
        queries: (N, 3, H, W) in [0, 1].
        methods: name -> (N, H, W) in [0, 1], in the order of the columns.
        note: what the data are.
        kinds: name -> "paper", "grid" or "control"; default: the table of methods.

    Raises:
        ValueError: there is no method, a method has not one map for each query, or a kind is unknown.
    """
    if not methods:
        raise ValueError("methods must hold at least one name -> maps pair")
    same_length(queries=queries, **{f"methods[{name!r}]": maps for name, maps in methods.items()})
    found = find_kinds(list(methods), kinds)
    names = sorted(methods, key=lambda name: list(KIND_LABELS).index(found[name]))
    headings = {"paper": "methods of the paper", "grid": "new", "control": "controls"}
    counts = [(headings[kind], sum(found[name] == kind for name in names)) for kind in KIND_LABELS]
    rows = [[x, *((x, methods[name][i]) for name in names)] for i, x in enumerate(queries)]
    groups = [("", 1), *((heading, count) for heading, count in counts if count)]
    title = "One query a row, one method a column"
    return image_grid(rows, None, ["query", *names], title, note=note, groups=groups)


def fig_rank_list(
    query: Array,
    gallery: Sequence[Array] | Array,
    correct: Sequence[bool] | Array,
    similarities: Sequence[float] | Array,
    note: str = "",
) -> Figure:
    """A rank list: correct matches framed solid green and ticked, wrong ones framed dashed red and crossed.

    Args:
        query: (3, H, W) in [0, 1].
        gallery: k images (3, H, W), best first, after the same-camera rule.
        correct: k flags: the same identity as the query.
        similarities: k cosine similarities to the query.
        note: what the data are.

    Raises:
        ValueError: the lengths differ.
    """
    flags = [bool(c) for c in correct]
    values = [float(s) for s in similarities]
    same_length(gallery=gallery, correct=flags, similarities=values)
    captions = ["query", *(f"{TICK if c else CROSS} {s:.2f}" for c, s in zip(flags, values, strict=True))]
    return image_grid(
        [[query, *gallery]],
        column_labels=["", *(str(i + 1) for i in range(len(flags)))],
        title="The query and the gallery images nearest to it",
        note=note,
        captions=[captions],
        frames=[[None, *flags]],
        groups=[("", 1), ("", len(flags))],
    )


def fig_method_grid(image: Array, saliencies: Mapping[str, Array], note: str = "") -> Figure:
    """The table of methods as pictures: targets in rows, weightings in columns, empty cells labelled.

    Args:
        image: (3, H, W) in [0, 1].
        saliencies: method name of :data:`fam_lib.methods.METHODS` -> (H, W) in [0, 1].
        note: what the data are.

    Raises:
        ValueError: a name is not in the table of methods.
    """
    from fam_lib import weighting
    from fam_lib.methods import METHODS, find_method
    from fam_lib.targets import class_confidence, class_score, cosine, projection

    targets = {
        "class score": ({class_score, class_confidence}, "class"),
        "projection on another image": ({projection}, "other"),
        "cosine to another image": ({cosine}, "other"),
        "projection on itself": ({projection}, "self"),
        "cosine to itself": ({cosine}, "self"),
    }
    weightings = {
        "gradient mean": weighting.gradient_mean,
        "head weights": weighting.head_weights,
        "masked score": weighting.softmax_of_masked_scores,
        "gradient ++": weighting.gradient_plus_plus,
        "XGrad": weighting.gradient_x_activation,
        "Layer": weighting.gradient_positive,
        "ablation": weighting.ablation,
    }
    for name in saliencies:
        find_method(name)

    def cell(functions: set, reference: str, weights: object) -> tuple[Cell, str]:
        names = [
            m.name
            for m in METHODS.values()
            if m.target in functions and m.reference == reference and m.weighting is weights
        ]
        if not names:
            return "no method", ""
        if names[0] not in saliencies:
            return "not drawn", names[0]
        values = to_map(saliencies[names[0]], names[0])
        return ((image, values) if values.max() > 0 else "zero map", names[0])

    table = [[cell(*target, weights) for weights in weightings.values()] for target in targets.values()]
    rows, captions = [[c for c, _ in row] for row in table], [[n for _, n in row] for row in table]
    groups = [("", len(weightings))]
    heads = list(weightings)
    if "uniform" in saliencies:
        same: list[Cell] = [(image, saliencies["uniform"]), *["the same map"] * (len(rows) - 1)]
        rows = [[*row, c] for row, c in zip(rows, same, strict=True)]
        captions = [[*row, "uniform" if i == 0 else ""] for i, row in enumerate(captions)]
        groups, heads = [*groups, ("", 1)], [*heads, "control"]
    labels, title = list(targets), "Target by weighting: every method on one image"
    return image_grid(rows, labels, heads, title, note=note, captions=captions, groups=groups, max_height=1.2)
