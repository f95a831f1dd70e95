"""The objects on the pavement: poles, lamps, traffic lights, signs, bins. Lengths in metres."""

import numpy as np

from src.street import palette
from src.street.canvas import Canvas, Colour, scale
from src.street.shapes import bar, disc, rect, upright

RED: Colour = (186, 32, 34)
BLUE: Colour = (38, 76, 150)
WHITE: Colour = (226, 226, 222)
YELLOW: Colour = (222, 180, 50)


def pole(canvas: Canvas, x: float, z: float, height: float, colour: Colour, width: float = 0.22) -> None:
    """A round pole: brighter on the sun's side."""
    canvas.fill(upright(x, z, rect(-width / 2, width / 2, 0, height)), colour, canvas.new("pole"))
    edge = width / 2 * (1 if canvas.light.sun[0] > 0 else -1)
    canvas.fill(upright(x, z, rect(edge * 0.3, edge * 0.8, 0, height)), scale(colour, 1.35))


def street_lamp(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    colour = palette.pick(rng, palette.METAL)
    height, reach = rng.uniform(5.5, 7.5), -np.sign(x) * rng.uniform(1.2, 2.2)
    ident = canvas.new("pole")
    canvas.fill(upright(x, z, rect(-0.22, 0.22, 0, 1.3)), scale(colour, 0.85), ident)
    pole(canvas, x, z, height, colour, 0.27)
    canvas.fill(upright(x, z, bar((0, height), (reach, height + 0.35), 0.16)), colour, ident)
    lamp = bar((reach * 0.8, height + 0.28), (reach * 1.3, height + 0.36), 0.2)
    canvas.fill(upright(x, z, lamp), scale(colour, 0.8), ident)


def traffic_light(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A traffic light on a pole, and sometimes a second one on an arm over the lane."""
    colour = palette.pick(rng, palette.METAL)
    lit = int(rng.integers(3))
    arm = rng.uniform(2.2, 3.6) if rng.integers(3) == 0 else 0.0
    height = 5.2 if arm else 3.7
    pole(canvas, x, z, height, colour)
    if arm:
        inwards = -float(np.sign(x)) * arm
        canvas.fill(upright(x, z, bar((0, 5.0), (inwards, 5.2), 0.14)), colour, canvas.new("pole"))
        signal_head(canvas, x + inwards, z - 0.05, 4.4, lit)
    signal_head(canvas, x, z - 0.1, 2.5, lit)


def signal_head(canvas: Canvas, x: float, z: float, bottom: float, lit: int) -> None:
    """Three lenses in a dark case with a visor over each; `lit` counts from the bottom: green, amber, red."""
    ident = canvas.new("traffic light")
    canvas.fill(upright(x, z, rect(-0.27, 0.27, bottom, bottom + 1.25)), (34, 36, 36), ident)
    colours = ((40, 214, 130), (244, 170, 40), (236, 40, 34))
    for i, colour in enumerate(colours):
        lens = disc(0, bottom + 0.24 + 0.385 * i, 0.16, 12)
        canvas.fill(upright(x, z, lens), colour if i == lit else scale(colour, 0.28))
    visors = np.stack([rect(-0.19, 0.19, y, y + 0.05) for y in (bottom + 0.4, bottom + 0.785, bottom + 1.17)])
    canvas.pattern(upright(x, z, visors), (14, 14, 16))


def sign(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """One or two plates on a pole: round, triangular, diamond or square, or a direction board."""
    colour = palette.pick(rng, palette.METAL)
    kind = int(rng.integers(6))
    height = rng.uniform(2.3, 2.8)
    second = rng.integers(2) == 0
    pole(canvas, x, z, height + (0.9 if second else 0.4), colour, 0.17)
    plate(canvas, x, z - 0.05, height, kind)
    if second:
        plate(canvas, x, z - 0.05, height + 0.82, (kind + 2) % 5)


def plate(canvas: Canvas, x: float, z: float, y: float, kind: int) -> None:
    """A plate whose middle is `y` metres above the ground, with a contrasting border and a symbol."""
    ident = canvas.new("traffic sign")
    if kind == 5:
        outline, inner, face, rim = (
            rect(-1.0, 1.0, y - 0.4, y + 0.4),
            rect(-0.93, 0.93, y - 0.33, y + 0.33),
            YELLOW,
            RED,
        )
    elif kind == 1:
        triangle = np.array(((-0.46, y - 0.3), (0.46, y - 0.3), (0.0, y + 0.48)))
        centre = np.array((0.0, y - 0.04))
        outline, inner, face, rim = triangle, centre + (triangle - centre) * 0.62, WHITE, RED
    elif kind in (0, 4):
        outline, inner = disc(0, y, 0.4, 18), disc(0, y, 0.28, 18)
        face, rim = (WHITE, RED) if kind == 0 else (BLUE, WHITE)
    else:
        turned = kind == 2
        outline = disc(0, y, 0.48, 4) if turned else rect(-0.36, 0.36, y - 0.36, y + 0.36)
        inner = disc(0, y, 0.38, 4) if turned else rect(-0.3, 0.3, y - 0.3, y + 0.3)
        face, rim = (YELLOW, WHITE) if turned else (BLUE, WHITE)
    canvas.fill(upright(x, z, outline), rim, ident)
    canvas.fill(upright(x, z, inner), face)
    ink = WHITE if face == BLUE else (30, 30, 32)
    if kind == 5:
        canvas.pattern(
            upright(x, z, np.stack([rect(-0.75, 0.5, at, at + 0.12) for at in (y - 0.2, y + 0.08)])), ink
        )
    elif kind != 2:
        canvas.fill(upright(x, z, rect(-0.13, 0.13, y - 0.08, y + 0.05)), ink)


def bin_(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    ident = canvas.new("static")
    colour = palette.pick(rng, palette.PAINT)
    canvas.fill(upright(x, z, np.array(((-0.3, 0), (0.3, 0), (0.35, 1.05), (-0.35, 1.05)))), colour, ident)
    canvas.fill(upright(x, z, rect(-0.38, 0.38, 1.0, 1.12)), scale(colour, 0.6), ident)
