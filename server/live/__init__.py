"""The stage: one stream of painted frames, its state, and everything that drives it or shows it."""
