"""Outlines in a plane, as arrays of (n, 2) or (k, n, 2), and the solids that vehicles are made of."""

from functools import cache
from math import hypot

import numpy as np

from src.street.camera import Pose
from src.street.canvas import Canvas, Colour


def disc(x: float, y: float, radius: float, corners: int = 14) -> np.ndarray:
    return _circle(corners) * radius + (x, y)


@cache
def _circle(corners: int) -> np.ndarray:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.stack((np.cos(angle), np.sin(angle)), -1)


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
    """A straight bar of this width."""
    (x0, y0), (x1, y1) = start, end
    half = width / 2 / max(hypot(x1 - x0, y1 - y0), 1e-6)
    dx, dy = (y0 - y1) * half, (x1 - x0) * half
    return np.array(((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)))


def rect(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    return np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))


def row(x0: float, x1: float, count: int, filled: float, y0: float, y1: float) -> np.ndarray:
    """(count, 4, 2): equal rectangles side by side that take the share `filled` of the stretch x0 to x1."""
    pitch = (x1 - x0) / count
    starts = x0 + pitch * (np.arange(count) + (1 - filled) / 2)
    outlines = np.empty((count, 4, 2))
    outlines[:, ::3, 0] = starts[:, None]
    outlines[:, 1:3, 0] = starts[:, None] + pitch * filled
    outlines[:, :2, 1] = y0
    outlines[:, 2:, 1] = y1
    return outlines


def upright(x: float, z: float, outline: np.ndarray) -> np.ndarray:
    """An outline that faces the camera at (x, z)."""
    points = np.empty((*outline.shape[:-1], 3))
    points[..., 0] = x + outline[..., 0]
    points[..., 1] = outline[..., 1]
    points[..., 2] = z
    return points


def on_side(pose: Pose, half: float, outline: np.ndarray) -> np.ndarray:
    """An outline in (l, y) on the side that the camera sees, `half` metres from the middle."""
    return pose.at(outline[..., 0], outline[..., 1], pose.seen_side * half)


def on_end(pose: Pose, half_length: float, outline: np.ndarray) -> np.ndarray:
    """An outline in (w, y) on the front or back, whichever the camera sees."""
    return pose.at(pose.seen_end * half_length, outline[..., 1], outline[..., 0])


Parts = list[tuple[np.ndarray, Colour]]
"""Outlines in (l, y) with their colours, in the order they are painted."""


def cut_out(canvas: Canvas, pose: Pose, parts: Parts, ident: int) -> None:
    """A flat figure along the pose's heading."""
    outlines = np.concatenate([outline for outline, _ in parts])
    points = pose.at(outlines[:, 0], outlines[:, 1], 0.0)
    canvas.fill_all(points, [(len(outline), colour) for outline, colour in parts], ident)


def shadow(canvas: Canvas, pose: Pose, half_length: float, half: float) -> None:
    """Darken the ground below an object; the ground keeps its label."""
    reach = 0.25
    length = np.array((-half_length - reach, half_length + reach, half_length + reach, -half_length - reach))
    across = np.array((-half - reach, -half - reach, half + reach, half + reach))
    canvas.veil(pose.at(length, 0.0, across), (18, 18, 20), 0.7)


def extrude(
    canvas: Canvas,
    pose: Pose,
    profile: np.ndarray,
    half: float,
    colour: Colour,
    ident: int,
    ends: Colour | None = None,
) -> None:
    """A solid with this side view, (n, 2) in (l, y) listed back, top, front, and 2 * `half` metres wide.

    The profile is convex or nearly so; `ends` colours the faces that look ahead or behind.
    """
    side = pose.seen_side
    near = pose.at(profile[:, 0], profile[:, 1], side * half)
    far = pose.at(profile[:, 0], profile[:, 1], -side * half)
    sin, cos = pose.heading
    faces = []
    for i in range(len(profile)):
        j = (i + 1) % len(profile)
        dl, dy = (profile[j] - profile[i]).tolist()
        size = max((dl * dl + dy * dy) ** 0.5, 1e-6)
        ahead, up = -dy / size, dl / size
        normal = (ahead * sin, up, ahead * cos)
        middle = (near[i] + near[j] + far[i] + far[j]) / 4
        towards = -middle[0] * normal[0] + (canvas.camera.eye - middle[1]) * normal[1] - middle[2] * normal[2]
        if towards > 0:
            faces.append((float(middle[2]), i, j, normal, abs(ahead) > 0.5))
    for _, i, j, normal, is_end in sorted(faces, key=lambda face: -face[0]):
        points = np.stack((near[i], near[j], far[j], far[i]))
        canvas.fill(points, ends if ends and is_end else colour, ident, canvas.light.shade(normal))
    canvas.fill(near, colour, ident, canvas.light.shade((side * cos, 0.0, -side * sin)))
