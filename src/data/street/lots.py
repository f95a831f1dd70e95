"""What lines the street: houses, walls and fences, each along a stretch z0 to z1 of one side, in metres.

`side` is -1 on the left and +1 on the right, `line` the distance from the camera's path to the facades.
"""

import numpy as np

from src.data.street import palette
from src.data.street.camera import quad
from src.data.street.canvas import Canvas, Colour, mix, scale
from src.data.street.nature import wood
from src.data.street.shapes import row

STOREY = 3.1


def on_wall(x: float, outlines: np.ndarray) -> np.ndarray:
    """Outlines in (z, y) on the plane at x."""
    points = np.empty((*outlines.shape[:-1], 3))
    points[..., 0] = x
    points[..., 1] = outlines[..., 1]
    points[..., 2] = outlines[..., 0]
    return points


def across_wall(z: float, outlines: np.ndarray) -> np.ndarray:
    """Outlines in (x, y) on the plane at z."""
    points = np.empty((*outlines.shape[:-1], 3))
    points[..., :2] = outlines
    points[..., 2] = z
    return points


def storeys(z0: float, z1: float, columns: int, count: int, filled: float, tall: float) -> np.ndarray:
    """(columns * count, 4, 2) windows above the ground floor; `tall` is their share of a storey."""
    low = STOREY * (1.15 + (1 - tall) * 0.4)
    first = row(z0, z1, columns, filled, low, low + STOREY * tall)
    lift = np.arange(count)[:, None, None, None] * np.array((0.0, STOREY))
    return (first[None] + lift).reshape(-1, 4, 2)


def house(
    canvas: Canvas,
    rng: np.random.Generator,
    side: int,
    line: float,
    z0: float,
    z1: float,
    setback: float = 0.0,
) -> None:
    ident = canvas.new("building")
    paint, roof = (
        palette.pick(rng, palette.FACADE),
        palette.pick(rng, ((104, 58, 46), (70, 72, 78), (92, 80, 70))),
    )
    count = int(rng.integers(1, 5))
    filled, tall = rng.uniform(0.36, 0.66), rng.uniform(0.5, 0.62)
    glass = mix(palette.GLASS, palette.GLASS_BRIGHT, rng.uniform(0, 0.9))
    trim = scale(paint, rng.choice((0.72, 1.22)))
    shop, has_roof = bool(rng.integers(2)), bool(rng.integers(2))
    x = side * (line + setback)
    height = STOREY * (count + 1.25)
    facing, gable = canvas.light.shade((-side, 0, 0)), canvas.light.shade((0, 0, -1))

    if has_roof:
        slope = np.array(
            (
                (x, height, z0),
                (x, height, z1),
                (x + side * 2.5, height + 2.2, z1),
                (x + side * 2.5, height + 2.2, z0),
            )
        )
        canvas.fill(slope, roof, ident, canvas.light.shade((-side * 0.66, 0.75, 0)))
        canvas.fill(
            np.array(
                (
                    (x, height, z0),
                    (x + side * 2.5, height + 2.2, z0),
                    (x + side * 11, height + 2.2, z0),
                    (x + side * 11, height, z0),
                )
            ),
            paint,
            ident,
            gable,
        )
    canvas.fill(quad(x, x + side * 11, 0, height, z0, z0), paint, ident, gable)
    canvas.fill(quad(x, x, 0, height, z0, z1), paint, ident, facing)
    if z0 > 60:
        return
    columns = max(2, round((z1 - z0) / 2.6))
    panes = storeys(z0, z1, columns, count, filled, tall)
    frames = panes.mean(1, keepdims=True) + (panes - panes.mean(1, keepdims=True)) * 1.22
    canvas.pattern(on_wall(x, frames), trim, facing)
    canvas.pattern(on_wall(x, panes), glass, facing)
    lit = rng.uniform(size=len(panes)) < 0.25
    if lit.any():
        canvas.pattern(on_wall(x, panes[lit]), mix(glass, canvas.light.haze, 0.6), facing)
    bands = np.stack(
        [[(z0, y), (z1, y), (z1, y + 0.22), (z0, y + 0.22)] for y in (STOREY * 1.02, height - 0.35)]
    )
    canvas.pattern(on_wall(x, bands), trim, facing)
    ground_floor(canvas, x, z0, z1, columns, shop, glass, facing)
    side_panes = storeys(0, 11, 4, count, filled * 0.8, tall)
    side_panes[..., 0] = x + side * side_panes[..., 0]
    canvas.pattern(across_wall(z0, side_panes), glass, gable)


