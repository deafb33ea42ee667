"""What Blender knows and the server paints from: cameras, passes, meshes. Value objects in one convention.

Images are (height, width[, channels]) arrays with row 0 at the top. Pixel (row i, column j) has its centre at
x = j + 0.5, y = i + 0.5. World and camera space are Blender's: right-handed, the camera looks down −z, x right, y up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields

import numpy as np

from .errors import BadMesh, BadMessage, BadPasses


def _check(owner: object, name: str, dtype: type, *shape: int | None) -> None:
    """Raise BadMessage unless the array `owner.name` has this dtype and shape (None: any length)."""
    array = getattr(owner, name)
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        raise BadMessage(
            name=type(owner).__name__,
            reason=f"{name} is {array.dtype}{list(array.shape)} instead of {np.dtype(dtype)}{list(shape)}",
        )


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera as two matrices, so that lens, shift, sensor fit, aspect, ortho and clip are all in one place."""

    name: str
    view: np.ndarray
    """float64 (4, 4): world to camera space."""
    projection: np.ndarray
    """float64 (4, 4): camera to clip space (OpenGL's: x right, y up, −1…1)."""
    width: int
    height: int

    def __post_init__(self) -> None:
        _check(self, "view", np.float64, 4, 4)
        _check(self, "projection", np.float64, 4, 4)
        finite = np.isfinite(self.view).all() and np.isfinite(self.projection).all()
        if finite:
            with np.errstate(over="ignore", invalid="ignore"):
                sizes = np.array([np.linalg.det(self.view), np.linalg.det(self.projection[:2, :2])])
            finite = np.isfinite(sizes).all() and sizes.all()
        if self.width < 1 or self.height < 1 or not finite:
            raise BadMessage(name="Camera", reason="its size or matrices are not valid")

    @property
    def orthographic(self) -> bool:
        """True if all rays are parallel (the last row of the projection does not divide by depth)."""
        return bool(self.projection[3, 3] != 0.0)

    @property
    def position(self) -> np.ndarray:
        """float64 (3,): the camera's place in the world."""
        return np.linalg.inv(self.view)[:3, 3]

    @property
    def clip(self) -> tuple[float, float]:
        """View-space depth of the near and the far end."""
        p = self.projection
        if self.orthographic:
            return float((p[2, 3] + 1) / p[2, 2]), float((p[2, 3] - 1) / p[2, 2])
        return float(p[2, 3] / (p[2, 2] - 1)), float(p[2, 3] / (p[2, 2] + 1))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (N, 3) -> pixels (N, 2), x right and y down, and view-space depth (N,).

        A point on a perspective camera's own plane has no pixel: it comes back as ±inf or NaN.
        """
        in_camera = points @ self.view[:3, :3].T + self.view[:3, 3]
        clip = in_camera @ self.projection[:, :3].T + self.projection[:, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            ndc = clip[:, :2] / clip[:, 3:4]
        pixels = (ndc * (0.5, -0.5) + 0.5) * (self.width, self.height)
        return pixels, -in_camera[:, 2]

    def rays(self, width: int | None = None, height: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ray of every pixel centre in camera space: origins and directions, each float64 (height, width, 3).

        `origin + depth * direction` is the point at view-space depth `depth` (direction has z = −1).
        """
        width, height = width or self.width, height or self.height
        x, y = np.meshgrid((np.arange(width) + 0.5) / width * 2 - 1, 1 - (np.arange(height) + 0.5) / height * 2)
        p = self.projection
        # Solve clip.xy = ndc * clip.w for camera-space x, y as functions of depth (z = −depth).
        # p00 X + p01 Y + p02 z + p03 = x (p32 z + p33), likewise for the second row.
        axes = np.linalg.inv(p[:2, :2])
        ndc = np.stack([x, y], -1)
        slope = ndc * -p[3, 2] + p[:2, 2]
        offset = ndc * p[3, 3] - p[:2, 3]
        origins = np.concatenate([offset @ axes.T, np.zeros_like(x)[..., None]], -1)
        directions = np.concatenate([slope @ axes.T, -np.ones_like(x)[..., None]], -1)
        return origins, directions

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """Depth (height, width) -> world positions float64 (height, width, 3); background (+inf) becomes NaN."""
        origins, directions = self.rays(depth.shape[1], depth.shape[0])
        known = np.where(np.isfinite(depth), depth, np.nan)[..., None]
        in_camera = origins + known * directions
        to_world = np.linalg.inv(self.view)
        return in_camera @ to_world[:3, :3].T + to_world[:3, 3]


