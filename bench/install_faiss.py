"""Installs Faiss from PyPI into a virtual environment of its own, and prints its Python. The second run does nothing.

    install_faiss.py [FOLDER]        default: $PAGODA_CACHE/bench-index-venv

Who has faiss and numpy already names that Python as PAGODA_BENCH_PYTHON, which `make bench-index` then uses as it is.
"""

import argparse
import pathlib
import subprocess
import sys
import zlib

from install_torch import cache

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements-index.txt"


def main() -> int:
    """Installs what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description="Install Faiss for Python.")
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=cache() / "bench-index-venv")
    folder = parser.parse_args().folder
    python, stamp = folder / "bin/python", folder / "stamp"
    wanted = f"{zlib.crc32(REQUIREMENTS.read_bytes()):08x}"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"installing Faiss into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
