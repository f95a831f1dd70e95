"""The street itself, from the sky down to the markings: everything that lies flat or far away."""

import numpy as np

from src.street import palette
from src.street.canvas import Canvas, Colour, mix, scale
from src.street.layout import FAR, Street

START = 0.3  # metres; nearer ground is below the image
SPACING = np.linspace(0, 1, 16) ** 3  # corners along a strip, denser near the camera


def strip(
    canvas: Canvas,
    x0: float,
    x1: float,
    colour: Colour,
    ident: int | None,
    z0: float = START,
    z1: float = FAR,
) -> None:
    """A band of ground between two lines parallel to the road, which may bend."""
    z = z0 + (z1 - z0) * SPACING
    outline = np.zeros((2 * len(z), 3))
    outline[: len(z), 0], outline[len(z) :, 0] = x0, x1
    outline[: len(z), 2], outline[len(z) :, 2] = z, z[::-1]
    canvas.fill(outline, colour, ident)


def sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """A gradient towards the haze with soft clouds; fills the whole canvas."""
    height = len(canvas.ids)
    top = palette.pick(rng, ((92, 140, 196), (150, 164, 180), (196, 200, 204), (120, 150, 190)))
    horizon = max(int(canvas.camera.centre[1]), 1)
    share = np.clip(np.arange(height) / horizon, 0, 1)[:, None, None]
    gradient = np.array(top) * (1 - share) + np.array(canvas.light.haze) * share
    canvas.image[:] = np.rint(gradient).astype(np.uint8)  # (H, 1, 3)
    canvas.ids[:] = canvas.new("sky")
    for _ in range(int(rng.integers(0, 7))):
        x, y, wide, tall = rng.uniform((-60, 12, 8, 1.5), (60, 60, 30, 5)).tolist()
        angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
        puff = 1 + rng.uniform(-0.2, 0.2, 30)
        for size in (1.0, 0.7):
            points = np.stack(
                (
                    x + wide * size * puff * np.cos(angle),
                    y + tall * size * puff * np.sin(angle),
                    np.full(30, 110.0),
                ),
                -1,
            )
            canvas.veil(points, (236, 236, 238), 0.35)


def skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Distant houses and trees, which close the view at the end of the road."""
    for x in np.arange(-130, 131, 20) + rng.uniform(-4, 4):
        height = rng.uniform(8, 24)
        if rng.uniform() < 0.45:
            points = np.array(((x, 0, 150), (x, height, 150), (x + 21, height, 150), (x + 21, 0, 150)))
            canvas.fill(points, palette.pick(rng, palette.FACADE), canvas.new("building"))
        else:
            bumps = np.linspace(x - 3, x + 24, 14)
            tops = height * 0.7 * (1 + rng.uniform(-0.15, 0.15, 14))
            tops[[0, -1]] = 0
            points = np.stack((bumps, tops, np.full(14, 150.0)), -1)
            canvas.fill(points, palette.pick(rng, palette.LEAF), canvas.new("vegetation"))


def ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    asphalt = scale(palette.pick(rng, palette.STONE, 5), rng.uniform(0.7, 0.96))
    paving = scale(palette.pick(rng, palette.STONE, 7), rng.uniform(1.0, 1.35))
    grass = palette.pick(rng, palette.GRASS)
    strip(canvas, -300, 300, grass, canvas.new("terrain"))
    for side in (-1, 1):
        edge, walk, line = street.edge(side), street.walk(side), street.line(side)
        strip(canvas, side * edge, side * line, paving, canvas.new("sidewalk"))
        if street.green(side):
            low, high = (edge + walk, line) if street.green_outside else (edge, line - walk)
            strip(canvas, side * low, side * high, grass, canvas.new("terrain"))
        slabs(canvas, street, side, paving)
    strip(canvas, -street.left, street.right, asphalt, canvas.new("road"))
    if street.parking:
        strip(canvas, street.right - 2.2, street.right, mix(asphalt, paving, 0.5), canvas.new("parking"))
    if street.junction:
        strip(
            canvas, -300, 300, asphalt, canvas.new("road"), street.junction, street.junction + street.crossing
        )
    for side in (-1, 1):
        x = side * street.edge(side)
        strip(canvas, x, x + side * 0.18, scale(paving, 1.25), None, z1=street.junction or FAR)
    markings(canvas, rng, street)
    shade_of_houses(canvas, rng, street)


def slabs(canvas: Canvas, street: Street, side: int, paving: Colour) -> None:
    """Joints of the paving."""
    inner = (
        street.edge(side)
        if street.green_outside or not street.green(side)
        else street.line(side) - street.walk(side)
    )
    x0, x1 = side * inner, side * (inner + street.walk(side))
    z = np.arange(1.2, 40, 1.5)
    joints = np.zeros((len(z), 4, 3))
    joints[..., 0] = (x0, x1, x1, x0)
    joints[..., 2] = z[:, None] + np.array((0, 0, 0.12, 0.12))
    canvas.pattern(joints, scale(paving, 0.78))
    for share in (0.25, 0.5, 0.75):
        x = x0 + (x1 - x0) * share
        strip(canvas, x, x + 0.08, scale(paving, 0.78), None, z1=40)


def markings(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Dashed lane lines, edge lines, tram rails, a zebra crossing before the junction."""
    white = palette.pick(rng, ((206, 206, 202), (180, 180, 176)))
    until = street.junction - 5 if street.junction else FAR
    z = np.arange(rng.uniform(1.5, 5), until, 6.0)
    for x in street.lane_lines:
        dashes = np.zeros((len(z), 4, 3))
        dashes[..., 0] = (x - 0.08, x + 0.08, x + 0.08, x - 0.08)
        dashes[..., 2] = z[:, None] + np.array((0, 0, 3.0, 3.0))
        if len(dashes):
            canvas.pattern(dashes, white)
    for side in (-1, 1):
        x = side * (street.edge(side) - 0.35)
        strip(canvas, x, x + 0.12, white, None, z1=max(until, 2.0))
    for track in street.tracks:
        if street.own_bed and track < 0:
            strip(canvas, track - 1.5, track + 1.5, (104, 96, 86), canvas.new("rail track"))
        for rail in (track - 0.72, track + 0.72):
            strip(canvas, rail - 0.06, rail + 0.06, (62, 62, 66), None)
    if street.junction:
        count = int((street.left + street.right) / 0.9)
        starts = -street.left + 0.3 + 0.9 * np.arange(count)
        bars = np.zeros((count, 4, 3))
        bars[..., 0] = starts[:, None] + np.array((0, 0.45, 0.45, 0))
        bars[..., 2] = street.junction + np.array((-3.4, -3.4, -0.6, -0.6))
        canvas.pattern(bars, white)


def shade_of_houses(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """The houses on the sun's side throw their shadow over part of the street."""
    reach = rng.uniform(0, street.left + street.right)
    if canvas.light.strength < 0.4:
        return
    side = 1 if canvas.light.sun[0] > 0 else -1
    outer = side * (street.line(side) + 1)
    z = np.repeat(np.geomspace(1.2, FAR, 11), 2)[1:-1]
    inner = side * (street.line(side) - 1 - reach) + np.repeat(rng.uniform(-0.9, 0.9, 10), 2)
    outline = np.concatenate((
        np.stack((inner, np.zeros(20), z), -1),
        np.stack((np.full(20, outer), np.zeros(20), z[::-1]), -1),
    ))  # fmt: skip
    canvas.veil(outline, (20, 22, 34), 0.4 * canvas.light.strength)
