"""Shots: frames that hold still because it is known where every surface was. Behind the engine seam, as texturing."""