def ground_floor(
    canvas: Canvas, x: float, z0: float, z1: float, columns: int, shop: bool, glass: Colour, facing: float
) -> None:
    """Shop windows under a sign board, or doors between small windows."""
    if shop:
        canvas.pattern(on_wall(x, row(z0, z1, max(2, columns // 2), 0.84, 0.4, 2.5)), glass, facing)
        canvas.pattern(on_wall(x, row(z0, z1, 1, 0.94, 2.6, 3.05)), scale(glass, 0.6), facing)
    else:
        openings = row(z0, z1, columns, 0.42, 1.0, 2.4)
        openings[::3, :2, 1] = 0.05
        canvas.pattern(on_wall(x, openings), scale(glass, 0.8), facing)


def wall(canvas: Canvas, rng: np.random.Generator, side: int, line: float, z0: float, z1: float) -> None:
    """A free-standing wall of big courses under a coping, with trees or a house behind it."""
    behind(canvas, rng, side, line, z0, z1)
    ident = canvas.new("wall")
    paint = palette.pick(rng, palette.BRICK)
    height, course = rng.uniform(1.9, 2.8), rng.uniform(0.26, 0.34)
    x = side * line
    facing = canvas.light.shade((-side, 0, 0))
    canvas.fill(quad(x, x + side * 0.5, 0, height, z0, z0), paint, ident, canvas.light.shade((0, 0, -1)))
    canvas.fill(quad(x, x, 0, height, z0, z1), paint, ident, facing)
    joints = [
        [(z0, y), (z1, y), (z1, y + 0.06), (z0, y + 0.06)] for y in np.arange(course, height - 0.3, course)
    ]
    canvas.pattern(on_wall(x, np.array(joints)), scale(paint, 0.62), facing)
    bricks = []
    for i, y in enumerate(np.arange(0, height - 0.3, course)):
        starts = np.arange(z0 + (i % 2) * 0.45, min(z1, z0 + 22), 0.9)
        bricks += [[(z, y), (z + 0.06, y), (z + 0.06, y + course), (z, y + course)] for z in starts]
    canvas.pattern(on_wall(x, np.array(bricks)), scale(paint, 0.66), facing)
    canvas.fill(quad(x, x, height - 0.22, height, z0, z1), scale(paint, 1.25), ident, facing)


def fence(canvas: Canvas, rng: np.random.Generator, side: int, line: float, z0: float, z1: float) -> None:
    """Vertical bars between two rails. What is seen between the bars counts as fence, as in Cityscapes."""
    behind(canvas, rng, side, line, z0, z1)
    paint = palette.pick(rng, (*palette.METAL, (196, 192, 184), (118, 92, 76)))
    height, pitch = rng.uniform(1.7, 2.4), rng.uniform(0.4, 0.56)
    x = side * line
    facing = canvas.light.shade((-side, 0, 0))
    canvas.mark(quad(x, x, 0, height, z0, z1), canvas.new("fence"))
    bars = row(z0, z1, max(2, round((z1 - z0) / pitch)), 0.42, 0.05, height)
    canvas.pattern(on_wall(x, bars), paint, facing)
    for y in (0.2, height - 0.35):
        canvas.fill(quad(x, x, y, y + 0.14, z0, z1), scale(paint, 0.85), None, facing)
    posts = row(z0, z1, max(1, round((z1 - z0) / 3)), 0.07, 0.0, height)
    canvas.pattern(on_wall(x, posts), scale(paint, 0.7), facing)


def park(canvas: Canvas, rng: np.random.Generator, side: int, line: float, z0: float, z1: float) -> None:
    wood(canvas, rng, side, line + 3.0, z0, z1, rng.uniform(5, 9))
    if rng.integers(2):
        wood(canvas, rng, side, line + 0.6, z0, z1, rng.uniform(0.9, 1.5))


def behind(canvas: Canvas, rng: np.random.Generator, side: int, line: float, z0: float, z1: float) -> None:
    if rng.integers(2):
        house(canvas, rng, side, line, z0, z1, setback=7.0)
    wood(canvas, rng, side, line + 4.0, z0, z1, rng.uniform(2.6, 6.5))
