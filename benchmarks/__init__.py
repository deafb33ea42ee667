"""One script a claim. Run as `python -m benchmarks.NAME`; the last line of the output is one JSON object."""
