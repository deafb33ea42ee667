"""The shader that draws line segments as wide, anti-aliased lines, where no surface hides them."""

from __future__ import annotations

import gpu

from .edges import GRAZING, SIDE
from .features import BOUNDARY, CONTOUR, HOLDOUT_LINE, MASKED
from .shaders import INSTANCES_PER_ROW, TEXELS, create

VIEW = """struct View {
    mat4 to_clip;
    vec4 ray;
    vec4 ray_x;
    vec4 ray_y;
    vec4 size_near_far;
    vec4 line;
};"""
"""ray: directions and origins of rays at a corner, and what a pixel adds (rays.py). line: half its width, whether rays
are parallel, whether outlines are wanted between objects only."""
SHORT = 12.0
"""Pixels below which a line is drawn as one triangle: so small, what counts is how many there are."""


def make_line_shader(with_ids: bool) -> gpu.types.GPUShader:
    """`with_ids`: whether it must know the objects at both sides of a line. Raises ShaderError."""
    info = gpu.types.GPUShaderCreateInfo()
    info.typedef_source(VIEW)
    info.uniform_buf(0, "View", "view")
    info.sampler(0, "FLOAT_2D", "instances")
    info.sampler(1, "FLOAT_2D", "normal_depth")
    if with_ids:
        info.define("IDS")
        info.sampler(2, "FLOAT_2D", "motion_ids")
    info.push_constant("INT", "first")
    info.vertex_in(0, "VEC3", "start")
    info.vertex_in(1, "VEC3", "end")
    info.vertex_in(2, "FLOAT", "kind")
    between = gpu.types.GPUStageInterfaceInfo("paintover_lines_" + "01"[with_ids])
    between.flat("VEC4", "segment")
    between.flat("VEC2", "depths")
    between.flat("INT", "what")
    info.vertex_out(between)
    info.fragment_out(0, "FLOAT", "out_coverage")
    if hasattr(info, "depth_write"):  # 4.5 and later
        info.depth_write("ANY")
    side = f"vec2({SIDE[0]}, {SIDE[1]})"
    kinds = {"BOUNDARY": BOUNDARY, "CONTOUR": CONTOUR, "MASKED": MASKED, "HOLDOUT": HOLDOUT_LINE}
    for name, number in {**kinds, "SHORT": SHORT, "SIDE": side, "GRAZING": GRAZING}.items():
        info.define(name, str(number))
    info.vertex_source(VERTEX)
    info.fragment_source(FRAGMENT)
    return create(info)


VERTEX = """
void main()
{
    int number = first + gl_InstanceID;
    ivec2 at = ivec2((number % PER_ROW) * TEXELS, number / PER_ROW);
    vec4 x = texelFetch(instances, at, 0);
    vec4 y = texelFetch(instances, at + ivec2(1, 0), 0);
    vec4 z = texelFetch(instances, at + ivec2(2, 0), 0);
    what = int(kind) | (texelFetch(instances, at + ivec2(6, 0), 0).x < 0.0 ? HOLDOUT : 0);
    vec4 here = vec4(start, 1.0);
    vec4 there = vec4(end, 1.0);
    vec3 a = vec3(dot(x, here), dot(y, here), dot(z, here));
    vec3 b = vec3(dot(x, there), dot(y, there), dot(z, there));
    /* What part lies between near and far: 0 is a, 1 is b. */
    float low = 0.0;
    float high = 1.0;
    for (int i = 0; i < 2; i++) {
        float bound = -view.size_near_far[2 + i];
        float at_a = i == 0 ? bound - a.z : a.z - bound;
        float at_b = i == 0 ? bound - b.z : b.z - bound;
        float cut = at_a / (at_a - at_b);
        low = at_a < 0.0 ? (at_b < 0.0 ? 2.0 : max(low, cut)) : low;
        high = at_a >= 0.0 && at_b < 0.0 ? min(high, cut) : high;
    }
    vec3 p = low > 0.0 ? mix(a, b, low) : a;
    vec3 q = high < 1.0 ? mix(a, b, high) : b;
    vec4 clip_p = view.to_clip * vec4(p, 1.0);
    vec4 clip_q = view.to_clip * vec4(q, 1.0);
    vec2 size = view.size_near_far.xy;
    vec2 from = (clip_p.xy / clip_p.w * 0.5 + 0.5) * size + SIDE;
    vec2 to = (clip_q.xy / clip_q.w * 0.5 + 0.5) * size + SIDE;
    segment = vec4(from, to);
    depths = vec2(-p.z, -q.z);
    vec2 along = to - from;
    float far_apart = length(along);
    along = far_apart > 1e-6 ? along / far_apart : vec2(1.0, 0.0);
    float reach = view.line.x + 0.71;
    int corner = gl_VertexID % 4;
    vec2 across = vec2(-along.y, along.x) * reach;
    vec2 place = from - along * reach + across;
    float whole = far_apart + 2.0 * reach;
    if (whole < SHORT) {  /* one triangle around it, and one of nothing */
        place += corner >= 2 ? 2.0 * whole * along : float(corner) * -4.0 * across;
    }
    else {
        place += (corner >= 2 ? whole * along : vec2(0.0)) - float(corner % 2) * 2.0 * across;
    }
    gl_Position = low < high ? vec4(place / size * 2.0 - 1.0, 0.0, 1.0) : vec4(-2.0, -2.0, 0.0, 1.0);
}
""".replace("PER_ROW", str(INSTANCES_PER_ROW)).replace("TEXELS", str(TEXELS))

