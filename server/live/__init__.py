"""The stage beside the jobs: one stream of frames, what steers it, and where it goes."""
