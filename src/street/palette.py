"""Colours. The palettes overlap on purpose: shape and place have to tell the classes apart, not hue."""

import numpy as np

from src.street.canvas import Colour

STONE: tuple[Colour, ...] = (
    (96, 96, 98), (112, 110, 106), (128, 124, 120), (140, 138, 136), (120, 112, 104), (104, 108, 116),
)  # fmt: skip
FACADE: tuple[Colour, ...] = (
    (186, 170, 142), (160, 150, 140), (142, 84, 66), (204, 192, 164), (176, 138, 92), (150, 162, 172),
    (198, 196, 192), (118, 92, 76), (128, 124, 120), (110, 112, 118), (190, 150, 130), (104, 116, 100),
)  # fmt: skip
PAINT: tuple[Colour, ...] = (
    (206, 206, 204), (160, 164, 168), (98, 102, 108), (40, 42, 46), (150, 34, 32), (38, 66, 126),
    (46, 86, 64), (196, 160, 48), (186, 170, 142), (190, 98, 40), (88, 120, 150), (110, 60, 50),
)  # fmt: skip
SKIN: tuple[Colour, ...] = ((214, 170, 140), (186, 140, 108), (132, 92, 68), (92, 64, 50))
HAIR: tuple[Colour, ...] = ((40, 30, 26), (84, 60, 40), (150, 120, 80), (120, 120, 120))
LEAF: tuple[Colour, ...] = ((62, 84, 42), (74, 96, 50), (54, 78, 52), (88, 100, 48), (98, 96, 54))
GRASS: tuple[Colour, ...] = ((84, 108, 56), (104, 116, 64), (74, 96, 50), (122, 118, 76))
BRICK: tuple[Colour, ...] = ((142, 84, 66), (128, 124, 120), (160, 146, 124), (118, 92, 76), (150, 150, 150))
ROOF: tuple[Colour, ...] = ((104, 58, 46), (70, 72, 78), (92, 80, 70))
METAL: tuple[Colour, ...] = ((98, 102, 104), (70, 74, 78), (132, 134, 134), (52, 66, 60), (120, 112, 104))
FENCE: tuple[Colour, ...] = (*METAL, (196, 192, 184), (118, 92, 76))

TYRE: Colour = (28, 28, 30)
UNDERSIDE: Colour = (20, 20, 22)
GLASS: Colour = (54, 66, 78)
GLASS_BRIGHT: Colour = (132, 150, 166)
PLATE: Colour = (214, 212, 204)
LAMP: Colour = (240, 236, 214)
REAR_LAMP: Colour = (190, 24, 22)
AMBER: Colour = (236, 150, 40)


def pick(rng: np.random.Generator, palette: tuple[Colour, ...], spread: float = 9.0) -> Colour:
    """One of the palette's colours, each channel moved by up to `spread`."""
    r, g, b = palette[rng.integers(len(palette))]
    dr, dg, db = rng.uniform(-spread, spread, 3).tolist()
    return (min(max(r + dr, 0.0), 255.0), min(max(g + dg, 0.0), 255.0), min(max(b + db, 0.0), 255.0))
