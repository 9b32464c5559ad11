"""Compiles the kernels with NVRTC, found in the wheel nvidia-cuda-nvrtc-cu12 of the running interpreter.

    python compile.py OUT_DIR [ARCH]      # PTX of every module; ARCH is 75 unless said otherwise

The wheel's version decides the PTX, and with it the oldest driver that takes it: 12.0.140 writes PTX 8.0 (R525 and newer).
"""

import ctypes
import importlib.util
import pathlib
import sys

MODULES = ("contiguous", "fill", "strided", "turn")
HEADERS = ("cast.cuh", "walk.cuh")


def library():
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    if spec is None:
        sys.exit("nvidia-cuda-nvrtc-cu12 is not installed here")
    return ctypes.CDLL(str(pathlib.Path(spec.submodule_search_locations[0]) / "lib" / "libnvrtc.so.12"))


def check(nvrtc, status, program=None):
    if status == 0:
        return
    if program is not None:
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        print(log.value.decode(), file=sys.stderr)
    sys.exit(f"nvrtc failed: {status}")


def compile_module(nvrtc, folder, name, arch):
    source = (folder / f"{name}.cu").read_bytes()
    texts = [(folder / header).read_bytes() for header in HEADERS]
    headers = (ctypes.c_char_p * len(texts))(*texts)
    names = (ctypes.c_char_p * len(texts))(*(header.encode() for header in HEADERS))
    program = ctypes.c_void_p()
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, f"{name}.cu".encode(), len(texts), headers, names))
    options = [f"--gpu-architecture=compute_{arch}".encode(), b"--std=c++17", b"-default-device"]
    check(nvrtc, nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)), program)
    size = ctypes.c_size_t()
    check(nvrtc, nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    check(nvrtc, nvrtc.nvrtcGetPTX(program, ptx))
    return ptx.value


def main():
    out = pathlib.Path(sys.argv[1])
    arch = sys.argv[2] if len(sys.argv) > 2 else "75"
    out.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(__file__).resolve().parent
    nvrtc = library()
    for name in MODULES:
        (out / f"{name}.ptx").write_bytes(compile_module(nvrtc, folder, name, arch))


main()
