"""The shaders that draw passes: one source, in variants that leave out what a draw does not need."""

from __future__ import annotations

import gpu

TEXELS = 8
"""Texels of an instance: three rows of its matrix now, three of the one before, and what else there is to know."""
INSTANCES_PER_ROW = 256
"""Of the texture that holds them."""


class ShaderError(Exception):
    """The driver does not take a shader."""


def make_shader(position: bool, uv: bool, deforming: bool, masked: bool) -> gpu.types.GPUShader:
    """The variant that also gives positions, also gives UVs, moves from other vertices, asks a mask. Raises
    ShaderError."""
    info = geometry_shader({"POSITION": position, "UV": uv, "DEFORMING": deforming, "MASKED": masked})
    info.fragment_out(0, "VEC4", "out_normal_depth")
    info.fragment_out(1, "VEC4", "out_motion_ids")
    if position:
        info.fragment_out(2, "VEC4", "out_position")
    if uv:
        info.fragment_out(3, "VEC4", "out_uv")
    info.fragment_source(MASK + FRAGMENT)
    return create(info)


def geometry_shader(variant: dict[str, bool]) -> gpu.types.GPUShaderCreateInfo:
    """A shader's description up to its fragments, which get geometry placed now and before.

    Of the variant's parts UV, DEFORMING, MASKED and PAINTED mean something here; all are defined in the sources.
    """
    info = gpu.types.GPUShaderCreateInfo()
    for name, wanted in variant.items():
        if wanted:
            info.define(name)
    uv, deforming, masked = (variant.get(name, False) for name in ("UV", "DEFORMING", "MASKED"))
    info.typedef_source("struct Cameras { mat4 to_clip; mat4 to_clip_before; mat4 to_world; vec4 half_size_far; };")
    info.uniform_buf(0, "Cameras", "cameras")
    info.sampler(0, "FLOAT_2D", "instances")
    info.push_constant("INT", "first")
    info.push_constant("FLOAT", "material")
    info.push_constant("INT", "culled")
    info.vertex_in(0, "VEC3", "place")
    info.vertex_in(1, "VEC3", "facing")
    parts = "_".join(name.lower() for name in variant if variant[name])
    between = gpu.types.GPUStageInterfaceInfo(f"paintover_geometry_{parts}")
    between.smooth("VEC3", "seen")
    between.smooth("VEC3", "normal")
    between.smooth("VEC3", "now")
    between.smooth("VEC3", "then")
    between.flat("VEC2", "known")
    if uv:
        info.vertex_in(2, "VEC2", "corner_uv")
        between.smooth("VEC2", "uv")
    if deforming:
        info.vertex_in(3, "VEC3", "place_before")
    if masked:
        info.sampler(1, "FLOAT_2D", "mask")
        info.push_constant("IVEC2", "lookup")
        info.push_constant("FLOAT", "threshold")
        info.vertex_in(4, "VEC2", "mask_uv")
        between.smooth("VEC2", "masked_at")
    if variant.get("PAINTED") or variant.get("POSITION"):
        between.smooth("FLOAT", "depth_before")
    info.vertex_out(between)
    if hasattr(info, "depth_write"):  # 4.5 and later
        info.depth_write("ANY")
        info.define("OWN_DEPTH")
    info.vertex_source(VERTEX)
    return info


def create(info: gpu.types.GPUShaderCreateInfo) -> gpu.types.GPUShader:
    """The shader. Raises ShaderError."""
    try:
        shader = gpu.shader.create_from_info(info)
    except Exception as reason:  # Blender raises nothing more exact
        raise ShaderError(str(reason)) from reason
    # Blender does not bind what it takes for bound already, and it knows shaders by their addresses: this one may be
    # where one was that was freed while bound, and then another one than this would draw.
    gpu.shader.unbind()
    return shader


