"""Persons, riders and their two-wheelers: flat figures made of simple outlines, in metres."""

from math import pi

import numpy as np

from src.street import palette
from src.street.camera import Pose
from src.street.canvas import Canvas, scale
from src.street.shapes import Parts, bar, cut_out, disc, shadow

TORSO = np.array(((-0.11, 0.47), (0.11, 0.47), (0.125, 0.8), (0.07, 0.85), (-0.07, 0.85), (-0.125, 0.8)))
"""The outline of the torso of a person one unit tall."""


def person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A pedestrian who stands or walks, seen from the front or back."""
    coat, trousers = palette.pick(rng, palette.PAINT), palette.pick(rng, palette.PAINT)
    skin, hair = palette.pick(rng, palette.SKIN, 4), palette.pick(rng, palette.HAIR, 6)
    tall, stride, swing, girth = rng.uniform((1.6, 0.02, 0.0, 1.15), (1.9, 0.11, 0.07, 1.45)).tolist()
    sleeve = scale(coat, 0.8)
    parts: Parts = [
        (bar((-0.045, 0.52), (-0.045 - stride, 0.0), 0.085), scale(trousers, 0.9)),
        (bar((0.045, 0.52), (0.045 + stride * 0.7, 0.0), 0.085), trousers),
        (bar((-0.11, 0.8), (-0.15 - swing, 0.48), 0.055), sleeve),
        (bar((0.11, 0.8), (0.15 + swing, 0.48), 0.055), sleeve),
        (TORSO, coat),
        (disc(0, 0.925, 0.062) * (0.9, 1), skin),
        (disc(0, 0.937, 0.066)[:8] * (0.9, 1), hair),
    ]
    if rng.integers(3) == 0:
        parts.append((bar((0.16 + swing, 0.5), (0.16 + swing, 0.36), 0.1), palette.pick(rng, palette.PAINT)))
    shadow(canvas, Pose(x, z), 0.1, 0.1)
    size = (tall * girth, tall)
    sideways = Pose(x, z, pi / 2)
    cut_out(canvas, sideways, [(part * size, colour) for part, colour in parts], canvas.new("person"))


def bicycle(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Two spoked wheels and a thin diamond frame; what is seen through the wheels counts as bicycle."""
    ident = canvas.new("bicycle")
    paint = palette.pick(rng, palette.PAINT)
    radius, hub = 0.36, 0.56
    back, front, pedals = (-hub, radius), (hub, radius), (0.0, 0.34)
    saddle, head, grip = (-0.18, 0.9), (0.42, 0.9), (0.4, 1.08)
    tubes = (back, saddle), (saddle, head), (head, pedals), (pedals, saddle), (back, pedals), (grip, front)
    shadow(canvas, pose, 0.7, 0.0)
    for at in (-hub, hub):
        outer, inner = disc(at, radius, radius, 20), disc(at, radius, radius - 0.075, 20)
        canvas.mark(pose.at(outer[:, 0], outer[:, 1], 0.0), ident)
        ring = np.stack((outer, inner))
        canvas.pattern(pose.at(ring[..., 0], ring[..., 1], 0.0), palette.TYRE)
        spokes = np.stack([bar((at, radius), tuple(rim), 0.02) for rim in inner[::4].tolist()])
        canvas.pattern(pose.at(spokes[..., 0], spokes[..., 1], 0.0), (150, 150, 152))
    frame = np.array((back, saddle, head, pedals))
    canvas.mark(pose.at(frame[:, 0], frame[:, 1], 0.0), ident)
    parts: Parts = [(bar(start, end, 0.06), paint) for start, end in tubes]
    parts.append((bar((-0.34, 0.98), (-0.04, 0.98), 0.08), palette.TYRE))
    parts.append((bar((0.28, 1.1), (0.48, 1.08), 0.07), palette.TYRE))
    cut_out(canvas, pose, parts, ident)


ENGINE = np.array(((-0.55, 0.3), (-0.4, 0.62), (0.35, 0.68), (0.42, 0.3), (0.2, 0.2), (-0.3, 0.2)))
TAIL = np.array(((-1.0, 0.72), (-1.0, 0.86), (-0.2, 0.82), (-0.05, 0.6), (-0.5, 0.55)))
SEAT = np.array(((-0.75, 0.8), (-0.72, 0.93), (-0.1, 0.88), (-0.05, 0.78)))
TANK = np.array(((-0.15, 0.66), (-0.1, 0.94), (0.2, 1.06), (0.5, 1.06), (0.62, 0.85), (0.45, 0.6)))
SCREEN = np.array(((0.42, 1.04), (0.36, 1.36), (0.62, 1.06)))


def motorcycle(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Fat solid wheels under a closed body: tank, seat, engine, windscreen."""
    paint = palette.pick(rng, palette.PAINT)
    radius, hub = 0.34, 0.74
    wheels = [
        part
        for at in (-hub, hub)
        for part in ((disc(at, radius, radius, 18), palette.TYRE), (disc(at, radius, 0.17), (140, 140, 144)))
    ]
    body = [
        (bar((0.5, 1.0), (hub, radius), 0.11), (120, 120, 124)),
        (ENGINE, (58, 58, 62)),
        (TAIL, scale(paint, 0.7)),
        (SEAT, palette.TYRE),
        (TANK, paint),
        (SCREEN, palette.GLASS_BRIGHT),
        (bar((-0.9, 0.34), (0.1, 0.28), 0.1), (170, 170, 172)),
        (disc(0.62, 0.98, 0.09, 10), palette.LAMP),
    ]
    shadow(canvas, pose, 0.9, 0.1)
    cut_out(canvas, pose, wheels + body, canvas.new("motorcycle"))


def rider(canvas: Canvas, rng: np.random.Generator, pose: Pose, seat: float, helmet: bool) -> None:
    """Someone sitting on a two-wheeler with a seat at this height, leaning towards the handlebar."""
    coat, trousers = palette.pick(rng, palette.PAINT), palette.pick(rng, palette.PAINT)
    skin = palette.pick(rng, palette.SKIN, 4)
    top = palette.pick(rng, palette.PAINT) if helmet else palette.pick(rng, palette.HAIR, 6)
    hip, shoulder = (-0.2, seat), (0.06, seat + 0.56)
    parts: Parts = [
        (bar((-0.14, seat), (0.24, seat - 0.12), 0.2), trousers),
        (bar((0.22, seat - 0.05), (0.04, seat - 0.62), 0.15), scale(trousers, 0.9)),
        (bar((-0.02, seat - 0.62), (0.18, seat - 0.62), 0.09), palette.TYRE),
        (bar(hip, shoulder, 0.34), coat),
        (disc(shoulder[0], shoulder[1] - 0.02, 0.17), coat),
        (bar((0.06, seat + 0.46), (0.42, seat + 0.16), 0.12), scale(coat, 0.8)),
        (disc(0.14, seat + 0.76, 0.135), skin),
        (disc(0.13, seat + 0.8, 0.16 if helmet else 0.14, 16)[:9], top),
    ]
    cut_out(canvas, pose, parts, canvas.new("rider"))


def cyclist(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    bicycle(canvas, rng, pose)
    rider(canvas, rng, pose, seat=1.0, helmet=bool(rng.integers(2)))


def motorcyclist(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    motorcycle(canvas, rng, pose)
    rider(canvas, rng, pose, seat=0.92, helmet=True)
