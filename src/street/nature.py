"""Trees, with their trunks, and hedges: class `vegetation`."""

import numpy as np

from src.street import palette
from src.street.canvas import Canvas, Colour, scale
from src.street.layout import Lot
from src.street.shapes import disc, rect, upright


def crown(rng: np.random.Generator, x: float, y: float, wide: float, tall: float) -> np.ndarray:
    """(n, 2): a ragged closed outline."""
    angle = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    lobes = 1 + 0.1 * np.sin(angle * rng.integers(4, 8) + rng.uniform(0, 6)) + rng.uniform(-0.09, 0.09, 44)
    return np.stack((x + wide * lobes * np.cos(angle), y + tall * lobes * np.sin(angle)), -1)


def leaves(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    y: float,
    z: float,
    wide: float,
    tall: float,
    colour: Colour,
) -> None:
    """Clumps of leaves inside a crown: dark below and inside, bright on the sun's side."""
    sun = canvas.light.sun[0]
    for count, factor, up, towards in ((26, 0.62, -0.22, -0.2), (26, 1.35, 0.22, 0.2), (20, 1.7, 0.4, 0.3)):
        angle, reach = rng.uniform(0, 2 * np.pi, count), 0.62 * np.sqrt(rng.uniform(0, 1, count))
        size = rng.uniform(0.06, 0.17, count)
        middle = np.stack((reach * np.cos(angle) + towards * sun, reach * np.sin(angle) + up), -1) * 0.8
        clump = middle[:, None] + size[:, None, None] * disc(0, 0, 1, 6)[None]
        canvas.pattern(upright(x, z, clump * (wide, tall) + (0, y)), scale(colour, factor))


def tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    ident = canvas.new("vegetation")
    colour = palette.pick(rng, palette.LEAF)
    wide, tall, stem = rng.uniform((1.4, 1.7, 2.0), (2.4, 2.6, 2.9)).tolist()
    middle = stem + tall * 0.85
    canvas.fill(upright(x, z, rect(-0.16, 0.16, 0, stem + 0.5)), (70, 58, 46), ident)
    canvas.fill(upright(x, z, crown(rng, 0, middle, wide, tall)), colour, ident)
    leaves(canvas, rng, x, middle, z, wide, tall, colour)


def wood(canvas: Canvas, rng: np.random.Generator, lot: Lot, height: float) -> None:
    """A closed row of trees or, if low, a hedge, along the lot's front."""
    colour = palette.pick(rng, palette.LEAF)
    z = np.linspace(lot.z1, lot.z0, 60)
    crowns = np.abs(np.sin(z * (3.6 / (height + 1)) + rng.uniform(0, 3)))
    top = height * (0.84 + 0.16 * crowns + rng.uniform(-0.025, 0.025, 60))
    outline = np.concatenate((np.stack((z, top), -1), ((lot.z0, 0.0), (lot.z1, 0.0))))
    facing = canvas.light.shade((-lot.side, 0.0, 0.0))
    canvas.fill(lot.on_front(outline), colour, canvas.new("vegetation"), facing)
    for factor, low, high in ((0.6, 0.05, 0.55), (1.35, 0.45, 0.88), (1.65, 0.6, 0.9)):
        count, limit = 46, 0.86 * height
        middles = np.stack((rng.uniform(lot.z0, lot.z1, count), rng.uniform(low, high, count) * limit), -1)
        size = rng.uniform(0.04, 0.1, count) * (height + 1.5)
        clumps = middles[:, None] + size[:, None, None] * disc(0, 0, 1, 6) * (1, 0.8)
        np.clip(clumps, (lot.z0, 0.0), (lot.z1, limit), out=clumps)
        canvas.pattern(lot.on_front(clumps), scale(colour, factor))