@dataclass(frozen=True, eq=False)
class Passes:
    """What one camera sees, in physical terms."""

    camera: Camera
    depth: np.ndarray
    """float32 (H, W): view-space distance along the camera axis; +inf where nothing is hit."""
    normal: np.ndarray
    """float16 (H, W, 3): camera space, unit length, x right, y up, z toward the camera; 0 on background."""
    edge: np.ndarray
    """uint8 (H, W): 255 on silhouettes, creases, object and material borders."""
    object_id: np.ndarray
    """uint16 (H, W): 0 on background."""
    names: dict[str, str] = field(default_factory=dict)
    """Object id (as text) -> object name."""
    color: np.ndarray | None = None
    """uint8 (H, W, 4): the scene as Blender would show it, for image-to-image; optional."""

    def __post_init__(self) -> None:
        height, width = self.camera.height, self.camera.width
        _check(self, "depth", np.float32, height, width)
        _check(self, "normal", np.float16, height, width, 3)
        _check(self, "edge", np.uint8, height, width)
        _check(self, "object_id", np.uint16, height, width)
        if self.color is not None:
            _check(self, "color", np.uint8, height, width, 4)

    def check_values(self) -> None:
        """Raise BadPasses for NaN, −inf or negative depth, and for normals that are not finite."""
        # Every streamed frame is checked: nothing here makes an array.
        nearest = self.depth.min(initial=np.inf)
        if np.isnan(nearest):
            raise BadPasses(name="depth", view=self.camera.name, reason="it has NaN")
        if nearest == -np.inf:
            raise BadPasses(name="depth", view=self.camera.name, reason="it has −inf")
        # By their bits, NaN and inf come after all numbers of their sign. numpy's own isfinite is slow on float16.
        negative, positive = self.normal.view(np.uint16).max(initial=0), self.normal.view(np.int16).max(initial=0)
        if negative >= 0xFC00 or positive >= 0x7C00:
            raise BadPasses(name="normal", view=self.camera.name, reason="it has NaN or inf")


@dataclass(frozen=True, eq=False)
class MeshData:
    """An object's evaluated surface in world space, with all its copies (instances, arrays, mirrors)."""

    name: str
    object_id: int
    positions: np.ndarray
    """float32 (V, 3): world space."""
    triangles: np.ndarray
    """int32 (T, 3): indices into positions."""
    normals: np.ndarray
    """float32 (T, 3, 3): a world-space unit normal for every corner."""
    uvs: np.ndarray
    """float32 (T, 3, 2): a UV for every corner; v up, (0, 0) at the image's lower left, as in Blender."""
    materials: np.ndarray
    """int32 (T,): material slot."""

    def __post_init__(self) -> None:
        triangles = len(self.triangles)
        _check(self, "positions", np.float32, None, 3)
        _check(self, "triangles", np.int32, None, 3)
        _check(self, "normals", np.float32, triangles, 3, 3)
        _check(self, "uvs", np.float32, triangles, 3, 2)
        _check(self, "materials", np.int32, triangles)
        if triangles and (self.triangles.min() < 0 or self.triangles.max() >= len(self.positions)):
            raise BadMessage(name="MeshData", reason="a triangle names a vertex that does not exist")

    def check_values(self) -> None:
        """Raise BadMesh for a mesh without triangles and for coordinates that are not finite."""
        if not len(self.triangles):
            raise BadMesh(name=self.name, reason="it has no faces")
        for array in ("positions", "normals", "uvs"):
            if not np.isfinite(getattr(self, array)).all():
                raise BadMesh(name=self.name, reason=f"its {array} have NaN or inf")

    def content_hash(self) -> str:
        """Hex SHA-256 over every field: the key under which a server keeps this mesh."""
        digest = hashlib.sha256()
        for f in fields(self):
            value = getattr(self, f.name)
            digest.update(f.name.encode())
            digest.update(np.ascontiguousarray(value).data if isinstance(value, np.ndarray) else repr(value).encode())
        return digest.hexdigest()
