"""The GPU side: a front that never stops answering, and a worker, which alone imports torch."""
