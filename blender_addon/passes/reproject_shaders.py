"""The shaders that bring a painted frame to another view: every surface looks itself up where it was painted.

Painted outlines mix two surfaces. So paint is not taken from nearer a silhouette than where it goes to (outlines would
stay behind as ghosts): the first pass notes how near a silhouette its paint may go, the second, which knows what is
around a pixel, asks whether there is one, and fills the pixel where there is none.
"""

from __future__ import annotations

import gpu

from .shaders import MASK, create, geometry_shader


def make_surface_shader(deforming: bool, masked: bool, atlas: bool = False) -> gpu.types.GPUShader:
    """Geometry, coloured by the picture; as an atlas, where its UVs are. Raises ShaderError, as all here."""
    info = geometry_shader(
        {"PAINTED": True, "UV": atlas, "ATLAS": atlas, "DEFORMING": deforming, "MASKED": masked}
    )
    info.sampler(2, "FLOAT_2D", "picture")
    info.sampler(3, "FLOAT_2D", "painted")
    info.fragment_out(0, "VEC4", "out_paint")
    info.fragment_out(1, "VEC4", "out_surface")
    if not atlas:
        info.fragment_out(2, "VEC4", "out_level")
    info.fragment_source(LOOK_UP + MASK + SURFACE)
    return create(info)


def make_background_shader() -> gpu.types.GPUShader:
    """What is behind all geometry, coloured by the picture's background."""
    info = gpu.types.GPUShaderCreateInfo()
    info.sampler(2, "FLOAT_2D", "picture")
    info.sampler(3, "FLOAT_2D", "painted")
    for name in ("row_x", "row_y", "row_w"):
        info.push_constant("VEC3", name)
    info.vertex_in(0, "VEC2", "place")
    between = gpu.types.GPUStageInterfaceInfo("paintover_background")
    between.smooth("VEC3", "was")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "out_paint")
    info.fragment_out(1, "VEC4", "out_surface")
    info.fragment_out(2, "VEC4", "out_level")
    info.vertex_source(BACKGROUND_VERTEX)
    info.fragment_source(LOOK_UP + BACKGROUND)
    return create(info)


def make_fill_shader() -> gpu.types.GPUShader:
    """The picture of the two above with its holes filled, into a rectangle of whatever is bound."""
    info = gpu.types.GPUShaderCreateInfo()
    info.sampler(0, "FLOAT_2D", "paint")
    info.sampler(1, "FLOAT_2D", "surface")
    info.sampler(2, "FLOAT_2D", "level")
    info.push_constant("VEC4", "rectangle")
    info.push_constant("INT", "fill")
    info.push_constant("INT", "linear")
    info.vertex_in(0, "VEC2", "place")
    between = gpu.types.GPUStageInterfaceInfo("paintover_fill")
    between.smooth("VEC2", "at")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "color")
    info.vertex_source(FILL_VERTEX)
    info.fragment_source(FILL)
    return create(info)


# `at` is a place in the picture in pixels, `value` what is even along planes there: 1/depth in perspective, depth
# without. Only those of the four texels around it count that show the same surface: nothing bleeds over an outline.
# Returns the colour, and within how many pixels of this view there must be a silhouette: ANYWHERE where it was painted
# far from any, 0 where there is no paint. `scale`: pixels of the picture for one of this view, in the mean of all
# directions.
LOOK_UP = """
const float REACH = 4.0, SLACK = 0.75, ANYWHERE = 100.0;
const float DIAGONAL = 1.1;  /* distances to silhouettes are counted along rows and columns */

vec4 look_up(vec2 at, float id, float value, vec2 slope, bool parallel, float scale)
{
    ivec2 size = textureSize(picture, 0);
    if (any(lessThan(at, vec2(0.0))) || any(greaterThan(at, vec2(size)))) {
        return vec4(0.0);
    }
    vec2 corner = floor(at - 0.5);
    vec2 share = at - 0.5 - corner;
    float tolerance = 0.005 * abs(value) + 0.5 * length(slope);
    vec4 sum = vec4(0.0);
    float from_edge = 0.0, nearest = REACH;
    for (int i = 0; i < 4; i++) {
        vec2 step = vec2(i & 1, i >> 1);
        ivec2 texel = clamp(ivec2(corner + step), ivec2(0), size - 1);
        vec3 known_there = texelFetch(painted, texel, 0).xyz;
        float there = parallel ? known_there.x : 1.0 / known_there.x;
        float here = value + dot(slope, vec2(texel) + 0.5 - at);
        if (known_there.y == id && (id == 0.0 || abs(there - here) <= tolerance)) {
            vec2 weight = mix(1.0 - share, share, step);
            sum += weight.x * weight.y * vec4(texelFetch(picture, texel, 0).rgb, 1.0);
            from_edge += weight.x * weight.y * known_there.z;
            nearest = weight.x * weight.y > 0.01 ? min(nearest, known_there.z) : nearest;
        }
    }
    if (sum.a <= 0.05) {
        return vec4(0.0);
    }
    float reach = (DIAGONAL * from_edge / sum.a + SLACK) / clamp(scale, 0.25, 4.0);
    return vec4(sum.rgb / sum.a, nearest < REACH ? reach : ANYWHERE);
}
"""

