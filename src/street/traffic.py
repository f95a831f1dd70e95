"""Where the objects stand, and the order in which they are painted."""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import numpy as np

from src.street import furniture, lots, nature, people, vehicles
from src.street.camera import Pose
from src.street.canvas import Canvas
from src.street.layout import Lot, Street

Standing = Callable[[Canvas, np.random.Generator, float, float], None]
Driving = Callable[[Canvas, np.random.Generator, Pose], None]
Building = Callable[[Canvas, np.random.Generator, Lot], None]

BUILDINGS: tuple[Building, ...] = (lots.house, lots.wall, lots.fence, lots.park)
HEAVY: dict[str, Driving] = {"truck": vehicles.truck, "bus": vehicles.bus, "train": vehicles.tram}
HALF_LENGTH = {"truck": 4.0, "bus": 5.4, "train": 11.5}


@dataclass(frozen=True)
class Item:
    x: float
    z: float
    paint: Callable[[Canvas, np.random.Generator], None]
    half_length: float = 0.0  # along the road


def far_to_near(items: list[Item]) -> list[Item]:
    """Sort the items in the order of painting. Beside a long vehicle, the distance of its middle does not
    count: items further from the camera's path are painted before it, items closer to the path after it."""
    long = [item for item in items if item.half_length]

    def key(item: Item) -> tuple[float, float]:
        z = item.z
        for other in long:
            beside = other is not item and abs(item.z - other.z) < other.half_length
            if beside and item.x * other.x >= 0 and abs(item.x) > abs(other.x) + 0.8:
                z = max(z, other.z + 0.01)
            elif beside and abs(item.x - other.x) > 0.8:
                z = min(z, other.z - 0.01)
        return -z, -item.z

    return sorted(items, key=key)


def frontage(rng: np.random.Generator, street: Street, index: int, special: int) -> list[Item]:
    """Lots along both sides. The nearest one on the side `special` is a long wall in even scenes and a long
    fence in odd scenes."""
    items: list[Item] = []
    for side in (-1, 1):
        z = street.line(side) * 1.25
        first = True
        while z < 85:
            length = rng.uniform(9, 14) + 0.2 * z + (8 if first and side == special else 0)
            if street.junction and z < street.junction < z + length:
                length = max(street.junction - z - 2.5, 0.0)
            if length > 3:
                if first and (side == special or rng.uniform() < 0.35):
                    draw: Building = lots.wall if (index % 2 == 0) == (side == special) else lots.fence
                else:
                    draw = BUILDINGS[rng.choice(len(BUILDINGS), p=(0.6, 0.13, 0.13, 0.14))]
                items.append(_build(draw, Lot(side, street.line(side), z, z + length)))
                first = False
            z += length
            if street.junction and street.junction - 3 < z < street.junction + street.crossing:
                z = street.junction + street.crossing + 2.5
    return items


def _build(draw: Building, lot: Lot) -> Item:
    return Item(lot.x, lot.z1, lambda canvas, rng: draw(canvas, rng, lot))


def _drive(draw: Driving, pose: Pose, half_length: float = 0.0) -> Item:
    return Item(pose.x, pose.z, lambda canvas, rng: draw(canvas, rng, pose), half_length)


def _put(draw: Standing, x: float, z: float) -> Item:
    return Item(x, z, lambda canvas, rng: draw(canvas, rng, x, z))


def heavy(rng: np.random.Generator, street: Street, names: list[str]) -> tuple[list[Item], set[str]]:
    """The big vehicles, each in a place of its own; the first is near. Also returns the places they take."""
    items: list[Item] = []
    taken: set[str] = set()
    for i, name in enumerate(names):
        places = ["ahead", "oncoming"]
        if name == "train":
            places = ["bed"] if street.own_bed else ["oncoming", "ahead"][: len(street.tracks)]
        elif street.parking:
            places += ["parked", "parked"]
        if street.junction and street.junction < 30:
            places.append("crossing")
        places = [place for place in places if place not in taken]
        if not places:
            continue
        place = str(rng.choice(places))
        taken.add(place)
        near = rng.uniform(6.0, 11.0) if i == 0 else rng.uniform(10.0, 18.0)
        z = near + HALF_LENGTH[name]
        turn = rng.uniform(-0.05, 0.05)
        if place == "ahead":
            pose = Pose(rng.uniform(-0.3, 0.3), z + 3.0, 0.0 + turn)
        elif place == "oncoming":
            pose = Pose(street.oncoming, z, pi + turn)
        elif place == "parked":
            pose = Pose(street.right - 1.25, z + 1.5, 0.0 + turn / 2)
        elif place == "bed":
            pose = Pose(-street.left + 2.0, z, pi if rng.integers(2) else 0.0)
        else:
            middle = (street.junction or 0.0) + street.crossing / 2
            pose = Pose(rng.uniform(-5, 5), middle, pi / 2 if rng.integers(2) else -pi / 2)
        if name == "train":
            pose = Pose(pose.x, pose.z, round(2 * pose.yaw / pi) * pi / 2)  # a tram follows its rails
        items.append(_drive(HEAVY[name], pose, 0.0 if place == "crossing" else HALF_LENGTH[name]))
    return items, taken


