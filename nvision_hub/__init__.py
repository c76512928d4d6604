"""nvision-hub sends camera frames to the Nvision vision service and publishes the results to Redis."""

import os
from importlib.metadata import PackageNotFoundError, version

# OpenBLAS reads this variable when NumPy is imported. By default, each process would start an unused thread pool.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

try:
    __version__ = version("nvision-hub")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+source"
