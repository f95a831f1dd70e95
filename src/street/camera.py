"""The projection from metres in the street to pixels on the canvas, and the pose of an object.

World: X to the right, Y up, Z ahead, in metres, the camera above the origin and looking along +Z.
"""

from dataclasses import dataclass
from math import cos, sin

import numpy as np

SHIFT = 4
"""Fractional bits of the fixed-point pixel coordinates that OpenCV's polygon functions take."""

NEAR = 0.2
"""Metres; nearer points, all of them off screen, are pulled to this distance instead of being clipped."""


@dataclass(frozen=True)
class Camera:
    focal: float  # pixels
    centre: tuple[float, float]  # vanishing point of the road, pixels
    eye: float  # height above the ground, metres
    bend: float  # the road leaves the straight line by bend * z**2, metres

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) metres to (..., 2) int32 pixels with SHIFT fractional bits; pixel centres are integers."""
        z = np.maximum(points[..., 2], NEAR)
        focal = self.focal * (1 << SHIFT)
        scale = focal / z
        pixels = np.empty((*points.shape[:-1], 2))
        # focal * bend * z is the bend's scale * bend * z**2
        pixels[..., 0] = (
            scale * points[..., 0] + (focal * self.bend) * z + (self.centre[0] - 0.5) * (1 << SHIFT)
        )
        pixels[..., 1] = scale * (self.eye - points[..., 1]) + (self.centre[1] - 0.5) * (1 << SHIFT)
        return np.rint(pixels, pixels).astype(np.int32)

    def ground_distance(self, rows: np.ndarray) -> np.ndarray:
        """Distance in metres of the ground seen in pixel rows below the horizon."""
        return self.focal * self.eye / np.maximum(rows - self.centre[1] + 0.5, 1e-3)


@dataclass(frozen=True)
class Pose:
    """A place on the ground and a heading. Local axes in metres: l ahead, y up, w to the right."""

    x: float
    z: float
    yaw: float = 0.0  # radians; 0 drives away from the camera, pi towards it

    @property
    def heading(self) -> tuple[float, float]:
        return sin(self.yaw), cos(self.yaw)

    def at(self, length, height, across) -> np.ndarray:
        """(n, 3) world points from local coordinates, which broadcast against each other."""
        ahead_x, ahead_z = self.heading
        x = self.x + length * ahead_x + across * ahead_z
        points = np.empty((*np.shape(x), 3))
        points[..., 0] = x
        points[..., 1] = height
        points[..., 2] = self.z + length * ahead_z - across * ahead_x
        return points

    @property
    def seen_end(self) -> int:
        """+1 if the camera sees the front, -1 if it sees the back."""
        ahead_x, ahead_z = self.heading
        return 1 if -self.x * ahead_x - self.z * ahead_z > 0 else -1

    @property
    def seen_side(self) -> int:
        """+1 if the camera sees the right-hand side, -1 if it sees the left."""
        ahead_x, ahead_z = self.heading
        return 1 if -self.x * ahead_z + self.z * ahead_x > 0 else -1


def quad(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> np.ndarray:
    """(4, 3): the rectangle whose lower edge runs from (x0, z0) to (x1, z1)."""
    return np.array(((x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)))