VERTEX = """
void main()
{
    int number = first + gl_InstanceID;
    ivec2 at = ivec2((number % PER_ROW) * TEXELS, number / PER_ROW);
    vec4 x = texelFetch(instances, at, 0);
    vec4 y = texelFetch(instances, at + ivec2(1, 0), 0);
    vec4 z = texelFetch(instances, at + ivec2(2, 0), 0);
    vec4 here = vec4(place, 1.0);
    seen = vec3(dot(x, here), dot(y, here), dot(z, here));
    known = texelFetch(instances, at + ivec2(6, 0), 0).xy;
    /* Normals go the way of the cofactors: for any matrix, without dividing; mirrored ones turn around. */
    normal = known.y * vec3(dot(cross(y.xyz, z.xyz), facing), dot(cross(z.xyz, x.xyz), facing),
                            dot(cross(x.xyz, y.xyz), facing));
    vec4 clip = cameras.to_clip * vec4(seen, 1.0);
    now = clip.xyw;
#ifdef DEFORMING
    here = vec4(place_before, 1.0);
#endif
    vec3 seen_before = vec3(dot(texelFetch(instances, at + ivec2(3, 0), 0), here),
                            dot(texelFetch(instances, at + ivec2(4, 0), 0), here),
                            dot(texelFetch(instances, at + ivec2(5, 0), 0), here));
    then = (cameras.to_clip_before * vec4(seen_before, 1.0)).xyw;
#if defined(PAINTED) || defined(POSITION)
    depth_before = -seen_before.z;
#endif
#ifdef UV
    uv = corner_uv;
#endif
#ifdef MASKED
    masked_at = mask_uv;
#endif
#ifdef ATLAS
    gl_Position = cameras.to_world * vec4(corner_uv, 0.0, 1.0);  /* which part of the atlas is drawn */
#else
    gl_Position = clip;
#endif
}
""".replace("PER_ROW", str(INSTANCES_PER_ROW)).replace("TEXELS", str(TEXELS))

MASK = """
#ifdef MASKED
float alpha_of(ivec2 at)
{
    ivec2 size = textureSize(mask, 0);
    if (lookup.y == 0) {  /* repeat */
        at -= size * ivec2(floor(vec2(at) / vec2(size)));
    }
    else if (lookup.y == 3) {  /* mirror */
        at -= 2 * size * ivec2(floor(vec2(at) / vec2(2 * size)));
        at = min(at, 2 * size - 1 - at);
    }
    else if (lookup.y == 2 && (any(lessThan(at, ivec2(0))) || any(greaterThanEqual(at, size)))) {  /* clip */
        return 0.0;
    }
    return texelFetch(mask, clamp(at, ivec2(0), size - 1), 0).r;
}

float alpha_at(vec2 place)
{
    vec2 texel = place * vec2(textureSize(mask, 0));
    if (lookup.x == 0) {
        return alpha_of(ivec2(floor(texel)));
    }
    texel -= 0.5;
    ivec2 at = ivec2(floor(texel));
    vec2 share = fract(texel);
    return mix(mix(alpha_of(at), alpha_of(at + ivec2(1, 0)), share.x),
               mix(alpha_of(at + ivec2(0, 1)), alpha_of(at + ivec2(1, 1)), share.x), share.y);
}
#endif

/* Whether there is no surface here, by its material. */
bool is_hidden(bool front)
{
    if (culled != 0 && !front) {
        return true;
    }
#ifdef MASKED
    return alpha_at(masked_at) < threshold;
#else
    return false;
#endif
}
"""

FRAGMENT = """
void main()
{
    /* Images are drawn with the first row first, which mirrors them, and so do negative scales. */
    bool front = gl_FrontFacing != (known.y > 0.0);
    if (is_hidden(front)) {
        discard;
    }
    float depth = -seen.z;
#ifdef OWN_DEPTH
    /* Even precision from near to far; that of a projected depth ends soon behind the near end. */
    gl_FragDepth = depth / cameras.half_size_far.z;
#endif
    if (known.x < 0.0) {  /* a holdout */
        out_normal_depth = vec4(0.0, 0.0, 0.0, uintBitsToFloat(0x7F800000u));
        out_motion_ids = vec4(0.0, 0.0, 0.0, -depth);  /* negative, so no material: what hides lines */
#ifdef POSITION
        out_position = vec4(uintBitsToFloat(0x7FC00000u));
#endif
#ifdef UV
        out_uv = vec4(0.0);
#endif
        return;
    }
    float length_squared = dot(normal, normal);
    vec3 n = length_squared > 0.0 ? normal * inversesqrt(length_squared) : vec3(0.0, 0.0, 1.0);
    out_normal_depth = vec4(front ? n : -n, depth);
    vec2 motion = (then.xy / then.z - now.xy / now.z) * cameras.half_size_far.xy;
    out_motion_ids = vec4(then.z > 0.0 ? motion : vec2(uintBitsToFloat(0x7F800000u)), known.x, material);
#ifdef POSITION
    out_position = vec4((cameras.to_world * vec4(seen, 1.0)).xyz, depth_before);
#endif
#ifdef UV
    out_uv = vec4(uv, 0.0, 0.0);
#endif
}
"""
