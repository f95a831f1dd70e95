"""The houses, walls, fences and parks along the street, each on one lot. Lengths in metres."""

from dataclasses import dataclass

import numpy as np

from src.street import palette
from src.street.camera import quad
from src.street.canvas import Canvas, Colour, mix, scale
from src.street.layout import Lot
from src.street.nature import wood
from src.street.shapes import rect, row

STOREY = 3.1
DEPTH = 11.0  # of a house, away from the street
DETAILED = 60.0  # houses beyond this distance have no details


@dataclass(frozen=True)
class Facade:
    storeys: int  # above the ground floor
    paint: Colour
    trim: Colour
    glass: Colour
    filled: float  # share of the width that windows take
    tall: float  # share of the height of a storey that windows take
    shop: bool

    @property
    def height(self) -> float:
        return STOREY * (self.storeys + 1.25)

    def windows(self, start: float, end: float, columns: int, filled: float) -> np.ndarray:
        """(n, 4, 2) outlines on the upper storeys."""
        low = STOREY * (1.15 + (1 - self.tall) * 0.4)
        first = row(start, end, columns, filled, low, low + STOREY * self.tall)
        lift = np.arange(self.storeys)[:, None, None, None] * np.array((0.0, STOREY))
        return (first[None] + lift).reshape(-1, 4, 2)


def house(canvas: Canvas, rng: np.random.Generator, lot: Lot) -> None:
    ident = canvas.new("building")
    paint = palette.pick(rng, palette.FACADE)
    roof = palette.pick(rng, palette.ROOF)
    storeys = int(rng.integers(1, 5))
    filled, tall = rng.uniform(0.36, 0.66), rng.uniform(0.5, 0.62)
    glass = mix(palette.GLASS, palette.GLASS_BRIGHT, rng.uniform(0, 0.9))
    trim = scale(paint, rng.choice((0.72, 1.22)))
    facade = Facade(storeys, paint, trim, glass, filled, tall, shop=bool(rng.integers(2)))
    x, back, top = lot.x, lot.x + lot.side * DEPTH, facade.height
    gable = canvas.light.shade((0, 0, -1))

    if rng.integers(2):
        ridge, peak = x + lot.side * 2.5, top + 2.2
        slope = ((x, top, lot.z0), (x, top, lot.z1), (ridge, peak, lot.z1), (ridge, peak, lot.z0))
        end = ((x, top, lot.z0), (ridge, peak, lot.z0), (back, peak, lot.z0), (back, top, lot.z0))
        canvas.fill(np.array(slope), roof, ident, canvas.light.shade((-lot.side * 0.66, 0.75, 0)))
        canvas.fill(np.array(end), paint, ident, gable)
    canvas.fill(quad(x, back, 0, top, lot.z0, lot.z0), paint, ident, gable)
    canvas.fill(lot.front(0, top), paint, ident, canvas.light.shade((-lot.side, 0, 0)))
    if lot.z0 > DETAILED:
        return
    street_front(canvas, rng, lot, facade)
    panes = facade.windows(0, DEPTH, 4, filled * 0.8)
    gable_panes = np.empty((len(panes), 4, 3))
    gable_panes[..., 0] = x + lot.side * panes[..., 0]
    gable_panes[..., 1] = panes[..., 1]
    gable_panes[..., 2] = lot.z0
    canvas.pattern(gable_panes, glass, gable)


