"""The plan of one street: widths, lanes, tracks, junction and lots, in metres from the camera's path."""

from dataclasses import dataclass, replace

import numpy as np

from src.street.camera import quad

FAR = 150.0


@dataclass(frozen=True)
class Street:
    left: float  # from the camera's path to the left kerb
    right: float
    walks: tuple[float, float]  # width of the pavement, left and right
    greens: tuple[float, float]  # width of the grass verge beside it, 0 for none
    green_outside: bool  # grass behind the pavement; False: at the kerb
    junction: float | None  # distance at which a road crosses
    crossing: float  # width of that road
    tracks: tuple[float, ...]  # x of tram tracks
    own_bed: bool  # the left track runs on its own bed and not on asphalt
    parking: bool  # a parking strip on the right
    lane_lines: tuple[float, ...]
    oncoming: float  # x of the oncoming lane

    def edge(self, side: int) -> float:
        return self.left if side < 0 else self.right

    def walk(self, side: int) -> float:
        return self.walks[0] if side < 0 else self.walks[1]

    def green(self, side: int) -> float:
        return self.greens[0] if side < 0 else self.greens[1]

    def line(self, side: int) -> float:
        """Distance from the camera's path to the facades."""
        return self.edge(side) + self.walk(side) + self.green(side)


@dataclass(frozen=True)
class Lot:
    side: int  # -1 on the left, +1 on the right
    line: float  # distance of its front from the camera's path
    z0: float
    z1: float

    @property
    def x(self) -> float:
        return self.side * self.line

    def set_back(self, by: float) -> "Lot":
        return replace(self, line=self.line + by)

    def front(self, y0: float, y1: float) -> np.ndarray:
        """(4, 3): the whole front between two heights."""
        return quad(self.x, self.x, y0, y1, self.z0, self.z1)

    def on_front(self, outlines: np.ndarray) -> np.ndarray:
        """Outlines in (z, y) as (..., 3) on the plane of the front."""
        points = np.empty((*outlines.shape[:-1], 3))
        points[..., 0] = self.x
        points[..., 1] = outlines[..., 1]
        points[..., 2] = outlines[..., 0]
        return points


def plan(rng: np.random.Generator, with_train: bool, with_terrain: bool) -> Street:
    parking = bool(rng.integers(2))
    right = rng.uniform(2.0, 2.6) + (2.2 if parking else 0.0)
    left = rng.uniform(4.7, 5.3)
    oncoming = -rng.uniform(3.0, 3.3)
    own_bed = with_train and bool(rng.integers(2))
    if own_bed:
        left += 3.4
    tracks: tuple[float, ...] = ()
    if with_train:
        tracks = (-left + 2.0,) if own_bed else (oncoming, 0.0)[: int(rng.integers(1, 3))]
    walks = rng.uniform(2.6, 4.2, 2).tolist()
    wide = rng.uniform(1.4, 3.2, 2).tolist()
    keep = rng.uniform(size=2) < 0.5
    if with_terrain:
        keep[rng.integers(2)] = True
    return Street(
        left=left,
        right=right,
        walks=(walks[0], walks[1]),
        greens=(wide[0] if keep[0] else 0.0, wide[1] if keep[1] else 0.0),
        green_outside=bool(rng.integers(2)),
        junction=rng.uniform(20, 34) if rng.integers(5) < 2 else None,
        crossing=rng.uniform(8, 11),
        tracks=tracks,
        own_bed=own_bed,
        parking=parking,
        lane_lines=(oncoming / 2,) if not own_bed else (oncoming / 2, -left + 3.5),
        oncoming=oncoming,
    )
