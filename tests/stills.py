"""A still picture, looked at: how large it is, and in how many colours it is drawn."""

import io

import matplotlib.image
import numpy as np


def seen(png: bytes) -> tuple[tuple[int, int], int]:
    """Height and width in pixels, and the number of colours: an empty sheet has a few."""
    pixels = (255 * matplotlib.image.imread(io.BytesIO(png))).round().astype(np.uint8)
    assert pixels.shape[2] == 4, "red, green, blue and opacity"
    return pixels.shape[:2], len(np.unique(pixels.view(np.uint32)))