def street_front(canvas: Canvas, rng: np.random.Generator, lot: Lot, facade: Facade) -> None:
    """Windows with frames, cornices, and a ground floor of shops or of doors between small windows."""

    def draw(outlines: np.ndarray, colour: Colour) -> None:
        canvas.pattern(lot.on_front(outlines), colour, facing)

    facing = canvas.light.shade((-lot.side, 0, 0))
    z0, z1, glass = lot.z0, lot.z1, facade.glass
    columns = max(2, round((z1 - z0) / 2.6))
    panes = facade.windows(z0, z1, columns, facade.filled)
    middles = panes.mean(1, keepdims=True)
    draw(middles + (panes - middles) * 1.22, facade.trim)
    draw(panes, glass)
    bright = rng.uniform(size=len(panes)) < 0.25
    if bright.any():
        draw(panes[bright], mix(glass, canvas.light.haze, 0.6))
    draw(np.stack([rect(z0, z1, y, y + 0.22) for y in (STOREY * 1.02, facade.height - 0.35)]), facade.trim)
    if facade.shop:
        draw(row(z0, z1, max(2, columns // 2), 0.84, 0.4, 2.5), glass)
        draw(row(z0, z1, 1, 0.94, 2.6, 3.05), scale(glass, 0.6))
    else:
        openings = row(z0, z1, columns, 0.42, 1.0, 2.4)
        openings[::3, :2, 1] = 0.05
        draw(openings, scale(glass, 0.8))


def wall(canvas: Canvas, rng: np.random.Generator, lot: Lot) -> None:
    """A free-standing wall of big courses under a coping."""
    behind(canvas, rng, lot)
    ident = canvas.new("wall")
    paint = palette.pick(rng, palette.BRICK)
    height, course = rng.uniform(2.0, 2.8), rng.uniform(0.36, 0.46)
    end = quad(lot.x, lot.x + lot.side * 0.5, 0, height, lot.z0, lot.z0)
    facing = canvas.light.shade((-lot.side, 0, 0))
    canvas.fill(end, paint, ident, canvas.light.shade((0, 0, -1)))
    canvas.fill(lot.front(0, height), paint, ident, facing)
    lines = np.arange(0, height - 0.3, course)
    joints = np.stack([rect(lot.z0, lot.z1, y, y + 0.1) for y in lines[1:]])
    canvas.pattern(lot.on_front(joints), scale(paint, 0.62), facing)
    until = min(lot.z1, lot.z0 + 22)  # further on, the bricks are too small to be seen
    bricks = [
        rect(z, z + 0.12, y, y + course)
        for i, y in enumerate(lines)
        for z in np.arange(lot.z0 + (i % 2) * 0.6, until, 1.2)
    ]
    canvas.pattern(lot.on_front(np.stack(bricks)), scale(paint, 0.66), facing)
    canvas.fill(lot.front(height - 0.22, height), scale(paint, 1.25), ident, facing)


def fence(canvas: Canvas, rng: np.random.Generator, lot: Lot) -> None:
    """Vertical bars between two rails. What is seen between the bars counts as fence, as in Cityscapes."""
    behind(canvas, rng, lot)
    paint = palette.pick(rng, palette.FENCE)
    height, pitch = rng.uniform(1.8, 2.4), rng.uniform(0.5, 0.64)
    length = lot.z1 - lot.z0
    facing = canvas.light.shade((-lot.side, 0, 0))
    canvas.mark(lot.front(0, height), canvas.new("fence"))
    bars = row(lot.z0, lot.z1, max(2, round(length / pitch)), 0.42, 0.05, height)
    canvas.pattern(lot.on_front(bars), paint, facing)
    rails = np.stack([rect(lot.z0, lot.z1, y, y + 0.14) for y in (0.2, height - 0.35)])
    canvas.pattern(lot.on_front(rails), scale(paint, 0.85), facing)
    posts = row(lot.z0, lot.z1, max(1, round(length / 3)), 0.07, 0.0, height)
    canvas.pattern(lot.on_front(posts), scale(paint, 0.7), facing)


def park(canvas: Canvas, rng: np.random.Generator, lot: Lot) -> None:
    wood(canvas, rng, lot.set_back(3.0), rng.uniform(5, 9))
    if rng.integers(2):
        wood(canvas, rng, lot.set_back(0.6), rng.uniform(0.9, 1.5))


def behind(canvas: Canvas, rng: np.random.Generator, lot: Lot) -> None:
    """Draw what is visible above a wall or through a fence."""
    if rng.integers(2):
        house(canvas, rng, lot.set_back(7.0))
    wood(canvas, rng, lot.set_back(4.0), rng.uniform(2.6, 6.5))