SURFACE = """
void main()
{
    vec2 at = (then.xy / then.z + 1.0) * cameras.half_size_far.xy;
    bool parallel = cameras.half_size_far.w != 0.0;
    float value = parallel ? depth_before : 1.0 / then.z;
    /* How `value` changes from pixel to pixel of the picture, from how both change from pixel to pixel here. */
    vec2 at_x = dFdx(at), at_y = dFdy(at);
    float value_x = dFdx(value), value_y = dFdy(value);
    float area = at_x.x * at_y.y - at_x.y * at_y.x;
    vec2 slope = vec2(value_x * at_y.y - value_y * at_x.y, value_y * at_x.x - value_x * at_y.x);
    slope = abs(area) > 1e-6 ? slope / area : vec2(0.0);

    out_paint = vec4(0.0);
    out_surface = vec4(0.0);
#ifdef ATLAS
    if (is_hidden(true)) {
        discard;
    }
    out_paint = then.z > 0.0 && known.x > 0.0 ? look_up(at, known.x, value, slope, parallel, 1.0) : vec4(0.0);
    out_surface = vec4(1.0, 0.0, float(culled), material);  /* named, so that no driver leaves them out */
#ifdef OWN_DEPTH
    /* Of faces that share a place the one that is painted shows. */
    gl_FragDepth = out_paint.a > 0.0 ? 0.25 : 0.75;
#endif
#else
    bool front = gl_FrontFacing != (known.y > 0.0);
    if (is_hidden(front)) {
        discard;
    }
#ifdef OWN_DEPTH
    gl_FragDepth = -seen.z / cameras.half_size_far.z;
#endif
    out_level = vec4(0.0);
    if (known.x < 0.0) {  /* a holdout: background, as it was painted */
        return;
    }
    if (then.z > 0.0) {
        out_paint = look_up(at, known.x, value, slope, parallel, sqrt(abs(area)));
    }
    /* Even along planes in this view, and how it changes from pixel to pixel. Clip w is 1 where rays are parallel. */
    float level = now.z == 1.0 ? -seen.z : 1.0 / now.z;
    out_level = vec4(level, dFdx(level), dFdy(level), 1.0);
    vec3 n = length(normal) > 0.0 ? normalize(normal) : vec3(0.0, 0.0, 1.0);
    out_surface = vec4(front ? n : -n, known.x + fract(material / 512.0));  /* exact in 24 bits */
#endif
}
"""

BACKGROUND_VERTEX = """
void main()
{
    vec3 here = vec3(place, 1.0);
    was = vec3(dot(row_x, here), dot(row_y, here), dot(row_w, here));
    gl_Position = vec4(place, 0.0, 1.0);
}
"""

BACKGROUND = """
void main()
{
    out_surface = vec4(0.0);
    out_level = vec4(0.0);
    out_paint = vec4(0.0);
    vec2 at = (was.xy / was.z + 1.0) * 0.5 * vec2(textureSize(picture, 0));
    vec2 at_x = dFdx(at), at_y = dFdy(at);
    float scale = sqrt(abs(at_x.x * at_y.y - at_x.y * at_y.x));
    if (was.z > 0.0) {
        out_paint = look_up(at, 0.0, 1.0, vec2(0.0), false, scale);
    }
}
"""

FILL_VERTEX = """
void main()
{
    at = mix(rectangle.xy, rectangle.zw, place);
    gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0);
}
"""

