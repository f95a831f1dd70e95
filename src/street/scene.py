"""Draws a street scene, which two numbers determine: seed and index."""

from dataclasses import dataclass

import numpy as np

from src.street import sensor
from src.street.camera import Camera
from src.street.canvas import Canvas, Light, label_of
from src.street.ground import ground, sky, skyline
from src.street.layout import plan
from src.street.traffic import cars, far_to_near, frontage, heavy, open_side, pavement, two_wheelers

FINE = 1024
"""Scenes up to this width are drawn at twice their size and averaged, which smooths the edges."""


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    instance_ids: np.ndarray  # (H, W) uint16: id*1000+k for classes with instances, otherwise the label id

    @property
    def label_ids(self) -> np.ndarray:
        """(H, W) uint8 Cityscapes label ids."""
        return label_of(self.instance_ids)


def draw_scene(seed: int, index: int, width: int, height: int) -> Scene:
    """The scene number `index` of the street `seed`; the same scene at every size, from 64x32 up.

    `index` also rotates the rare classes, so that a dozen consecutive scenes hold all 19.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
    finer = 2 if width <= FINE else 1
    canvas = Canvas(width * finer, height * finer, _camera(rng, width * finer, height * finer), _light(rng))
    rare = ["truck", "bus", "train"]
    first = rare.pop(index % 3)
    names = [first, *(name for name in rare if rng.uniform() < 0.22)]
    street = plan(rng, with_train="train" in names, with_terrain=index % 4 != 3)

    sky(canvas, rng)
    skyline(canvas, rng)
    ground(canvas, rng, street)
    big, taken = heavy(rng, street, names)
    items = frontage(rng, street, index, open_side(rng, street, taken)) + big + cars(rng, street, taken)
    items += two_wheelers(rng, street, index) + pavement(rng, street)
    for item in far_to_near(items):
        item.paint(canvas, rng)
    sensor.bonnet(canvas, rng)

    image, ids = sensor.reduce(canvas.image, canvas.ids, finer)
    camera = _scaled(canvas.camera, finer)
    image = sensor.expose(image, ids, camera, np.random.default_rng(np.random.SeedSequence((seed, index, 1))))
    return Scene(image, sensor.borders(ids))


def _camera(rng: np.random.Generator, width: int, height: int) -> Camera:
    u, v, focal, eye, bend = rng.uniform(
        (0.42, 0.35, 0.84, 1.35, -0.0012), (0.58, 0.44, 0.98, 1.7, 0.0012)
    ).tolist()
    return Camera(focal * width, (u * width, v * height), eye, bend)


def _scaled(camera: Camera, finer: int) -> Camera:
    return Camera(
        camera.focal / finer, (camera.centre[0] / finer, camera.centre[1] / finer), camera.eye, camera.bend
    )


def _light(rng: np.random.Generator) -> Light:
    side = rng.choice((-1.0, 1.0))
    high, strength, visibility = rng.uniform((0.4, 0.0, 130), (0.8, 1.0, 450)).tolist()
    haze = tuple(rng.uniform((176, 184, 190), (220, 222, 226)).tolist())
    flat = (1 - high * high) ** 0.5
    return Light((float(side) * flat * 0.85, high, -flat * 0.52), strength, haze, visibility)
