"""Makes tiny datasets in folders: pictures, and masks with ids or colours."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = [
    {"name": "ground", "ids": [0]},
    {"name": "house", "ids": [1, 2], "color": [200, 0, 0]},
    {"name": "car", "ids": [3]},
]
IGNORED = {"ids": [255]}
COLORS = {0: (10, 20, 30), 1: (128, 64, 128), 2: (0, 0, 142), 3: (255, 255, 0), 255: (0, 0, 0)}
RGB_CLASSES = [
    {"name": "ground", "colors": [[10, 20, 30]]},
    {"name": "house", "colors": [[128, 64, 128], [0, 0, 142]]},
    {"name": "car", "colors": [[255, 255, 0]]},
]
RGB_IGNORED = {"colors": [[0, 0, 0]]}


def ids_of(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """(H, W) uint8: 0, 1, 2, 3 and 255."""
    ids = np.zeros((height, width), np.uint8)
    ids[height // 3 :, : width // 3] = 1
    ids[height // 3 :, width // 3 :] = 2
    ids[height // 2 :, width // 4 + number : width // 2 + 2 * number] = 3
    ids[:4] = 255
    return ids


def image_of(ids: np.ndarray, number: int) -> np.ndarray:
    """(H, W, 3) uint8: a shade for each id, with noise."""
    shade = (np.minimum(ids, 4).astype(np.int16) * 50)[..., None]
    noise = np.random.default_rng(number).integers(0, 40, (*ids.shape, 3))
    return (shade + noise).astype(np.uint8)


def rgb_of(ids: np.ndarray) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for number, color in COLORS.items():
        table[number] = color
    return table[ids]


def save(path: Path, pixels: np.ndarray, *options: int) -> Path:
    """Grey (H, W), or RGB (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels, list(options))
    return path


def write_folders(root: Path, suffix: str = ".jpg", rgb: bool = False) -> Path:
    """images/ and masks/ with 6 pairs in train and 3 in val, of which some are in a subfolder."""
    for split, count in (("train", 6), ("val", 3)):
        for number in range(count):
            ids, name = ids_of(number), f"{split}/{'town/' * (number % 2)}{number:03d}"
            save(root / "images" / f"{name}{suffix}", image_of(ids, number))
            save(root / "masks" / f"{name}.png", rgb_of(ids) if rgb else ids)
    return root
