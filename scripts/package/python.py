"""What the Python package has beside what maturin puts there: headers, CMake files, and a library that C++ can link.

    python scripts/package/python.py files            # headers and CMake files, into the package's folder
    python scripts/package/python.py finish FILE...   # a wheel, or an extension module where it lies

The extension holds the one runtime of a process, and exports the C interface. A program without Python can load it only
if its references to Python need not be resolved, and no linker can be asked for that: so `finish` makes them weak. In a
Python process they are found as before. A second library for such programs would double the package's size.
"""

import base64
import hashlib
import shutil
import struct
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "crates" / "freehold-python" / "python" / "freehold"
TEMPLATES = {
    "freehold-wheel-config.cmake.in": "freehold-config.cmake",
    "freehold-config-version.cmake.in": "freehold-config-version.cmake",
}


def version() -> str:
    lines = (ROOT / "Cargo.toml").read_text(encoding="utf-8").splitlines()
    start = lines.index("[workspace.package]")
    return next(line for line in lines[start:] if line.startswith("version")).split('"')[1]


def library() -> str:
    """The extension's file name, which is its SONAME too."""
    return "_freehold" + sysconfig.get_config_var("EXT_SUFFIX")


def files() -> None:
    headers, cmake = PACKAGE / "include" / "freehold", PACKAGE / "cmake"
    for folder in (headers, cmake):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for header in (ROOT / "include" / "freehold").iterdir():
        shutil.copyfile(header, headers / header.name)
    for template, name in TEMPLATES.items():
        text = (ROOT / "scripts" / "package" / template).read_text(encoding="utf-8")
        (cmake / name).write_text(text.replace("@VERSION@", version()).replace("@LIBRARY@", library()), encoding="utf-8")


# Of the ELF format: the type of a section of dynamic symbols, and how a symbol is bound.
DYNSYM, GLOBAL, WEAK = 11, 1, 2


def weakened(elf: bytes) -> bytes:
    """The library with weak references to Python; anything but a 64-bit little-endian ELF file as it is."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return elf
    data = bytearray(elf)
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    for section in (section for section in sections if section[1] == DYNSYM):
        names = sections[section[6]][4]
        for entry in range(section[4], section[4] + section[5], section[9]):
            name, info, _, defined_in = struct.unpack_from("<IBBH", data, entry)
            start = names + name
            text = data[start : data.index(0, start)]
            if defined_in == 0 and info >> 4 == GLOBAL and text.startswith((b"Py", b"_Py")):
                data[entry + 4] = WEAK << 4 | info & 15
    return bytes(data)


def finish_wheel(path: Path) -> None:
    """Rewrites a wheel with its extension weakened, and the checksum that its list of files has of it."""
    with zipfile.ZipFile(path) as wheel:
        entries = [(info, wheel.read(info)) for info in wheel.infolist()]
    sums = {}
    for i, (info, data) in enumerate(entries):
        if Path(info.filename).name.startswith("_freehold.") and info.filename.endswith(".so"):
            data = weakened(data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            sums[info.filename] = f"{info.filename},sha256={digest},{len(data)}"
            entries[i] = (info, data)
    with zipfile.ZipFile(path, "w") as wheel:
        for info, data in entries:
            if info.filename.endswith(".dist-info/RECORD"):
                lines = data.decode().splitlines()
                data = "\n".join([sums.get(line.split(",")[0], line) for line in lines] + [""]).encode()
            wheel.writestr(info, data, zipfile.ZIP_DEFLATED)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["files"]:
            files()
        case ["library"]:
            print(library())
        case ["finish", *paths] if paths:
            for path in map(Path, paths):
                if path.suffix == ".whl":
                    finish_wheel(path)
                else:
                    # Not written in place: a process that has it loaded reads the old file to its end.
                    new = path.with_suffix(".new")
                    new.write_bytes(weakened(path.read_bytes()))
                    new.chmod(path.stat().st_mode)
                    new.replace(path)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
