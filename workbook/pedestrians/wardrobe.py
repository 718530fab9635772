"""What synthetic pedestrians look like: garments, colours, and who differs from whom in which part.

An `Identity` is a fixed set of attributes. Every value comes from a short list, so identities share garments
and colours and cannot be told apart by the colour of the torso alone. It also makes the truth exact: two
identities differ in a part when the attributes that are seen in that part differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

PARTS = ("head", "hair", "hat", "torso", "arms", "legs", "shoes", "bag", "umbrella")
"""Parts of a pedestrian; the label maps hold 1 + the index in this tuple, and 0 for the background."""

NONE = "none"

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (38, 38, 42),
    "white": (234, 233, 228),
    "grey": (136, 138, 142),
    "navy": (36, 48, 92),
    "denim": (76, 106, 152),
    "sky": (152, 192, 222),
    "red": (188, 40, 46),
    "burgundy": (106, 28, 50),
    "green": (48, 112, 72),
    "olive": (104, 108, 64),
    "mustard": (212, 162, 50),
    "beige": (208, 186, 150),
    "brown": (108, 72, 46),
    "pink": (228, 160, 176),
    "purple": (112, 72, 134),
    "orange": (222, 114, 48),
    "teal": (38, 122, 132),
}
SKINS: dict[str, tuple[int, int, int]] = {
    "pale": (228, 188, 162),
    "tan": (196, 146, 108),
    "brown": (144, 96, 66),
    "dark": (96, 64, 46),
}
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (30, 26, 26),
    "brown": (84, 56, 38),
    "blond": (204, 170, 108),
    "red": (146, 70, 36),
    "grey": (166, 164, 160),
}


class Top(NamedTuple):
    """An upper garment: its sleeve ("short" or "long"), its patterns, and whether a shirt shows under it."""

    sleeve: str
    patterns: tuple[str, ...]
    layered: bool = False


TOPS: dict[str, Top] = {
    "t-shirt": Top("short", ("plain", "plain", "stripes", "dots", "logo")),
    "shirt": Top("long", ("plain", "checks", "pinstripes")),
    "hoodie": Top("long", ("plain", "logo")),
    "jacket": Top("long", ("plain",), layered=True),
    "blazer": Top("long", ("plain", "pinstripes"), layered=True),
    "coat": Top("long", ("plain", "plain", "checks")),
    "puffer": Top("long", ("plain",)),
    "dress": Top("short", ("plain", "dots", "stripes")),
}
BOTTOMS = ("trousers", "trousers", "skinny", "wide", "shorts", "skirt", "long-skirt")
HAIRS = ("short", "short", "short", "bob", "long", "ponytail", "bun", "afro", "bald")
HATS = (NONE,) * 9 + ("cap", "beanie", "brim")
SHOES = ("sneakers", "sneakers", "shoes", "boots")
BAGS = (NONE,) * 3 + ("backpack", "backpack", "shoulder-bag", "handbag", "shopper", "suitcase")

_TOP_COLOURS = (*COLOURS, "black", "white", "grey", "navy", "denim", "beige", "olive", "burgundy")
_SHIRT_COLOURS = ("white", "sky", "grey", "black", "pink", "beige", "burgundy")
_PATTERN_COLOURS = ("white", "black", "navy", "red", "beige", "mustard", "sky")
_BOTTOM_COLOURS = (
    "black",
    "black",
    "navy",
    "denim",
    "denim",
    "grey",
    "beige",
    "olive",
    "brown",
    "burgundy",
    "white",
)
_SHOE_COLOURS = ("black", "black", "white", "white", "brown", "red", "denim", "mustard")
_BAG_COLOURS = ("black", "black", "brown", "red", "denim", "olive", "mustard", "grey", "teal", "pink")
_HAT_COLOURS = ("black", "red", "navy", "mustard", "white", "green", "beige")
_UMBRELLA_COLOURS = ("black", "red", "denim", "mustard")


@dataclass(frozen=True)
class Identity:
    """One person. Colours are names in `COLOURS` (skin in `SKINS`, hair in `HAIR_COLOURS`) or "none".

    `second` is the colour of the pattern, of the print, or of the shirt under an open jacket. `height` and
    `build` scale the body (1 = average), `waist` narrows it, `side` is where a bag hangs (1 left, -1 right).
    The body is not a part: look-alikes share it, so it never tells them apart.
    """

    skin: str
    hair: str
    hair_colour: str
    hat: str
    hat_colour: str
    top: str
    top_colour: str
    pattern: str
    second: str
    bottom: str
    bottom_colour: str
    shoes: str
    shoes_colour: str
    bag: str
    bag_colour: str
    umbrella: str
    height: float = 1.0
    build: float = 1.0
    waist: float = 1.0
    side: int = 1


def _pick(rng: np.random.Generator, values: Iterable[str]) -> str:
    values = tuple(values)
    return values[int(rng.integers(len(values)))]


def _draw_skin(rng: np.random.Generator) -> dict:
    return {"skin": _pick(rng, SKINS)}


def _draw_hair(rng: np.random.Generator) -> dict:
    style = _pick(rng, HAIRS)
    return {"hair": style, "hair_colour": NONE if style == "bald" else _pick(rng, HAIR_COLOURS)}


def _draw_hat(rng: np.random.Generator) -> dict:
    hat = _pick(rng, HATS)
    return {"hat": hat, "hat_colour": NONE if hat == NONE else _pick(rng, _HAT_COLOURS)}


def _draw_top(rng: np.random.Generator) -> dict:
    top = _pick(rng, TOPS)
    colour, pattern = _pick(rng, _TOP_COLOURS), _pick(rng, TOPS[top].patterns)
    palette = _SHIRT_COLOURS if TOPS[top].layered else _PATTERN_COLOURS
    others = [c for c in palette if _distance(COLOURS[c], COLOURS[colour]) > 90]
    second = _pick(rng, others) if TOPS[top].layered or pattern != "plain" else NONE
    return {"top": top, "top_colour": colour, "pattern": pattern, "second": second}


def _draw_bottom(rng: np.random.Generator, top: str) -> dict:
    if top == "dress":
        bottom = _pick(rng, ("bare", "tights"))
        return {"bottom": bottom, "bottom_colour": "black" if bottom == "tights" else NONE}
    return {"bottom": _pick(rng, BOTTOMS), "bottom_colour": _pick(rng, _BOTTOM_COLOURS)}


def _draw_shoes(rng: np.random.Generator) -> dict:
    return {"shoes": _pick(rng, SHOES), "shoes_colour": _pick(rng, _SHOE_COLOURS)}


def _draw_bag(rng: np.random.Generator) -> dict:
    bag = _pick(rng, BAGS)
    return {"bag": bag, "bag_colour": NONE if bag == NONE else _pick(rng, _BAG_COLOURS)}


def _distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def wearable(identity: Identity) -> bool:
    """Whether every garment can be seen: nothing hides under a coat, a hat or wide trousers.

    Otherwise two people could differ in an attribute and still look the same.
    """
    i = identity
    under_coat = i.top == "coat" and i.bottom in ("shorts", "skirt")
    under_hat = i.hat != NONE and i.hair == "bun"
    under_hem = i.shoes == "boots" and i.bottom in ("wide", "long-skirt")
    return not (under_coat or under_hat or under_hem)


def draw_identity(rng: np.random.Generator) -> Identity:
    """A person with every attribute drawn at random."""
    while not wearable(person := _draw_any(rng)):
        pass
    return person


def _draw_any(rng: np.random.Generator) -> Identity:
    top = _draw_top(rng)
    return Identity(
        **_draw_skin(rng),
        **_draw_hair(rng),
        **_draw_hat(rng),
        **top,
        **_draw_bottom(rng, top["top"]),
        **_draw_shoes(rng),
        **_draw_bag(rng),
        umbrella=_pick(rng, _UMBRELLA_COLOURS) if rng.random() < 0.06 else NONE,
        height=round(float(rng.uniform(0.93, 1.04)), 3),
        build=round(float(rng.uniform(0.90, 1.16)), 3),
        waist=round(float(rng.uniform(0.90, 1.06)), 3),
        side=int(rng.choice((-1, 1))),
    )


def draw_look_alike(rng: np.random.Generator, of: Identity) -> Identity:
    """A person who differs from `of` in exactly two parts, such as bag and shoes; the body is the same."""
    redraw = {
        "hair": _draw_hair,
        "hat": _draw_hat,
        "top": _draw_top,
        "bottom": lambda r: _draw_bottom(r, of.top),
        "shoes": _draw_shoes,
        "bag": _draw_bag,
    }
    while True:
        chosen = rng.permutation(list(redraw))[: int(rng.integers(1, 3))]
        changes: dict = {}
        for name in chosen:
            changes |= redraw[name](rng)
        if ("dress" in (of.top, changes.get("top", of.top))) and "top" in chosen:
            continue  # a dress also decides what the legs wear, so this would change a third part
        other = replace(of, **changes)
        if wearable(other) and len(differing_parts(of, other)) == 2:
            return other


def draw_people(count: int, seed: int) -> tuple[Identity, ...]:
    """`count` people, any two of whom differ in at least two parts.

    Each person depends only on the seed and on the people before, so a larger set begins with the smaller
    one. Every second person is, with probability 0.6, a look-alike of the one before.
    """
    people: list[Identity] = []
    for k in range(count):
        rng = np.random.default_rng([seed, 1, k])
        alike = k % 2 == 1 and rng.random() < 0.6
        people.append(draw_other_than(people, rng, of=people[-1] if alike else None))
    return tuple(people)


def draw_other_than(people: Iterable[Identity], rng: np.random.Generator, of: Identity | None = None) -> Identity:
    """A person (a look-alike of `of`, if given) who differs from each of `people` in at least two parts."""
    people = tuple(people)
    while True:
        candidate = draw_identity(rng) if of is None else draw_look_alike(rng, of)
        if all(len(differing_parts(candidate, other)) >= 2 for other in people):
            return candidate


def appearance(identity: Identity) -> dict[str, tuple[str, ...]]:
    """The attributes that can be seen in each part, as tuples that are equal when the part looks the same.

    Sleeves make the arms look like the torso, bare arms and legs show the skin: one attribute may be seen in
    several parts.
    """
    i = identity
    cloth = (i.top_colour, i.pattern, i.second)
    printed = i.pattern not in ("plain", "logo")
    print_colour = i.second if printed and i.top != "blazer" else NONE  # there it is the shirt's
    sleeve = (i.top_colour, i.pattern if printed else NONE, print_colour)
    quilted = ("quilted",) if i.top == "puffer" else ()
    bare = i.bottom in ("shorts", "skirt", "bare")
    return {
        "head": (i.skin,),
        "hair": (i.hair, i.hair_colour),
        "hat": (i.hat, i.hat_colour),
        "torso": (i.top, *cloth),
        "arms": (TOPS[i.top].sleeve, *sleeve, *quilted, i.skin),
        "legs": (i.bottom, i.bottom_colour, i.skin if bare else NONE),
        "shoes": (i.shoes, i.shoes_colour),
        "bag": (i.bag, i.bag_colour),
        "umbrella": (i.umbrella,),
    }


def differing_parts(a: Identity, b: Identity) -> tuple[str, ...]:
    """The parts in which two people look different, in the order of `PARTS`."""
    first, second = appearance(a), appearance(b)
    return tuple(part for part in PARTS if first[part] != second[part])


class Distinction(NamedTuple):
    """What tells one id from its nearest neighbours.

    `neighbours` maps the id of each nearest neighbour (fewest differing parts; several when tied) to the
    parts that differ; `distinctive` is the union of those parts, in the order of `PARTS`.
    """

    neighbours: dict[int, tuple[str, ...]]
    distinctive: tuple[str, ...]


def distinguish(people: Mapping[int, Identity]) -> dict[int, Distinction]:
    """The nearest neighbours of every id and the parts that tell it from them; both empty for a single id."""
    result = {}
    for number, person in people.items():
        differences = {n: differing_parts(person, p) for n, p in people.items() if n != number}
        least = min(map(len, differences.values()), default=0)
        neighbours = {n: parts for n, parts in differences.items() if len(parts) == least}
        union = {part for parts in neighbours.values() for part in parts}
        result[number] = Distinction(neighbours, tuple(part for part in PARTS if part in union))
    return result
