"""Turns the painted canvas into an image as a camera in a car would record it."""

import cv2
import numpy as np

from src.street.camera import Camera
from src.street.canvas import ID, Canvas, label_of, scale

ROUGHNESS = {
    "road": 0.10, "sidewalk": 0.12, "parking": 0.12, "rail track": 0.35, "terrain": 0.34, "ground": 0.2,
    "vegetation": 0.30, "building": 0.045, "wall": 0.10, "fence": 0.05, "person": 0.04, "rider": 0.04,
}  # fmt: skip
"""Contrast of the texture per class; other classes are smooth."""

GROUND = ("road", "sidewalk", "parking", "rail track", "terrain", "ground")


def bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The front of the camera's own car along the lower edge, in about two thirds of the scenes."""
    shown, grey, rise = rng.uniform((0, 30, 0.03), (1, 120, 0.08)).tolist()
    if shown > 0.65:
        return
    height, width = canvas.ids.shape
    centre, axes = (width // 2, height), (round(width * 0.62), round(height * rise))
    for image, colour in ((canvas.image, (grey, grey, grey * 1.05)), (canvas.ids, canvas.new("ego vehicle"))):
        cv2.ellipse(image, centre, axes, 0, 180, 360, colour, -1)
    cv2.ellipse(
        canvas.image, centre, (axes[0], axes[1] // 2), 0, 180, 360, scale((grey, grey, grey), 1.3), -1
    )


def reduce(image: np.ndarray, ids: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
    """Average `finer` x `finer` pixels of the image; of the ids, which have no mean, keep one."""
    if finer == 1:
        return image, ids
    size = (ids.shape[1] // finer, ids.shape[0] // finer)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), ids[::finer, ::finer].copy()


def borders(ids: np.ndarray) -> np.ndarray:
    """Mark the outermost pixels as Cityscapes does: out of the region of interest."""
    edge = max(1, ids.shape[1] // 400)
    for part in (ids[:edge], ids[-edge:], ids[:, :edge], ids[:, -edge:]):
        part[:] = ID["out of roi"]
    return ids


def expose(image: np.ndarray, ids: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Texture of the surfaces, exposure, white balance, vignette, a soft lens and sensor noise."""
    height, width = ids.shape
    labels = label_of(ids)
    amount = np.zeros(256, np.float32)
    for name, contrast in ROUGHNESS.items():
        amount[ID[name]] = contrast
    texture = 1 + amount[labels] * _texture(labels, camera, rng)

    gain = rng.uniform(0.92, 1.22) * (1 + rng.uniform(-0.04, 0.04, 3))
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - np.float32(rng.uniform(0.02, 0.1)) * (x[None] ** 2 + y[:, None] ** 2)
    shine = (texture * vignette).astype(np.float32)
    factor = cv2.merge([shine * np.float32(channel) for channel in gain])
    exposed = cv2.multiply(image, factor, dtype=cv2.CV_8U)  # saturates
    softness = rng.uniform(0.35, 0.6) * max(1.0, width / 1024)
    exposed = cv2.GaussianBlur(exposed, (0, 0), softness)

    level = int(rng.integers(2, 6))
    noise = rng.integers(-level, level + 1, (height, width, 3), dtype=np.int8)
    noise += rng.integers(-level, level + 1, (height, width, 3), dtype=np.int8)
    return cv2.add(exposed, noise, dtype=cv2.CV_8U)


def _texture(labels: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 around 0: in perspective on the ground, upright elsewhere."""
    height, width = labels.shape
    tile = rng.integers(0, 256, (256, 256), dtype=np.uint8)
    field = np.zeros((height, width), np.float32)
    for rows in (24, 48, 96, 192, 384):
        if rows > height * 1.5:
            break
        grid = tile[np.arange(rows) % 256][:, (np.arange(2 * rows) * 7) % 256]
        field += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 64 - 2
    field *= 0.4

    horizon = min(max(int(camera.centre[1]) + 1, 0), height)
    z = camera.ground_distance(np.arange(horizon, height, dtype=np.float32))[:, None]
    x = (np.arange(width, dtype=np.float32)[None] - np.float32(camera.centre[0])) * (
        z / np.float32(camera.focal)
    )
    flat = np.zeros_like(x, dtype=np.float32)
    for cell in (0.06, 0.5):
        u, v = np.mod(x / cell, 256), np.mod(np.broadcast_to(z, x.shape) / (2 * cell), 256)
        seen = cv2.remap(
            tile, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        flat += (seen.astype(np.float32) / 64 - 2) * np.minimum(1.0, cell * 60 / z).astype(np.float32)
    is_ground = np.zeros(256, bool)
    is_ground[[ID[name] for name in GROUND]] = True
    part = field[horizon:]
    np.copyto(part, flat * 0.6, where=is_ground[labels[horizon:]])
    return field
