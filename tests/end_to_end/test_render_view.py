"""The straight line, once through: real Blender, real passes, a real socket, a server process, an image back."""

from __future__ import annotations

import numpy as np

from ..server_process import ServerProcess
from .conftest import Blender


def test_render_view(blender: Blender, fake_server: ServerProcess) -> None:
    told = blender.run(
        """
        import numpy as np
        install(); cube(); camera()
        scene = bpy.context.scene
        scene.render.resolution_x, scene.render.resolution_y = 400, 300
        scene.paintover.prompt, scene.paintover.seed = "old brick", 3
        tell(connected=list(bpy.ops.paintover.connect()))
        scene.paintover.steps, scene.paintover.size = 3, 128
        before = {key: str(getattr(scene.render, key)) for key in ("engine", "resolution_x", "use_border")}
        tell(painted=list(bpy.ops.paintover.render_view()))
        image = bpy.data.images["Paintover Camera"]
        pixels = np.empty(image.size[0] * image.size[1] * 4, np.float32)
        image.pixels.foreach_get(pixels)
        np.save("image.npy", pixels.reshape(image.size[1], image.size[0], 4)[::-1])
        tell(packed=bool(image.packed_file), request=json.loads(image["paintover_request"]),
             kept=before == {key: str(getattr(scene.render, key)) for key in before})
        """,
        port=fake_server.port,
    )
    assert told["connected"] == told["painted"] == ["FINISHED"]
    assert told["packed"]
    assert told["kept"]
    assert (told["request"]["prompt"], told["request"]["seed"]) == ("old brick", 3)
    image = np.load(blender.folder / "image.npy")
    assert image.shape == (96, 128, 4)
    # The fake engine shades by the normals that it got: the cube's front faces the camera, the rest is background.
    front, background = image[48, 64, :3], image[4, 4, :3]
    assert front.min() > 0.35
    np.testing.assert_allclose(background, front * 0.4, atol=0.02)
    rows = np.flatnonzero(image[:, 64, 0] > front[0] * 0.9)
    # A 2 m cube 5 m away from a 50 mm lens on a 36 mm sensor, 128 pixels wide: 2 / 5 * 50 / 36 * 128 pixels.
    assert abs(len(rows) - 2 / 5 * 50 / 36 * 128) <= 2
