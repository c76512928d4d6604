"""One package per kind of process. A package may import lower layers of `nvision_hub`, but no other worker."""
