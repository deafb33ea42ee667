"""What of a material shows in passes: where its surface is, and whether the graphics card can tell."""

from __future__ import annotations

from dataclasses import dataclass

import bpy


@dataclass(frozen=True)
class Look:
    """A material as passes see it."""

    number: int
    """Tells materials apart; 0 is none."""
    beyond: str = ""
    """Why only Cycles can draw it, or nothing."""


def look(material: bpy.types.Material | None, number: int) -> Look:
    """The look of an original material."""
    return Look(number, _beyond(material) if material else "")


def _beyond(material: bpy.types.Material) -> str:
    tree = material.node_tree
    if tree is None or (bpy.app.version < (5, 0, 0) and not material.use_nodes):
        return ""
    output = tree.get_output_node("CYCLES") or tree.get_output_node("ALL")
    if output is None:
        return ""
    if output.inputs["Displacement"].is_linked and material.displacement_method != "BUMP":
        return "displacement"
    if output.inputs["Volume"].is_linked:
        return "a volume"
    if _transparent(tree):
        return "transparency"
    return ""


def _transparent(tree: bpy.types.NodeTree) -> bool:
    """Whether any shader in the tree lets the eye through."""
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
