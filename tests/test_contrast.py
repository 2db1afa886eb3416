"""Worst WCAG contrast of the colours in tokens.css and app.css, over every hue and chroma a brand may pick."""

import math
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parent.parent / "static"
CHROMAS = (0.02, 0.06, 0.105, 0.13, 0.15)
PAIRS = [  # front, back, least contrast
    ("--text", "--bg", 4.5),
    ("--text", "--bg-sunken", 4.5),
    ("--text-2", "--accent-soft", 4.5),
    ("--text-2", "--bg-sunken", 4.5),
    ("--text-3", "--bg-sunken", 4.5),
    ("--text-3", "--bg-raised", 4.5),
    ("--border-strong", "--bg-raised", 3),
    ("--on-accent", "--accent", 4.5),
    ("--accent-text", "--bg", 4.5),
    ("--accent-text", "--accent-soft", 4.5),
    ("--accent", "--bg-raised", 3),
    ("--accent-mid", "--bg", 3),
    ("--danger", "--danger-soft", 4.5),
    ("--danger", "--bg-sunken", 4.5),
    ("--warn", "--warn-soft", 4.5),
    ("--warn", "--bg-sunken", 4.5),
    ("--ok", "--bg", 4.5),
    ("--text", "--danger-soft", 4.5),
    *((f"--code-{name}", "--bg-sunken", 4.5) for name in "ksnm"),
]

CHROMA = r"calc\(var\(--brand-chroma\) \* [\d.]+\)|var\(--brand-chroma\)|[\d.]+"
COLOUR = rf"oklch\(([\d.]+) ({CHROMA}) (var\(--brand-hue\)|[\d.]+)\)"
TOKENS = {
    name: (light, dark)
    for name, *channels in re.findall(
        rf"(--[\w-]+): light-dark\({COLOUR}, {COLOUR}\)",
        "".join((STATIC / sheet).read_text() for sheet in ("tokens.css", "app.css")),
    )
    for light, dark in [(channels[:3], channels[3:])]
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS, ids=[f"{front} on {back}" for front, back, _ in PAIRS])
def test_no_brand_can_pick_a_hue_that_makes_text_hard_to_read(front, back, least, theme):
    worst = min(
        contrast(linear_srgb(TOKENS[front][theme], chroma, hue), linear_srgb(TOKENS[back][theme], chroma, hue))
        for chroma in CHROMAS
        for hue in range(0, 360, 3)
    )

    assert worst >= least


def linear_srgb(token, brand_chroma, brand_hue):
    lightness, chroma, hue = token
    if factor := re.search(r"\* ([\d.]+)", chroma):
        chroma = brand_chroma * float(factor[1])
    else:
        chroma = brand_chroma if "var" in chroma else float(chroma)
    angle = math.radians(brand_hue if "var" in hue else float(hue))
    a, b, lightness = chroma * math.cos(angle), chroma * math.sin(angle), float(lightness)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    rgb = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return [min(1, max(0, channel)) for channel in rgb]  # clipped to what a screen shows


def contrast(first, second):
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (first, second))
    return (high + 0.05) / (low + 0.05)
