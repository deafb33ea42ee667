"""The diffusers engine: what stands behind the seam in server/engine.py. Here (and in texturing) torch is at home."""

import os

# By default torch's OpenMP threads spin while they wait for each other. On a machine that is busy with something
# else (Blender, say) that makes painting on the CPU ten times slower. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
