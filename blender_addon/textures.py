"""Finished textures on objects, and the way back to what the objects wore before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import bpy
import numpy as np

from . import png, uvs
from .bridge.errors import LinkedData, NoMesh, NothingToRevert, SceneError

PAINTED = "paintover"
"""Custom property of a painted object: its material and image, and its slots as they were. Data-blocks are held by
pointer, so that renaming does not lose them and saving does not purge them."""
ADDED_SLOT = "paintover_slot"
"""Custom property of a mesh that had no material slot before it was painted."""

Shading = Literal["unlit", "lit"]
Picture = np.ndarray | bytes
"""Pixels, uint8 (H, W, 3), sRGB, row 0 at the top; or what `png.encode` made of them in a thread."""


def is_painted(ob: bpy.types.Object) -> bool:
    """Whether the object wears a texture of Paintover's."""
    return PAINTED in ob


def check_paintable(ob: bpy.types.Object) -> None:
    """Raise NoMesh, LinkedData or SceneError if `apply` could not paint this object."""
    if ob.type != "MESH":
        raise NoMesh(f"{ob.name!r} is not a mesh.", hint="Convert it first: Object > Convert > Mesh.")
    if ob.library:
        raise LinkedData(name=ob.name)
    if ob.data.library and not ob.material_slots:  # of a library override, say
        hint = "Make it local: Object > Relations > Make Local > Selected Objects and Data."
        raise LinkedData(f"The mesh of {ob.name!r} is linked from another file and has no material slot.", hint=hint)
    uvs.check_mode(ob)


def apply(ob: bpy.types.Object, texture: Picture, uv_layer: str, *, shading: Shading = "unlit") -> bpy.types.Material:
    """Dress the object in `texture` (square, row 0 at v = 1); returns its material.

    The material is on the object, not on its mesh, so objects that share the mesh keep theirs. A second texture
    takes the place of the first. Raises NoMesh, LinkedData or SceneError before anything is changed.
    """
    check_paintable(ob)
    if uv_layer not in ob.data.uv_layers:
        raise SceneError(reason=f"{ob.name!r} has no UV layer {uv_layer!r} any more", hint="Paint it again.")
    if not ob.material_slots:
        ob.data.materials.append(None)
        ob.data[ADDED_SLOT] = True
    if PAINTED not in ob:
        ob[PAINTED] = {"slots": _remember(ob)}
    painted = ob[PAINTED]
    painted["image"] = fill_image(_own(ob, "image"), f"Paintover {ob.name}", texture)
    material = _own(ob, "material") or bpy.data.materials.new(f"Paintover {ob.name}")
    painted["material"] = material
    _build_nodes(material, painted["image"], uv_layer, shading)
    for slot in ob.material_slots:
        slot.link = "OBJECT"
        slot.material = material
    return material


def revert(ob: bpy.types.Object) -> None:
    """Bring back the object's old materials, and remove the material, the image, the slot and the UV layer that
    Paintover added. Raises NothingToRevert or LinkedData.
    """
    if PAINTED not in ob:
        raise NothingToRevert()
    if ob.library:
        raise LinkedData(name=ob.name)
    painted = ob[PAINTED]
    material, image = painted.get("material"), painted.get("image")
    remembered = painted["slots"]
    for index, slot in enumerate(ob.material_slots):
        old = remembered.get(str(index))
        slot.link = "OBJECT"
        slot.material = old.get("material") if old else None
        slot.link = old["link"] if old else "DATA"  # a slot that was added since shows the mesh's material
    del ob[PAINTED]
    if material and not material.users:
        bpy.data.materials.remove(material)
    if image and not image.users:
        bpy.data.images.remove(image)
    clean_mesh(ob.data)


def revert_all(objects: Iterable[bpy.types.Object]) -> int:
    """Revert those of `objects` that are painted; returns how many. Raises NothingToRevert if none is."""
    painted = [ob for ob in objects if is_painted(ob)]
    if not painted:
        raise NothingToRevert()
    for ob in painted:
        revert(ob)
    return len(painted)


def _own(ob: bpy.types.Object, kind: Literal["image", "material"]) -> Any:
    """The painted object's image or material; None if it is gone, or shared with a copy of the object."""
    block = ob[PAINTED].get(kind)
    others = (other[PAINTED].get(kind) for other in bpy.data.objects if other != ob and PAINTED in other)
    return None if block in others else block


def _remember(ob: bpy.types.Object) -> dict[str, dict[str, object]]:
    """Every slot's link and the material that the object itself holds in it. The mesh's are not going to change."""
    slots: dict[str, dict[str, object]] = {}
    for index, slot in enumerate(ob.material_slots):
        link = slot.link
        slot.link = "OBJECT"
        slots[str(index)] = {"link": link}
        if slot.material:
            slots[str(index)]["material"] = slot.material
        slot.link = link
    return slots


def fill_image(image: bpy.types.Image | None, name: str, picture: Picture) -> bpy.types.Image:
    """A packed image that holds `picture`: the given one, or a new one."""
    if image is None:
        image = bpy.data.images.new(name, 1, 1, alpha=False)
    # As a PNG file in memory: three times as fast at 4096² as by way of floats, and of any size.
    data = picture if isinstance(picture, bytes) else png.encode(picture)
    image.pack(data=data, data_len=len(data))
    image.filepath_raw = f"//{bpy.path.clean_name(image.name)}.png"  # where unpacking would put it
    image.source = "FILE"  # also makes Blender read it anew
    image.colorspace_settings.name = "sRGB"
    return image


def _build_nodes(material: bpy.types.Material, image: bpy.types.Image, uv_layer: str, shading: Shading) -> None:
    if bpy.app.version < (5, 0, 0):  # from 5.0 on they always are
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    uv_map = tree.nodes.new("ShaderNodeUVMap")
    picture = tree.nodes.new("ShaderNodeTexImage")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    uv_map.location, picture.location, output.location = (-600, 0), (-400, 0), (240, 0)
    uv_map.uv_map, picture.image = uv_layer, image
    if shading == "unlit":
        shader = tree.nodes.new("ShaderNodeEmission")
        color = shader.inputs["Color"]
    else:
        shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
        shader.inputs["Roughness"].default_value = 0.7
        color = shader.inputs["Base Color"]
    shader.location = (-60, 0)
    tree.links.new(uv_map.outputs["UV"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], color)
    tree.links.new(shader.outputs[0], output.inputs["Surface"])
    tree.nodes.active = picture  # what Solid mode shows under Color: Texture


def clean_mesh(mesh: bpy.types.Mesh) -> None:
    """Remove what Paintover added to the mesh, unless an object that shares it is painted or going to be."""
    if mesh.library or any(ob.data == mesh and PAINTED in ob for ob in bpy.data.objects):
        return
    if not uvs.needed(mesh):
        uvs.remove(mesh)
    if ADDED_SLOT in mesh:
        if len(mesh.materials) == 1 and mesh.materials[0] is None:
            mesh.materials.clear()
        del mesh[ADDED_SLOT]