def open_side(rng: np.random.Generator, street: Street, taken: set[str]) -> int:
    """The side of the street that no row of vehicles hides, if there is one."""
    if "parked" in taken or (street.parking and not taken & {"oncoming", "bed"}):
        return -1
    if taken & {"oncoming", "bed"}:
        return 1
    return -1 if rng.integers(2) else 1


def cars(rng: np.random.Generator, street: Street, taken: set[str]) -> list[Item]:
    poses: list[Pose] = []
    if "ahead" not in taken:
        poses.append(Pose(rng.uniform(-0.4, 0.4), rng.uniform(9, 26), rng.uniform(-0.08, 0.08)))
    if "oncoming" not in taken:
        z = rng.uniform(9, 16)
        while z < 45:
            poses.append(Pose(street.oncoming, z, pi + rng.uniform(-0.06, 0.06)))
            z += rng.uniform(8, 24)
    if street.junction and "crossing" not in taken and rng.integers(2):
        z = street.junction + rng.uniform(0.3, 0.7) * street.crossing
        poses.append(Pose(rng.uniform(-7, 7), z, pi / 2 if rng.integers(2) else -pi / 2))
    items = [_drive(vehicles.car, pose) for pose in poses]
    if street.parking and "parked" not in taken:
        z = rng.uniform(7.5, 11)
        while z < (street.junction or 50) - 3:
            odd = rng.uniform()
            draw = vehicles.caravan if odd < 0.04 else vehicles.trailer if odd < 0.07 else vehicles.car
            items.append(_drive(draw, Pose(street.right - 1.15, z, rng.uniform(-0.04, 0.04))))
            z += rng.uniform(5.2, 8.5)
    return items


def _slant(rng: np.random.Generator) -> float:
    """A heading that shows a flat two-wheeler from the side or obliquely, never from the front or back."""
    return float(rng.choice((pi / 2, -pi / 2)) + rng.uniform(-0.8, 0.8))


def two_wheelers(rng: np.random.Generator, street: Street, index: int) -> list[Item]:
    """A near rider in every scene, on a motorcycle in every second one; parked ones of the other kind."""
    kinds = (people.motorcyclist, people.bicycle) if index % 2 else (people.cyclist, people.motorcycle)
    ridden, parked = kinds
    x = rng.uniform(0.9, 1.9) if rng.integers(3) else -1.6
    items = [_drive(ridden, Pose(x, rng.uniform(5.5, 8.0), _slant(rng)))]
    side = 1 if rng.integers(3) else -1
    x = side * (street.edge(side) + rng.uniform(0.5, 1.1))
    z = max(rng.uniform(6.5, 11), abs(x) * 2.1)
    for _ in range(int(rng.integers(1, 3))):
        items.append(_drive(parked, Pose(x, z, _slant(rng))))
        z += rng.uniform(0.9, 1.6)
    if rng.integers(2):
        other = people.cyclist if rng.integers(2) else people.motorcyclist
        x = rng.choice((1.9, -2.0, street.oncoming))
        items.append(_drive(other, Pose(x, rng.uniform(9, 14), _slant(rng))))
    return items


def pavement(rng: np.random.Generator, street: Street) -> list[Item]:
    """Persons, signs, lights, lamps, trees and bins beside the road, often a person on it."""
    items: list[Item] = []
    for _ in range(int(rng.integers(3, 6))):
        side = -1 if rng.integers(2) else 1
        x = street.edge(side) + rng.uniform(0.5, street.walk(side))
        items.append(_put(people.person, side * x, max(rng.uniform(6, 14), 2.1 * x)))
    if rng.integers(4):
        items.append(_put(people.person, rng.uniform(-3, 2.5), rng.uniform(7, 11)))
    side = -1 if rng.integers(2) else 1
    for draw, lean, more in (
        (furniture.traffic_light, side, 0), (furniture.sign, -side, 3), (furniture.sign, side, 4),
    ):  # fmt: skip
        x = street.edge(lean) + rng.uniform(0.3, 0.7)
        items.append(_put(draw, lean * x, max(rng.uniform(7, 12), 2.1 * x) + more))
    if street.junction:
        for lean in (-1, 1):
            x = lean * (street.edge(lean) + 0.5)
            items.append(_put(furniture.traffic_light, x, street.junction - 0.5))
    for side in (-1, 1):
        z = rng.uniform(9, 14)
        while z < 42:
            items.append(_put(furniture.street_lamp, side * (street.edge(side) + 0.45), z))
            z += rng.uniform(14, 22)
        if rng.uniform() < 0.6:
            z = rng.uniform(15, 24)
            while z < 70:
                items.append(_put(nature.tree, side * (street.line(side) - 0.6), z))
                z += rng.uniform(8, 16)
        if rng.integers(3) == 0:
            items.append(_put(furniture.bin_, side * (street.edge(side) + 0.6), rng.uniform(11, 25)))
    return items
