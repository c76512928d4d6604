"""nvision-hub: one process per camera, streaming to the Nvision vision service; results through Redis."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("nvision-hub")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+source"
