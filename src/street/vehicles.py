"""Cars, trucks, buses, trams, caravans and trailers: solids with the parts that tell them apart.

Every function takes the middle of the vehicle on the ground and its heading. Lengths in metres.
"""

import numpy as np

from src.street import palette
from src.street.camera import Pose
from src.street.canvas import Canvas, Colour, mix, scale
from src.street.shapes import bar, disc, extrude, on_end, on_side, rect, row, shadow


def wheels(
    canvas: Canvas, pose: Pose, places: tuple[float, ...], radius: float, half: float, ident: int
) -> None:
    """Wheels on the seen side and the tyres seen below the seen end."""
    for at in places:
        tyre = on_side(pose, half, disc(at, radius, radius))
        canvas.fill(tyre, palette.TYRE, ident)
        canvas.fill(on_side(pose, half, disc(at, radius, radius * 0.55)), (120, 120, 122))
    last = max(places, key=lambda at: at * pose.seen_end)
    for w in (-half + 0.02, half - 0.3):
        outline = rect(w, w + 0.28, 0.0, radius * 1.3)
        canvas.fill(pose.at(last + pose.seen_end * radius, outline[:, 1], outline[:, 0]), palette.TYRE, ident)


def lamps(canvas: Canvas, pose: Pose, half_length: float, half: float, y: float, size: float) -> None:
    colour = palette.LAMP if pose.seen_end > 0 else palette.REAR_LAMP
    pair = np.stack((rect(-half + 0.08, -half + 0.08 + size * 1.4, y, y + size),
                     rect(half - 0.08 - size * 1.4, half - 0.08, y, y + size)))  # fmt: skip
    canvas.pattern(on_end(pose, half_length, pair), colour)


