"""Installs PyTorch for the CPU from PyPI into a virtual environment of its own, without gigabytes of CUDA, and prints its Python.

PyPI's torch for Linux is built for CUDA. Its CPU code is that of the CPU build, but importing it wants cuBLAS, cuDNN and others,
which never run without a GPU. The dynamic linker is content with libraries of those names that define the symbols, so such stubs
are made, next to torch's own libraries: whatever calls one of them stops at once. The second run does nothing.

    install_torch.py [FOLDER]        default: $PAGODA_CACHE/bench-venv

Who has PyTorch already names that Python as PAGODA_BENCH_PYTHON, which `make bench-train` then uses as it is.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
CHECK = "import numpy, pyarrow, torch; (torch.ones(2, 3) @ torch.ones(3, 2)).sum().item()"
CUDA_SYMBOL = re.compile(r"(cu[A-Z]|cublas|cudnn|cufft|cusolver|cusparse|nccl|nvrtc|nvshmem)\w*")


def main() -> int:
    """Installs what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description="Install PyTorch for the CPU.")
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=cache() / "bench-venv")
    folder = parser.parse_args().folder
    python, stamp = folder / "bin/python", folder / "stamp"
    wanted = f"{zlib.crc32(REQUIREMENTS.read_bytes() + pathlib.Path(__file__).read_bytes()):08x}"
    if not (stamp.is_file() and stamp.read_text() == wanted and works(python) is None):
        install(folder, python)
        fault = works(python)
        if fault:
            print(f"error: PyTorch does not run in {folder}: {fault}; name a Python that has it as PAGODA_BENCH_PYTHON", file=sys.stderr)
            return 1
        stamp.write_text(wanted)
    print(python)
    return 0


def cache() -> pathlib.Path:
    """The folder of what is downloaded and made once."""
    user = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("PAGODA_CACHE") or pathlib.Path(user) / "pagoda")


def works(python: pathlib.Path) -> str | None:
    """What is wrong with this Python's PyTorch; None if it multiplies matrices."""
    try:
        run = subprocess.run([python, "-c", CHECK], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if run.returncode == 0 else (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]


def install(folder: pathlib.Path, python: pathlib.Path) -> None:
    """Makes the environment anew."""
    print(f"installing PyTorch into {folder} (half a gigabyte to download, once)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    for libraries in folder.glob("lib/python*/site-packages/torch/lib"):
        make_stubs(libraries)


def make_stubs(folder: pathlib.Path) -> None:
    """Writes a stub of every library that is needed and not there."""
    libraries = sorted(folder.glob("*.so*"))
    needed = {name for library in libraries for name in needed_names(output("readelf", "--dynamic", library))}
    missing = sorted(name for name in needed - {library.name for library in libraries} if is_cuda(name) and not installed(folder, name))
    versioned, unversioned = collections.defaultdict(set), set()
    for library in libraries:
        files = version_files(output("readelf", "--wide", "--version-info", library))
        for symbol, version in undefined_symbols(output("nm", "--dynamic", "--undefined-only", library)):
            if version in files:
                versioned[files[version], version].add(symbol)
            elif CUDA_SYMBOL.fullmatch(symbol):
                unversioned.add(symbol)
    for number, name in enumerate(missing):
        groups = {version: symbols for (file, version), symbols in versioned.items() if file == name}
        # Nothing says whose the unversioned ones are, and the linker does not ask.
        compile_stub(folder / name, groups, unversioned if number == 0 else set())


def is_cuda(name: str) -> bool:
    """Whether a library is one of CUDA's."""
    return name.startswith(("libcu", "libnv", "libnccl")) and name != "libcuda.so.1"


def installed(folder: pathlib.Path, name: str) -> bool:
    """Whether a package brought this library."""
    return any((folder.parents[1] / "nvidia").glob(f"**/{name}"))


def needed_names(text: str) -> list[str]:
    """The libraries that a library needs, of `readelf --dynamic`."""
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text)


def version_files(text: str) -> dict[str, str]:
    """Which file a version of symbols is expected in, of `readelf --version-info`."""
    files, file = {}, ""
    for line in text.partition("Version needs section")[2].splitlines():
        if found := re.search(r"File: (\S+)", line):
            file = found[1]
        elif found := re.search(r"Name: (\S+)", line):
            files[found[1]] = file
    return files


def undefined_symbols(text: str) -> list[tuple[str, str]]:
    """Symbols and their versions, empty where they have none, of `nm --dynamic --undefined-only`."""
    return [(symbol, version) for symbol, version in re.findall(r"^\s+[Uw] ([^@\s]+)(?:@+(\S+))?$", text, re.M)]


def compile_stub(path: pathlib.Path, versions: dict[str, set[str]], unversioned: set[str]) -> None:
    """A shared library of functions that stop."""
    symbols = sorted(set().union(*versions.values(), unversioned))
    script = [f"{version} {{ global: {' '.join(f'{symbol};' for symbol in sorted(group))} }};" for version, group in versions.items()]
    with tempfile.TemporaryDirectory() as work:
        source, map_file = pathlib.Path(work, "stub.c"), pathlib.Path(work, "stub.map")
        source.write_text("".join(f"void {symbol}(void) {{ __builtin_trap(); }}\n" for symbol in symbols))
        map_file.write_text("\n".join(script))
        flags = [f"-Wl,--version-script={map_file}"] if versions else []
        subprocess.run(["cc", "-w", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{path.name}", *flags, "-o", path, source], check=True)


def output(*command: str | pathlib.Path) -> str:
    """What a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
