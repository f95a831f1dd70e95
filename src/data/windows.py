"""Computes a window of a scaled frame from the source pixels around that window, without scaling the rest.

The result equals "resize the whole frame, then cut out the window", also at the window's borders. The image
is that of cv2.resize with INTER_LINEAR, up to a shift of 1/32 of a source pixel. The label has exactly the
nearest source pixels (as cv2.resize with INTER_NEAREST_EXACT, except for ties between equally near pixels).
"""

import cv2
import numpy as np

Window = tuple[int, int, int, int]
"""(top, left, bottom, right) in the scaled frame."""

_SHIFT = 1 / 32  # of a source pixel; changes photographs by 0.2 grey levels on average


def cut_image(image: np.ndarray, window: Window, scaled: tuple[int, int]) -> np.ndarray:
    """(bottom - top, right - left, 3) of an image (H, W, 3) as if it had been resized to `scaled` (h, w)."""
    (height, width), (top, left, bottom, right) = image.shape[:2], window
    if scaled == (height, width):
        return image[top:bottom, left:right]
    above, beside = _lead(top, scaled[0], height), _lead(left, scaled[1], width)
    y, x = round((top - above) * height / scaled[0]), round((left - beside) * width / scaled[1])
    # Two pixels more than needed, because the last ones are interpolated with their right neighbours.
    source = image[y : bottom * height // scaled[0] + 2, x : right * width // scaled[1] + 2]
    # OpenCV is given the factors: from the size it would compute slightly different ones.
    factors = {"fx": scaled[1] / width, "fy": scaled[0] / height}
    larger = cv2.resize(source, None, **factors, interpolation=cv2.INTER_LINEAR)
    return larger[above : above + bottom - top, beside : beside + right - left]


def cut_label(label: np.ndarray, window: Window, scaled: tuple[int, int]) -> np.ndarray:
    """The same for a label (H, W): each pixel gets the id of the source pixel with the nearest centre.

    INTER_NEAREST is not used: it shifts the label against the image, by half a pixel to the lower right, at
    all factors except 1 and 2 (opencv issue 9096, albumentations issue 850).
    """
    (height, width), (top, left, bottom, right) = label.shape, window
    if scaled == (height, width):
        return label[top:bottom, left:right]
    rows = _nearest(top, bottom, height, scaled[0])
    columns = _nearest(left, right, width, scaled[1])
    return label[rows, columns[0] : columns[-1] + 1].take(columns - columns[0], axis=1)


def source_window(window: Window, scaled: tuple[int, int], size: tuple[int, int]) -> Window:
    """The window in the unscaled frame of `size` (H, W), rounded to whole pixels; never empty."""
    top, bottom = (round(y * size[0] / scaled[0]) for y in (window[0], window[2]))
    left, right = (round(x * size[1] / scaled[1]) for x in (window[1], window[3]))
    return top, left, max(bottom, top + 1), max(right, left + 1)


def _nearest(start: int, stop: int, length: int, scaled: int) -> np.ndarray:
    """Source indices of the scaled pixels start, ..., stop - 1: floor((i + 1/2) * length / scaled)."""
    return (2 * np.arange(start, stop) + 1) * length // (2 * scaled)


def _lead(start: int, scaled: int, length: int) -> int:
    """How many scaled pixels before `start` the resized part has to begin, to begin at a source pixel's edge.

    cv2.resize aligns its result with the first pixel that it gets. A part that begins between two edges
    would be shifted by up to half a source pixel. The result is at least 1, because the first pixel lacks
    its left neighbour; position 0 is always an edge, so the search ends there at the latest. The average is
    20 pixels, and 80 for factors within 2 % of 1.
    """
    if start == 0:
        return 0
    remainder = np.arange(start - 1, -1, -1) * length % scaled
    off = np.minimum(remainder, scaled - remainder)
    return int(np.argmax(off <= _SHIFT * scaled)) + 1
