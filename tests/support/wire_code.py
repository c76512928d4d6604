"""The wire's generated code, made anew from nvision.proto: `python -m tests.support.wire_code` writes it in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nvision_hub import wire

_PACKAGE = Path(wire.__file__).parent


def generated(into: Path) -> list[Path]:
    """Generate the code and its stubs in the folder `into`; the files."""
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
    for file in generated(_PACKAGE):
        print(file)
