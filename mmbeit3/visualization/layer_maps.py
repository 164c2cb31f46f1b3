"""Pictures of what a layer computes: a heat map, or features as colors, over the image."""

from __future__ import annotations

import cv2
import numpy as np

from mmbeit3.visualization.overlay import display_scale

OPACITY = 0.6


def draw_heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Draw a map of values on an image, from dark blue (the lowest) to yellow (the highest).

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        values (np.ndarray): (h, w) over the whole image.

    Returns:
        np.ndarray: The picture, BGR, uint8, resized as
        :func:`mmbeit3.visualization.overlay.display_scale` says.
    """
    low, high = float(values.min()), float(values.max())
    scaled = np.zeros_like(values) if high == low else (values - low) / (high - low)
    levels = np.rint(255 * scaled).astype(np.uint8)
    height, width = _size(image)
    levels = cv2.resize(levels, (width, height), interpolation=cv2.INTER_CUBIC)
    return _blend(image, cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS))


def draw_features(image: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Draw features on an image: their three principal components as blue, green and red.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8; left unchanged.
        features (np.ndarray): (h, w, C) over the whole image.

    Returns:
        np.ndarray: The picture, as :func:`draw_heat` makes it.
    """
    height, width = _size(image)
    colors = (255 * principal_components(features, 3)).astype(np.uint8)
    larger = cv2.resize(colors, (width, height), interpolation=cv2.INTER_CUBIC)
    return _blend(image, np.asarray(larger))


def principal_components(features: np.ndarray, number: int) -> np.ndarray:
    """Project features (h, w, C) to (h, w, number), each component stretched to [0, 1]."""
    points = features.reshape(-1, features.shape[-1]).astype(np.float64)
    points -= points.mean(0)
    axes = np.linalg.eigh(points.T @ points)[1][:, ::-1][:, :number]  # the largest first
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])  # eigh leaves the sign
    values = points @ axes
    low, high = np.percentile(values, (2, 98), axis=0)  # a few outliers would take all the range
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return scaled.reshape(*features.shape[:2], -1)


def _size(image: np.ndarray) -> tuple[int, int]:
    """Height and width of the picture of an image."""
    scale = display_scale(*image.shape[:2])
    return round(image.shape[0] * scale), round(image.shape[1] * scale)


def _blend(image: np.ndarray, layer: np.ndarray) -> np.ndarray:
    height, width = layer.shape[:2]
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.addWeighted(picture, 1 - OPACITY, layer, OPACITY, 0)