# Rings of taps, each four times as wide as the one before, until enough of the same surface is found. The mean of
# what is around errs less than the nearest pixel, which makes streaks.
FILL = """
const float GOLDEN = 2.399963, ANYWHERE = 100.0, OUTLINE = 0.0001;

/* Whether another surface, or the same one beyond a jump, is seen within so many pixels. */
bool near_silhouette(ivec2 texel, float reach)
{
    ivec2 size = textureSize(paint, 0);
    float id = floor(texelFetch(surface, texel, 0).w);
    vec3 mine = texelFetch(level, texel, 0).xyz;
    int steps = int(clamp(ceil(reach), 1.0, 5.0));
    for (int i = 0; i < 8 * steps + 8; i++) {
        /* First the widest ring, which a long silhouette crosses wherever it is; then those within it. */
        bool widest = i < 16;
        float radius = widest ? reach : reach * float(i / 8 - 1) / float(steps);
        float angle = widest ? 0.392699 * float(i) : 0.785398 * float(i % 8);
        ivec2 off = ivec2(round(max(radius, 1.0) * vec2(cos(angle), sin(angle))));
        ivec2 tap = clamp(texel + off, ivec2(0), size - 1);
        off = tap - texel;
        if (floor(texelFetch(surface, tap, 0).w) != id) {
            return true;
        }
        float expected = mine.x + dot(mine.yz, vec2(off));
        float allowed = 0.01 * abs(mine.x) + 0.5 * length(mine.yz) * length(vec2(off));
        if (abs(texelFetch(level, tap, 0).x - expected) > allowed) {
            return true;
        }
    }
    return false;
}

/* Whether what was painted here belongs here. */
bool belongs(ivec2 texel)
{
    float reach = texelFetch(paint, texel, 0).a;
    return reach >= ANYWHERE || (reach > 0.0 && near_silhouette(texel, reach));
}

/* Whether most of the pixels around say so of themselves: single ones err. */
bool belongs_by_majority(ivec2 texel)
{
    ivec2 last = textureSize(paint, 0) - 1;
    int belonging = 0;
    for (int i = 0; i < 9; i++) {
        ivec2 tap = texel + ivec2(i % 3, i / 3) - 1;
        belonging += i != 4 && belongs(clamp(tap, ivec2(0), last)) ? 1 : 0;
    }
    return belonging > 4;
}

vec4 filled()
{
    ivec2 size = textureSize(paint, 0);
    vec2 place = vec2(at.x, 1.0 - at.y) * vec2(size);
    ivec2 texel = clamp(ivec2(place), ivec2(0), size - 1);
    vec4 here = texelFetch(paint, texel, 0);
    if (belongs(texel) || (here.a > 0.0 && belongs_by_majority(texel))) {
        return vec4(here.rgb, 1.0);
    }
    if (fill == 0) {
        return vec4(0.0);
    }
    vec4 mine = texelFetch(surface, texel, 0);
    vec4 same = vec4(0.0), other = vec4(0.0);
    float reach = float(max(size.x, size.y));
    float inner = 1.0;
    for (int ring = 0; ring < 6 && inner < reach; ring++) {
        for (int i = 0; i < 32; i++) {
            float radius = inner * pow(4.0, (float(i) + 0.5) / 32.0);
            float angle = GOLDEN * float(i) + float(ring);
            ivec2 tap = texel + ivec2(round(radius * vec2(cos(angle), sin(angle))));
            if (any(lessThan(tap, ivec2(0))) || any(greaterThanEqual(tap, size))) {
                continue;
            }
            vec4 found = texelFetch(paint, tap, 0);
            if (found.a == 0.0) {
                continue;
            }
            vec4 theirs = texelFetch(surface, tap, 0);
            /* What was painted at an outline counts for want of better. */
            float weight = (found.a >= ANYWHERE ? 1.0 : OUTLINE) / (radius * radius);
            found.a = 1.0;
            if (theirs.w == mine.w) {
                float facing = max(0.0, dot(theirs.xyz, mine.xyz));
                same += weight * (mine.w == 0.0 ? 1.0 : 0.02 + facing * facing * facing) * found;
            }
            else {
                other += weight * found;
            }
        }
        inner *= 4.0;
        if (same.a * inner * inner > 40.0) {
            break;
        }
    }
    vec4 sum = same.a > 0.0 ? same : other;
    return sum.a > 0.0 ? vec4(sum.rgb / sum.a, 1.0) : vec4(0.0);
}

void main()
{
    color = filled();
    if (linear != 0) {  /* IEC 61966-2-1 */
        color.rgb = mix(color.rgb / 12.92, pow((color.rgb + 0.055) / 1.055, vec3(2.4)), step(0.04045, color.rgb));
    }
}
"""
