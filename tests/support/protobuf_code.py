"""Generator of nvision_pb2.py and its stubs from nvision.proto: `python -m tests.support.protobuf_code`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nvision_hub import nvision

_PACKAGE = Path(nvision.__file__).parent


def generate(into: Path) -> list[Path]:
    """Generate code and stubs in the folder `into`. Return the paths of the generated files."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={_PACKAGE}",
            f"--python_out={into}",
            f"--pyi_out={into}",
            "nvision.proto",
        ],
        check=True,
    )
    return [into / "nvision_pb2.py", into / "nvision_pb2.pyi"]


if __name__ == "__main__":
    for file in generate(_PACKAGE):
        print(file)
