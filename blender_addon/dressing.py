"""From a finished texture to the object that wears it, or to an image if the object cannot: nothing is thrown away."""

from __future__ import annotations

import bpy
import numpy as np

from . import images, meshes, textures, uvs
from .bridge.errors import PaintoverError, SceneError
from .bridge.messages import PaintedUVs, TextureResult
from .bridge.origin import Target


def dress(ob: bpy.types.Object, result: TextureResult, picture: bytes, uv_layer: str, lit: bool) -> list[str]:
    """Put a finished texture (`picture`: as PNG) on its object. Returns what the artist should know; SceneError if it
    cannot wear it."""
    textures.apply(ob, picture, uv_layer, shading="lit" if lit else "unlit")
    if result.shared <= 0.01:
        return []
    return [f"{ob.name}: {result.shared:.0%} of its texture stands for several places (instances, mirrored UVs)."]


def keep(result: TextureResult, picture: bytes, why: str) -> str:
    """Keep a texture that nobody wears as an image; returns a note that says so."""
    name = images.show(f"Paintover {result.name}", picture, result.settings)
    return f"{why} Its texture is kept as the image “{name}”."


def fitting_layer(scene: bpy.types.Scene, ob: bpy.types.Object, target: Target, painted: PaintedUVs) -> str:
    """The UV layer of `ob` that a texture painted with these UVs fits. SceneError if the mesh is another by now.

    A layer that a lost session had made is made again: from the stored UVs, or where modifiers hide which UV belongs to
    which corner, by the same projection. Either counts only if the evaluated mesh then has the very UVs that were
    painted; where it has moved since does not matter.
    """
    mesh = ob.data
    if target.uv_layer in mesh.uv_layers:
        if _fits(scene, ob, target.uv_layer, painted):
            return target.uv_layer
    elif target.made_uvs and not mesh.library:
        for coordinates in (_of_corners(ob, painted), None):
            layer = uvs.make(ob, coordinates)
            if _fits(scene, ob, layer, painted):
                return layer
            uvs.remove(mesh)
    raise SceneError(
        reason=f"the mesh or the UVs of {ob.name!r} are not those that were painted", hint="Paint it again."
    )


def _fits(scene: bpy.types.Scene, ob: bpy.types.Object, layer: str, painted: PaintedUVs) -> bool:
    try:
        (now,) = meshes.collect(scene, [ob], {ob.name: layer})
    except PaintoverError:  # hidden, emptied: no longer what was painted
        return False
    return now.uvs.shape == painted.uvs.shape and np.allclose(now.uvs, painted.uvs, atol=1e-5)


def _of_corners(ob: bpy.types.Object, painted: PaintedUVs) -> np.ndarray | None:
    """UVs of the mesh's own corners, float32 (2 · loops,), if the painted mesh is made of whole copies of it."""
    mesh = ob.data
    count = len(mesh.loop_triangles)
    if not count or len(painted.uvs) % count:
        return None
    corners = np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("loops", corners)
    of_triangle = painted.uvs[:count]
    if ob.matrix_world.is_negative:  # mirrored: its triangles were turned around
        of_triangle = of_triangle[:, ::-1]
    flat = np.zeros((len(mesh.loops), 2), np.float32)
    flat[corners] = of_triangle.reshape(-1, 2)
    return flat.ravel()
