"""Where a job comes from, so that a later session finds its own. Labels only: nothing is ever opened by them."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BadMessage

LONGEST_LABEL = 255
"""Characters."""


@dataclass(frozen=True)
class Target:
    """An object that a texture job paints, and the UV layer that its texture is for."""

    name: str
    uv_layer: str
    made_uvs: bool = False
    """The layer was made for this job: a file that was not saved since does not have it."""


@dataclass(frozen=True)
class Origin:
    """The client, file and scene that a job comes from, and what it is for."""

    client: str = ""
    file: str = ""
    """The file's name without its folder; empty if it was never saved."""
    scene: str = ""
    place: str = ""
    """Stands for the file's folder and name, and the client, and tells neither: files of one name are told apart."""
    identity: str = ""
    """Of the scene: it stays when the file or the scene gets another name, and copies of the file have it, too."""
    camera: str = ""
    """Of an image: the camera that it is the view of."""
    lit: bool = False
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        names = (target.name for target in self.targets)
        for label in (self.client, self.file, self.scene, self.place, self.identity, self.camera, *names):
            if len(label) > LONGEST_LABEL:
                raise BadMessage(name="Origin", reason=f"a label is longer than {LONGEST_LABEL} characters")