def car(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    ident = canvas.new("car")
    paint = palette.pick(rng, palette.PAINT)
    glass = mix(palette.GLASS, palette.GLASS_BRIGHT, rng.uniform())
    estate = bool(rng.integers(2))
    end, half, roof = rng.uniform(1.95, 2.3), 0.88, rng.uniform(1.42, 1.62)
    shadow(canvas, pose, end, half)
    wheels(canvas, pose, (-0.62 * end, 0.64 * end), 0.32, half - 0.04, ident)
    body = np.array(((-end, 0.22), (-end, 0.92), (0.55 * end, 0.92), (end, 0.72), (end, 0.22)))
    extrude(canvas, pose, body, half, paint, ident)
    tail = -0.97 * end if estate else -0.72 * end
    cabin = np.array(((tail, 0.9), (tail + 0.28, roof), (0.12 * end, roof), (0.52 * end, 0.9)))
    extrude(canvas, pose, cabin, half - 0.1, paint, ident, ends=glass)
    middle = -0.22 * end
    windows = np.array((
        ((tail + 0.2, 0.95), (tail + 0.36, roof - 0.1), (middle - 0.05, roof - 0.1), (middle - 0.05, 0.95)),
        ((middle + 0.05, 0.95), (middle + 0.05, roof - 0.1), (0.1 * end, roof - 0.1), (0.44 * end, 0.95)),
    ))  # fmt: skip
    canvas.pattern(on_side(pose, half - 0.1, windows), glass)
    arches(canvas, pose, (-0.62 * end, 0.64 * end), 0.32, half)
    lamps(canvas, pose, end, half, 0.62 if pose.seen_end > 0 else 0.68, 0.17)
    canvas.fill(on_end(pose, end, rect(-half, half, 0.22, 0.36)), scale(paint, 0.45))
    canvas.fill(on_end(pose, end, rect(-0.27, 0.27, 0.44, 0.56)), palette.PLATE)


def arches(canvas: Canvas, pose: Pose, places: tuple[float, ...], radius: float, half: float) -> None:
    """Wheels in their arches, over the body's side."""
    for at in places:
        canvas.fill(on_side(pose, half, disc(at, radius * 1.02, radius * 1.16)), palette.UNDERSIDE)
        canvas.fill(on_side(pose, half, disc(at, radius, radius * 0.6)), (136, 136, 140))


def truck(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A cab and a taller cargo box on a bare chassis, with a gap between them and big wheels."""
    ident = canvas.new("truck")
    cab_paint, box_paint = palette.pick(rng, palette.PAINT), palette.pick(rng, palette.FACADE)
    end, half, top = rng.uniform(3.4, 4.2), 1.22, rng.uniform(3.2, 3.7)
    shadow(canvas, pose, end, half)
    chassis = np.array(((-end, 0.55), (-end, 1.0), (end - 0.2, 1.0), (end - 0.2, 0.55)))
    extrude(canvas, pose, chassis, half - 0.3, palette.UNDERSIDE, ident)
    axles = (-end + 0.9, -end + 2.1, end - 1.0)
    wheels(canvas, pose, axles, 0.52, half - 0.02, ident)

    def cab() -> None:
        front, back = end, end - 1.9
        outline = np.array(((back, 0.6), (back, 2.75), (front - 0.25, 2.75), (front, 1.6), (front, 0.5)))
        extrude(canvas, pose, outline, half - 0.02, cab_paint, ident)
        door = np.array(((back + 0.6, 1.65), (back + 0.6, 2.45), (front - 0.3, 2.45), (front - 0.08, 1.65)))
        canvas.fill(on_side(pose, half - 0.02, door), palette.GLASS)
        if pose.seen_end > 0:
            canvas.fill(on_end(pose, front - 0.1, rect(-half + 0.1, half - 0.1, 1.62, 2.5)), palette.GLASS)
            canvas.pattern(on_end(pose, front, grille(half)), palette.UNDERSIDE)
            lamps(canvas, pose, front, half, 0.62, 0.24)

    def box() -> None:
        front, back = end - 2.25, -end
        outline = np.array(((back, 1.0), (back, top), (front, top), (front, 1.0)))
        extrude(canvas, pose, outline, half, box_paint, ident)
        canvas.pattern(on_side(pose, half, row(back, front, 9, 0.12, 1.05, top - 0.1)), scale(box_paint, 0.8))
        if pose.seen_end < 0:
            cargo_doors(canvas, pose, half, -back, top, box_paint)

    for part in (cab, box) if pose.seen_end < 0 else (box, cab):
        part()
    for at in axles:
        canvas.fill(on_side(pose, half, disc(at, 0.52, 0.52)), palette.TYRE, ident)
        canvas.fill(on_side(pose, half, disc(at, 0.52, 0.26)), (130, 130, 130))


def grille(half: float) -> np.ndarray:
    return np.stack([rect(-half + 0.5, half - 0.5, y, y + 0.1) for y in (0.75, 0.95, 1.15, 1.35)])


def cargo_doors(canvas: Canvas, pose: Pose, half: float, end: float, top: float, paint: Colour) -> None:
    dark = scale(paint, 0.55)
    bars = np.stack([rect(w - 0.035, w + 0.035, 1.1, top - 0.1) for w in (-0.65, -0.3, 0.0, 0.3, 0.65)])
    canvas.pattern(on_end(pose, end, bars), dark)
    frame = np.stack((rect(-half, half, 1.0, top), rect(-half + 0.08, half - 0.08, 1.1, top - 0.1)))
    canvas.pattern(on_end(pose, end, frame), dark)
    canvas.pattern(on_end(pose, end, row(-half, half, 4, 0.5, 0.62, 0.82)), palette.REAR_LAMP)
    canvas.pattern(on_end(pose, end, row(-half + 0.3, half + 0.3, 4, 0.5, 0.62, 0.82)[:3]), palette.PLATE)


def bus(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """One long box: a band of big windows, doors down to the floor, a destination display."""
    ident = canvas.new("bus")
    paint = palette.pick(rng, palette.PAINT)
    end, half, top = rng.uniform(4.6, 5.6), 1.26, 3.15
    shadow(canvas, pose, end, half)
    rear = (-end, 0.32), (-end, top - 0.15), (-end + 0.15, top)
    front = (end - 0.2, top), (end, top - 0.3), (end, 0.32)
    outline = np.array((*rear, *front))
    axles = (-end + 2.2, end - 2.4)
    wheels(canvas, pose, axles, 0.48, half - 0.02, ident)
    extrude(canvas, pose, outline, half, paint, ident)
    canvas.fill(on_side(pose, half, rect(-end + 0.15, end - 0.1, 1.35, 2.62)), palette.UNDERSIDE)
    panes = row(-end + 0.2, end - 0.2, 7, 0.86, 1.42, 2.55)
    canvas.pattern(on_side(pose, half, panes), palette.GLASS_BRIGHT)
    if pose.seen_side > 0:
        for at in (-0.3, end - 1.5):
            canvas.fill(on_side(pose, half, rect(at, at + 1.3, 0.42, 2.62)), palette.UNDERSIDE)
            leaves = row(at + 0.05, at + 1.25, 2, 0.86, 0.55, 2.5)
            canvas.pattern(on_side(pose, half, leaves), palette.GLASS_BRIGHT)
    for at in axles:
        canvas.fill(on_side(pose, half, disc(at, 0.48, 0.52)), palette.TYRE, ident)
        canvas.fill(on_side(pose, half, disc(at, 0.48, 0.24)), (130, 130, 130))
    display = rect(-0.85, 0.85, 2.68, 2.98)
    if pose.seen_end > 0:
        canvas.fill(on_end(pose, end, rect(-half + 0.06, half - 0.06, 1.1, 2.62)), palette.GLASS)
        wipers = np.stack((bar((-0.7, 1.15), (0.0, 1.7), 0.05), bar((0.2, 1.15), (0.9, 1.7), 0.05)))
        canvas.pattern(on_end(pose, end, wipers), palette.UNDERSIDE)
    else:
        canvas.fill(on_end(pose, end, rect(-half + 0.2, half - 0.2, 1.75, 2.6)), palette.GLASS)
        canvas.pattern(on_end(pose, end, row(-0.8, 0.8, 1, 1.0, 0.6, 1.4)), scale(paint, 0.7))
    canvas.fill(on_end(pose, end - 0.1, display), palette.UNDERSIDE)
    canvas.pattern(on_end(pose, end - 0.1, row(-0.7, 0.7, 5, 0.7, 2.74, 2.92)), palette.AMBER)
    lamps(canvas, pose, end, half, 0.6, 0.24)


def tram(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """A long slim body with slanted ends, bellows, skirts to the ground and a pantograph; class `train`."""
    ident = canvas.new("train")
    paint, band = palette.pick(rng, palette.PAINT), palette.pick(rng, palette.PAINT)
    end, half, top = rng.uniform(9.0, 12.0), 1.2, 3.35
    shadow(canvas, pose, end, half)
    mast = pose.seen_end * (end - 3.2)
    for w in (-0.5, 0.5):
        arm = (
            bar((mast, top), (mast + 1.0, top + 0.75), 0.1),
            bar((mast + 1.0, top + 0.75), (mast, top + 1.45), 0.1),
        )
        for part in arm:
            canvas.fill(pose.at(part[:, 0], part[:, 1], w), palette.UNDERSIDE, ident)
    bow = rect(-0.95, 0.95, top + 1.4, top + 1.52)
    canvas.fill(pose.at(mast, bow[:, 1], bow[:, 0]), palette.UNDERSIDE, ident)
    outline = np.array(((-end, 0.15), (-end, 1.1), (-end + 0.55, top - 0.25), (-end + 0.9, top),
                        (end - 0.9, top), (end - 0.55, top - 0.25), (end, 1.1), (end, 0.15)))  # fmt: skip
    extrude(canvas, pose, outline, half, paint, ident)
    canvas.fill(on_side(pose, half, rect(-end, end, 0.15, 0.55)), palette.UNDERSIDE)
    canvas.fill(on_side(pose, half, rect(-end, end, 0.75, 1.15)), band)
    canvas.fill(on_side(pose, half, rect(-end + 0.6, end - 0.6, 1.5, 2.75)), palette.UNDERSIDE)
    canvas.pattern(on_side(pose, half, row(-end + 0.7, end - 0.7, 14, 0.8, 1.55, 2.7)), palette.GLASS_BRIGHT)
    for at in (-end / 3, end / 3):
        canvas.fill(on_side(pose, half, rect(at - 0.35, at + 0.35, 0.15, top - 0.05)), palette.UNDERSIDE)
        canvas.pattern(on_side(pose, half, row(at - 0.35, at + 0.35, 3, 0.4, 0.2, top - 0.1)), (92, 92, 96))
    tram_end(canvas, pose, end, half, top, band)


def tram_end(canvas: Canvas, pose: Pose, end: float, half: float, top: float, band: Colour) -> None:
    """The driver's slanted screen, one lamp on top and two below, the coupler."""
    low, high = 1.25, top - 0.3
    slant = 0.55 / (top - 1.35)
    screen = np.array(((-half + 0.06, low), (half - 0.06, low), (half - 0.3, high), (-half + 0.3, high)))
    back = (screen[:, 1] - 1.1) * slant
    canvas.fill(pose.at(pose.seen_end * (end - back), screen[:, 1], screen[:, 0]), palette.UNDERSIDE)
    canvas.fill(on_end(pose, end, rect(-half, half, 0.75, 1.1)), band)
    canvas.fill(on_end(pose, end - 0.85, rect(-0.5, 0.5, top - 0.2, top - 0.02)), palette.AMBER)
    canvas.fill(on_end(pose, end, disc(0.0, 1.0, 0.22)), palette.LAMP)
    canvas.fill(on_end(pose, end, rect(-half, half, 0.15, 0.5)), palette.UNDERSIDE)
    canvas.fill(on_end(pose, end, rect(-0.18, 0.18, 0.3, 0.6)), (110, 110, 112))
    lamps(canvas, pose, end, half, 0.8, 0.22)


def caravan(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    ident = canvas.new("caravan")
    paint = palette.pick(rng, ((214, 212, 206), (196, 190, 176)))
    shadow(canvas, pose, 2.3, 1.1)
    wheels(canvas, pose, (0.0,), 0.33, 1.0, ident)
    outline = np.array(((-2.3, 0.4), (-2.2, 2.3), (-1.8, 2.55), (1.6, 2.55), (2.3, 1.7), (2.3, 0.4)))
    extrude(canvas, pose, outline, 1.1, paint, ident)
    canvas.pattern(on_side(pose, 1.1, row(-1.9, 1.7, 3, 0.6, 1.35, 2.05)), palette.GLASS)
    canvas.fill(on_side(pose, 1.1, rect(-2.25, 2.25, 0.85, 1.0)), palette.pick(rng, palette.PAINT))
    canvas.fill(on_end(pose, 2.28, rect(-0.7, 0.7, 1.3, 2.0)), palette.GLASS)
    lamps(canvas, pose, 2.3, 1.1, 0.6, 0.2)


def trailer(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    ident = canvas.new("trailer")
    paint = palette.pick(rng, palette.METAL)
    shadow(canvas, pose, 1.4, 0.8)
    wheels(canvas, pose, (0.0,), 0.3, 0.85, ident)
    outline = np.array(((-1.3, 0.45), (-1.3, 1.05), (1.2, 1.05), (1.2, 0.45)))
    extrude(canvas, pose, outline, 0.8, paint, ident)
    lamps(canvas, pose, 1.3, 0.8, 0.5, 0.16)
