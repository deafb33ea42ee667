"""From painted views to textures: UV raster, projection, bake, fill, and the order of views. No Blender, no diffusion."""
