"""From painted views to textures: UV raster, projection, bake and fill, and the texture job."""