FRAGMENT = """
vec3 direction_of(vec2 at)
{
    return vec3(view.ray.xy + view.ray_x.xy * at.x + view.ray_y.xy * at.y, -1.0);
}

vec3 origin_of(vec2 at)
{
    return vec3(view.ray.zw + view.ray_x.zw * at.x + view.ray_y.zw * at.y, 0.0);
}

/* How much of a pixel lies below a line, whose distance and normal (of both components the larger first) these are:
 * that of a square seen along the line. */
float below(float t, vec2 n)
{
    float outer = 0.5 * (n.x + n.y);
    float s = min(abs(t), outer);
    float rest = outer - s;
    float tail = s > 0.5 * (n.x - n.y) ? rest * rest / (2.0 * n.x * max(n.y, 1e-4)) : 0.5 - s / n.x;
    return t > 0.0 ? 1.0 - tail : tail;
}

void main()
{
    vec2 here = gl_FragCoord.xy;
    vec2 along = segment.zw - segment.xy;
    float share = clamp(dot(here - segment.xy, along) / max(dot(along, along), 1e-12), 0.0, 1.0);
    vec2 at = segment.xy + share * along;
    float off_line = distance(here, at);
    vec2 across = off_line > 1e-3 ? abs(here - at) / off_line : abs(along.yx) / max(length(along), 1e-6);
    across = across.x < across.y ? across.yx : across;
    float coverage = below(view.line.x - off_line, across) + below(view.line.x + off_line, across) - 1.0;
    /* Depth is linear in the picture where all rays are parallel; else one over depth is. */
    float depth = view.line.y > 0.0 ? mix(depths.x, depths.y, share)
                                    : 1.0 / mix(1.0 / depths.x, 1.0 / depths.y, share);
    vec3 direction = direction_of(at);
    vec3 origin = origin_of(at);
    float pixel = length(view.ray_x.xy) * depth + length(view.ray_x.zw);
    float ahead = -100.0;   /* by how much the line is in front of the farthest surface beside it, in tolerances */
    float behind = 100.0;   /* the same of the nearest one; negative where it is behind it */
    float apart = 100.0;    /* by how much it is off the one that it lies on */
#ifdef IDS
    vec2 ids = vec2(65536.0, 0.0);
    bool unseen = false;
#endif
    ivec2 corner = ivec2(floor(at - 0.5));
    ivec2 last = ivec2(view.size_near_far.xy) - 1;
    int count = coverage > 0.0 ? 4 : 0;
    for (int i = 0; i < count; i++) {
        ivec2 pixel_at = clamp(corner + ivec2(i % 2, i / 2), ivec2(0), last);
        vec4 seen = texelFetch(normal_depth, pixel_at, 0);
#ifdef IDS
        vec2 known = texelFetch(motion_ids, pixel_at, 0).zw;
        unseen = unseen || known.x == 0.0;
        if (known.x > 0.0) {
            ids = vec2(min(ids.x, known.x), max(ids.y, known.x));
        }
        seen.w = known.y < 0.0 ? -known.y : seen.w;
#endif
        float off = 100.0;
        if (seen.w < 1e30) {
            /* The surface's plane, from the pixel's centre on to where the line is. */
            vec2 center = vec2(pixel_at) + 0.5;
            vec3 point = origin_of(center) + direction_of(center) * seen.w;
            float facing = -dot(seen.xyz, direction) / length(direction);
            float slope = facing > GRAZING ? sqrt(max(1.0 - facing * facing, 0.0)) / facing : 1.0 / GRAZING;
            float extended = facing > GRAZING ? dot(seen.xyz, point - origin) / dot(seen.xyz, direction) : seen.w;
            off = (extended - depth) / (pixel * (0.1 + 0.2 * slope) + 1e-5 * depth);
        }
        ahead = max(ahead, off);
        behind = min(behind, off);
        apart = min(apart, abs(off));
#ifndef IDS
        if ((what & (BOUNDARY | CONTOUR)) == 0 && off > -1.0 && off < 5.0) {
            break;  /* it is on what is seen, whatever the others are */
        }
#endif
    }
    coverage *= clamp(ahead + 2.0, 0.0, 1.0);
    if ((what & CONTOUR) != 0) {
        coverage *= clamp(ahead - 1.0, 0.0, 1.0);  /* where nothing is behind it, it is a bend of one surface */
    }
    float touching = clamp(3.0 - 0.4 * apart, 0.0, 1.0);  /* generous: a curved surface leaves its plane */
    if ((what & MASKED) != 0) {
        coverage *= touching;
    }
    if ((what & (BOUNDARY | CONTOUR | HOLDOUT)) == 0) {
        coverage *= max(touching, clamp(behind + 3.0, 0.0, 1.0));  /* else it is behind what ends here */
    }
#ifdef IDS
    if ((what & HOLDOUT) != 0 && (ids.y == 0.0 || !unseen)) {
        coverage = 0.0;  /* a holdout has no lines but where it cuts what is seen */
    }
    if (view.line.z > 0.0 && (what & (BOUNDARY | CONTOUR)) != 0 && ids.x >= ids.y) {
        coverage = 0.0;  /* only borders of objects are wanted */
    }
#endif
    if (coverage <= 0.0) {
        discard;
    }
    out_coverage = coverage;
    gl_FragDepth = 1.0 - coverage;  /* so that the depth test keeps the largest, and joints are not seen */
}
"""
