"""Passes to the pictures that ControlNets are steered by, in the convention each was trained with. numpy only.

Every hint is float32 (H, W, 3) in 0…1, quantised to 8 bits as the training pictures were.
"""

from __future__ import annotations

import numpy as np

from .scene import Passes

Limits = tuple[float, float] | None


def make_hint(
    passes: Passes, control: str, normals: str = "bae", lines: str = "lineart", depth_limits: Limits = None
) -> np.ndarray:
    """The hint for `control` ("depth", "normal" or "edge"); `normals` as in normal_hint, `lines` as in edge_hint,
    `depth_limits` as in depth_hint."""
    if control == "depth":
        return depth_hint(passes.depth, depth_limits)
    if control == "normal":
        return normal_hint(passes.normal, normals)
    if control == "edge":
        return edge_hint(passes.edge, lines)
    raise ValueError(f"there is no hint for {control!r}")


def depth_hint(depth: np.ndarray, limits: Limits = None) -> np.ndarray:
    """Disparity like MiDaS's: near is white, affine in 1/depth, background black.

    depth is float (H, W) along the camera axis, +inf on background. With d = 1/depth, and low and high its values at
    the far and the near end of what is told apart: 0.2 + 0.8 · clip((d − low) / (high − low), 0, 1). The 0.2 keeps the
    farthest surface apart from the background. `limits` are near and far, the same for every image of a shot; without,
    low and high are those of this image: the 1st and 99th percentile of d over its surfaces, so that neither a speck
    before the lens nor a floor that goes on to the horizon, where d is 0, takes the contrast from the rest. A wall
    seen straight on (high − low < 0.001 · high) is then white. mini's ControlNet is trained on exactly this; those for
    SD1.5 and SDXL take any affine disparity.
    """
    hit = np.isfinite(depth) & (depth > 0)
    hint = np.zeros(depth.shape, np.float32)
    if hit.any():
        disparity = 1 / depth[hit]
        low, high = (1 / limits[1], 1 / limits[0]) if limits else np.percentile(disparity, (1, 99))
        if not limits and high - low < 0.001 * high:
            hint[hit] = 1.0
        else:
            hint[hit] = 0.2 + 0.8 * np.clip((disparity - low) / (high - low), 0, 1)
    return np.repeat(_quantised(hint)[..., None], 3, axis=-1)


class ShotRange:
    """Near and far for a whole shot, from the depth of its frames: what depth_hint finds for one image, over all."""

    def __init__(self) -> None:
        self._disparities: list[np.ndarray] = []

    def add(self, depth: np.ndarray) -> None:
        """One more frame. `depth` as in depth_hint."""
        disparity = np.sort(1 / depth[np.isfinite(depth) & (depth > 0)])
        self._disparities.append(disparity[SHARE // 2 :: SHARE])  # of sorted values, as evenly spread as all of them

    def limits(self) -> Limits:
        """Near and far in Blender units; None if nothing was ever seen. Percentiles over area and time: what flies past
        the lens for a moment is white, and changes nothing for the rest."""
        disparities = np.concatenate(self._disparities) if self._disparities else np.empty(0)
        if not len(disparities):
            return None
        low, high = (float(value) for value in np.percentile(disparities, (1, 99)))
        return 1 / high, 1 / min(low, high * 0.999)  # a wall seen straight on is white


SHARE = 8
"""One in so many pixels is kept."""


def normal_hint(normal: np.ndarray, convention: str = "bae") -> np.ndarray:
    """Normals as colours, normal · 0.5 + 0.5. normal is (H, W, 3): camera space, x right, y up, z toward the camera.

    "camera": as they are, and mid-grey (0, 0, 0) on background; mini's ControlNet is trained on this.
    "bae": what the NormalBae detector draws (Bae et al., ICCV 2021, trained on ScanNet), and ControlNets for SD1.5
    were trained on: red is left, green is up, blue is toward the camera, so x changes its sign. The detector gives
    every pixel a unit normal, so background faces the camera.
    """
    hint = normal.astype(np.float32) * np.float32(0.5)
    if convention == "bae":
        x, y, z = (hint[..., axis] for axis in range(3))
        np.negative(x, out=x)
        z[(x == 0) & (y == 0) & (z == 0)] = 0.5
    elif convention != "camera":
        raise ValueError(f"there is no convention {convention!r} for normals")
    hint += np.float32(0.5)
    return _quantised(hint)


def edge_hint(edge: np.ndarray, convention: str = "lineart") -> np.ndarray:
    """White lines on black. edge is uint8 (H, W), anti-aliased.

    "lineart": as they are, in shades. That is what the line-art detector of `controlnet_aux` gives (it draws dark lines
    on white, and ends with `255 - detected_map`), with which control_v11p_sd15_lineart was trained; soft-edge
    detectors (HED, PiDiNet) give white on black, too. mini's ControlNet is trained on this.
    "canny": 0 or 1, as Canny's detector gives it (Canny 1986; cv2.Canny has 0 and 255 only): pixels that are at least
    half covered by a line.
    """
    if convention == "canny":
        edge = np.where(edge >= 128, 255, 0)
    elif convention != "lineart":
        raise ValueError(f"there is no convention {convention!r} for lines")
    return np.repeat(edge.astype(np.float32)[..., None] / 255, 3, axis=-1)


def _quantised(hint: np.ndarray) -> np.ndarray:
    """float32: the nearest values that an 8-bit picture can hold, in the array itself."""
    np.clip(hint, 0, 1, out=hint)
    hint *= 255
    np.round(hint, out=hint)
    hint /= 255
    return hint
