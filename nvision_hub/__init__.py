"""nvision-hub: one process per camera, streaming to the Nvision vision service; results through Redis."""

import os
from importlib.metadata import PackageNotFoundError, version

# Here, because it must be set before numpy is loaded, by whatever: a pool of BLAS threads per camera serves nobody.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

try:
    __version__ = version("nvision-hub")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
