"""One package per kind of process. A worker may import lower layers of `nvision_hub`, but not other workers."""
