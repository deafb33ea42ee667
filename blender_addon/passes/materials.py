"""What of a material shows in passes: whether its surface is there, everywhere or where a picture says so, and whether
the graphics card can tell.

A surface is there where its alpha reaches the view layer's alpha threshold, as for Cycles' passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

EXTENSIONS = {"REPEAT": 0, "EXTEND": 1, "CLIP": 2, "MIRROR": 3}
INTERPOLATIONS = {"Closest": 0, "Linear": 1}
GREY = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True, eq=False)
class AlphaImage:
    """One channel of a picture. Hashed by identity: an unchanged picture is the same AlphaImage."""

    values: np.ndarray
    """float32 (H, W), the lowest row first."""


@dataclass(frozen=True)
class Mask:
    """A picture that says where the surface is."""

    image: AlphaImage
    uv_layer: str
    """Empty for the one that renders."""
    linear: int
    extension: int


@dataclass(frozen=True)
class Look:
    """A material as passes see it."""

    number: int = 0
    """Tells materials apart; 0 is none."""
    culled: bool = False
    """Whether its faces show their front only."""
    hidden: bool = False
    """Whether it is too transparent to be seen at all."""
    mask: Mask | None = None
    beyond: str = ""
    """Why only Cycles can draw it, or nothing."""


class Beyond(Exception):
    """Only Cycles can tell."""


Load = Callable[[bpy.types.Image, str], AlphaImage]
"""Gives a channel of a picture: "Alpha" or "Color"."""


def look(material: bpy.types.Material, number: int, threshold: float, cull: bool, load: Load) -> Look:
    """The look of an original material under an alpha threshold."""
    culled = cull and material.use_backface_culling
    tree = material.node_tree
    output = None
    if tree is not None and (bpy.app.version >= (5, 0, 0) or material.use_nodes):
        output = tree.get_output_node("CYCLES") or tree.get_output_node("ALL")
    if output is None:
        return Look(number, culled)
    if output.inputs["Displacement"].is_linked and material.displacement_method != "BUMP":
        return Look(number, beyond="displacement")
    if output.inputs["Volume"].is_linked:
        return Look(number, beyond="a volume")
    if threshold <= 0 or not _transparent(tree):
        return Look(number, culled)
    try:
        alpha = _alpha(_source(output.inputs["Surface"]), load)
    except Beyond:
        return Look(number, beyond="transparency")
    if isinstance(alpha, Mask):
        return Look(number, culled, mask=alpha)
    return Look(number, culled, hidden=alpha < threshold)


def read_image(image: bpy.types.Image, channel: str) -> AlphaImage:
    """A channel of a picture: its alpha, or the grey that its colour is as a number. Raises Beyond."""
    width, height = image.size
    if image.source not in {"FILE", "GENERATED"} or not width or not height or image.channels != 4:
        raise Beyond
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    values = pixels.reshape(height, width, 4)
    if channel == "Alpha":
        return AlphaImage(np.ascontiguousarray(values[..., 3] if image.alpha_mode != "NONE" else np.ones((1, 1), "f4")))
    if image.colorspace_settings.name not in {"Non-Color", "Raw"}:
        raise Beyond
    return AlphaImage(values[..., :3] @ GREY)


def _transparent(tree: bpy.types.NodeTree) -> bool:
    """Whether any shader in the tree may let the eye through."""
    for node in tree.nodes:
        if node.mute:
            continue
        if node.type in {"BSDF_TRANSPARENT", "HOLDOUT"}:
            return True
        if node.type == "BSDF_PRINCIPLED":
            alpha = node.inputs["Alpha"]
            if alpha.is_linked or alpha.default_value < 1:
                return True
        if node.type == "GROUP" and node.node_tree and _transparent(node.node_tree):
            return True
    return False


def _source(socket: bpy.types.NodeSocket) -> bpy.types.NodeSocket | None:
    """The output that feeds an input, through reroutes. Raises Beyond for muted nodes, which pass something on."""
    while socket.is_linked:
        link = socket.links[0]
        if link.is_muted or link.from_node.mute:
            raise Beyond
        if link.from_node.type != "REROUTE":
            return link.from_socket
        socket = link.from_node.inputs[0]
    return None


def _alpha(shader: bpy.types.NodeSocket | None, load: Load) -> float | Mask:
    """How much of the eye a shader stops. Raises Beyond if that is not a number or a picture."""
    if shader is None:
        raise Beyond
    node = shader.node
    if node.type == "BSDF_TRANSPARENT" and not node.inputs["Color"].is_linked:
        return 1 - float(np.mean(node.inputs["Color"].default_value[:3]))
    if node.type == "BSDF_PRINCIPLED":
        return _number(node.inputs["Alpha"], load)
    if node.type == "MIX_SHADER":
        share = _number(node.inputs[0], load)
        one, two = (_alpha(_source(socket), load) for socket in node.inputs[1:3])
        if isinstance(share, Mask):
            if (one, two) != (0.0, 1.0):
                raise Beyond
            return share
        if isinstance(one, Mask) or isinstance(two, Mask):
            raise Beyond
        return one + share * (two - one)
    if node.type in {"GROUP", "HOLDOUT", "ADD_SHADER"}:
        raise Beyond
    return 1.0  # the other shaders stop it all


def _number(socket: bpy.types.NodeSocket, load: Load) -> float | Mask:
    source = _source(socket)
    if source is None:
        return min(1.0, max(0.0, socket.default_value))
    node = source.node
    if node.type == "VALUE":
        return min(1.0, max(0.0, source.default_value))
    if node.type != "TEX_IMAGE" or node.image is None or node.projection != "FLAT":
        raise Beyond
    if node.interpolation not in INTERPOLATIONS or node.extension not in EXTENSIONS:
        raise Beyond
    return Mask(
        load(node.image, source.name),
        _uv_layer(node),
        INTERPOLATIONS[node.interpolation],
        EXTENSIONS[node.extension],
    )


def _uv_layer(node: bpy.types.Node) -> str:
    source = _source(node.inputs["Vector"])
    if source is None:
        return ""
    if source.node.type == "UVMAP" and not source.node.from_instancer:
        return str(source.node.uv_map)
    if source.node.type == "TEX_COORD" and source.name == "UV" and not source.node.from_instancer:
        return ""
    raise Beyond
