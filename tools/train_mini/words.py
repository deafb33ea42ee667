"""The words that mini knows, and captions made of them for what a picture is known to show."""

from dataclasses import dataclass

import numpy as np

from .materials import MATERIALS
from .scenes import BACKGROUNDS, Content

# How each material may be called; its own name is always among them. Colours also come as paint, plastic, …
SYNONYMS: dict[str, tuple[str, ...]] = {
    "gray": ("gray", "grey"),
    "cyan": ("cyan", "turquoise", "teal"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "brown": ("brown", "chocolate"),
    "red": ("red", "crimson"),
    "brick": ("brick", "red brick", "bricks", "brickwork", "brick wall", "old red brick"),
    "wood": ("wood", "wooden", "timber", "oak", "brown wood", "wooden planks", "wood grain"),
    "stone": ("stone", "cobblestone", "rock", "stones", "gray stone", "rocky", "cobbled stone", "granite"),
    "marble": ("marble", "white marble", "veined marble"),
    "gold": ("gold", "golden", "shiny gold", "gold metal"),
    "silver": ("silver", "chrome", "steel", "metal", "metallic", "iron", "shiny silver", "aluminium"),
    "copper": ("copper", "bronze", "brass", "copper metal"),
    "moss": ("moss", "mossy", "mossy stone", "mossy rock", "moss covered", "green moss", "lichen"),
    "grass": ("grass", "grassy", "green grass", "lawn", "meadow", "fur", "hedge"),
    "lava": ("lava", "magma", "molten lava", "molten rock", "glowing lava", "volcanic", "fire"),
    "ice": ("ice", "icy", "frozen", "blue ice", "frozen ice", "crystal", "glass"),
    "checkered": ("checkered", "checkerboard", "chequered", "checker", "tiles", "tiled"),
    "sand": ("sand", "sandy", "sandstone", "desert sand", "dune", "clay"),
    "water": ("water", "watery", "blue water", "ocean", "sea", "pool water"),
    "snow": ("snow", "snowy", "white snow", "snow covered"),
    "rust": ("rust", "rusty", "rusted", "rusty metal", "rusty iron", "corroded metal"),
    "striped": ("striped", "stripes", "red stripes", "candy striped", "red and white stripes"),
    "bark": ("bark", "tree bark", "brown bark", "bark covered", "trunk"),
}


def _list(text: str) -> tuple[str, ...]:
    """The comma-separated words or phrases of a text."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


PAINTS = _list("paint, painted, plastic, rubber, colored, bright, ceramic")
PLAIN_NOUNS = _list("object, shape, thing")
NOUNS = _list("""
    house, statue, table, tower, castle, wall, cottage, temple, car, robot, monkey, head, chair,
    building, tree, dragon, vase, ring, ball, box, column, pyramid, donut, pot, cup, lamp, machine,
    spaceship, city, street, mountain, island, bridge, face, mask, sculpture, monument, door, roof,
    barrel, crate, bottle, teapot, bunny, cat, dog, horse, bird, mushroom, toy, figure, room, bench,
    boat, ship, train, truck, gate, well, ruin, arch, block, pillar, suzanne, cubes, spheres, objects,
    shapes, buildings, houses, rocks
""")
PLACES = _list("floor, ground, table, surface, field, plane")
ADJECTIVES = _list("""
    old, weathered, ancient, beautiful, big, small, rough, smooth, shiny, worn, cracked, polished,
    little, large, tall, round, medieval, modern, fantasy, simple, dirty, clean, dark, soft, fine, cute,
    abandoned, stylized, antique, giant, tiny, natural, solid
""")
PREFIXES = _list("""
    a photo of, a picture of, a render of, an image of, a painting of, a close up of, photo of, a 3d
    render of, a drawing of, concept art of, a view of
""")
SUFFIXES = _list("""
    detailed, highly detailed, realistic, photorealistic, weathered, old, 4k, 8k, texture, seamless
    texture, studio lighting, soft light, sharp focus, best quality, high quality, masterpiece,
    cinematic, stylized, hand painted, photo, render, 3d, octane render, digital art, daylight,
    sunlight, in the sun, at noon, close up, beautiful, intricate, professional, hd
""")
# Words that should mean nothing in particular, so that common prompts do not fall apart into letters.
GLUE = _list("""
    a, an, the, and, of, on, in, at, to, with, made, by, is, its, very, full, covered, background, blue,
    everything, style, from, for, blurry, low, bad, ugly, wrong, no, not, worst, quality, noise, text,
    watermark, scene, material
""")


@dataclass(frozen=True)
class Caption:
    """A caption, and what it says: material numbers and a background's index, -1 where it says nothing."""

    text: str
    material: int = -1
    second: int = -1
    floor: int = -1
    background: int = -1


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def call(material: int, rng: np.random.Generator, rich: bool) -> str:
    """A name for the material; its plainest one half of the time, or always unless rich."""
    name = MATERIALS[material]
    if not rich or rng.random() < 0.5:
        return name
    if material < 12 and rng.random() < 0.35:
        paint = _pick(rng, PAINTS)
        return f"{paint} {name}" if paint in ("painted", "colored", "bright") else f"{name} {paint}"
    return _pick(rng, SYNONYMS.get(name, (name,)))


def _article(words: str, rng: np.random.Generator, rich: bool) -> str:
    if rich and rng.random() < 0.25:
        return words
    if rich and rng.random() < 0.1:
        return f"the {words}"
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _thing(material: int, shape: str, rng: np.random.Generator, rich: bool) -> str:
    """A noun phrase for something made of the material."""
    name = call(material, rng, rich)
    noun = shape or _pick(rng, PLAIN_NOUNS)
    if rich and rng.random() < 0.6:
        noun = _pick(rng, NOUNS)
    way = rng.random()
    if way < 0.2:
        return name
    if way < 0.3:
        return f"{_article(noun, rng, rich)} made of {name}"
    adjective = f"{_pick(rng, ADJECTIVES)} " if rich and rng.random() < 0.3 else ""
    return _article(f"{adjective}{name} {noun}", rng, rich)


def caption(content: Content, rng: np.random.Generator, rich: bool) -> Caption:
    """Describe a picture. Not rich: its plain words; rich: also synonyms, other nouns, and filler words."""
    if rich and rng.random() < 0.03:  # a caption may say nothing about materials
        return Caption(", ".join([_article(_pick(rng, NOUNS), rng, True), _pick(rng, SUFFIXES)]))
    shape = content.shape if content.second >= 0 or content.count == 1 else ""
    text = _thing(content.material, shape, rng, rich)
    if content.second >= 0:
        text += f" and {_thing(content.second, content.second_shape, rng, rich)}"
    floor = background = -1
    if content.floor >= 0 and rng.random() < 0.85:
        floor = content.floor
        name = call(floor, rng, rich)
        place = _pick(rng, PLACES) if rich else "floor"
        text += f" on {name}" if rng.random() < 0.2 else f" on a {name} {place}"
    if rng.random() < 0.6:
        background = list(BACKGROUNDS).index(content.background)
        text += ", blue sky" if content.background == "sky" else f", {content.background} background"
    if rich and rng.random() < 0.25:
        text = f"{_pick(rng, PREFIXES)} {text}"
    while rich and rng.random() < 0.35:
        text += f", {_pick(rng, SUFFIXES)}"
    return Caption(text, content.material, content.second, floor, background)


def known_words() -> list[str]:
    """Every word that can come up in a caption, and the glue, in alphabetical order."""
    from .shapes import SHAPES

    phrases = [
        *MATERIALS,
        *PAINTS,
        *PLAIN_NOUNS,
        *NOUNS,
        *PLACES,
        *ADJECTIVES,
        *PREFIXES,
        *SUFFIXES,
        *GLUE,
        *SHAPES,
        *BACKGROUNDS,
        *(name for names in SYNONYMS.values() for name in names),
    ]
    return sorted({word for phrase in phrases for word in phrase.split()})


def vocabulary_page() -> str:
    """The page about the words, for people (Markdown)."""
    lines = [
        "# The words that mini knows",
        "",
        "mini paints these materials. Any of a row's words will do; other words change little.",
        "",
        "| material | also |",
        "|---|---|",
    ]
    lines += [f"| {m} | {', '.join(w for w in SYNONYMS.get(m, ()) if w != m)} |" for m in MATERIALS]
    lines += [
        "",
        f'Backgrounds: {", ".join(BACKGROUNDS)} ("white background", "blue sky").',
        'On the floor: "… on a wood floor". Two materials: "a gold sphere and a brick cube".',
        "",
        f"Words it has seen but which change nothing: {', '.join(sorted((*NOUNS, *ADJECTIVES)))}.",
        "",
    ]
    return "\n".join(lines)
