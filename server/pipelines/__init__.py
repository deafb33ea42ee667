"""The diffusers engine: what stands behind the seam in server/engine.py. Here (and in texturing) torch is at home."""
