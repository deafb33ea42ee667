"""The GPU side: a front that never stops answering, and a worker that owns torch. torch is imported only in the worker."""
