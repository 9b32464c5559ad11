"""`python -m freehold doctor`: what is here, which road each framework's tensors take, what is in force, and what is wrong.

Frameworks are imported only if it is told to; what can be known without is told without.
"""

import importlib
import os
import platform
import sys

from . import _freehold, _targets, ledger, policy

# The oldest releases that freehold is meant for: those that `make demo` takes.
_OLDEST = {"numpy": (2, 0), "torch": (2, 6)}
_VARIABLES = (
    "FREEHOLD_POLICY",
    "FREEHOLD_NUM_THREADS",
    "FREEHOLD_HOST_CACHE",
    "FREEHOLD_SIMD",
    "FREEHOLD_CUDA_LIBRARY",
    "FREEHOLD_CHECK_HANDLES",
)
# Where a type has its C exchange table: since DLPack 1.3, and before.
_TABLES = ("__dlpack_c_exchange_api__", "__c_dlpack_exchange_api__")
# How each framework makes the smallest tensor, for a look at its type. Paddle and Dr.Jit come before TensorFlow: Paddle 3.3
# crashes when it is imported after TensorFlow 2.21, and a process with Dr.Jit 1.5 after it aborts at its end.
_MAKE = {
    "numpy": ("numpy", lambda np: np.zeros(1, "float32")),
    "torch": ("torch", lambda torch: torch.zeros(1)),
    "jax": ("jax.numpy", lambda jnp: jnp.zeros(1)),
    "paddle": ("paddle", lambda paddle: paddle.zeros([1])),
    "drjit": ("drjit", lambda dr: importlib.import_module("drjit.scalar").ArrayXf([0.0])),
    "tensorflow": ("tensorflow", lambda tf: tf.zeros(1)),
    "mlx": ("mlx.core", lambda mx: mx.zeros(1)),
    "pyarrow": ("pyarrow", lambda pa: pa.array([0.0], pa.float32())),
    "tvm_ffi": ("tvm_ffi", lambda tvm: tvm.from_dlpack(_freehold.copy([0.0], dtype="float32"))),
    "cupy": ("cupy", lambda cupy: cupy.zeros(1)),
    "pandas": ("pandas", lambda pd: pd.Series([0.0])),
    "polars": ("polars", lambda pl: pl.Series([0.0])),
    "onnxruntime": ("onnxruntime", lambda ort: _ort_value(ort)),
}


def _ort_value(ort):
    import numpy

    return ort.OrtValue.ortvalue_from_numpy(numpy.zeros(1, "float32"))


def _numbers(version):
    """The leading numbers of a version: "2.15.0+cu132" is (2, 15, 0)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _bytes(text):
    """A size as FREEHOLD_HOST_CACHE spells it, or None."""
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    text = text.strip().lower()
    unit = units.get(text[-1:], 1)
    digits = text[:-1].strip() if unit > 1 else text
    return int(digits) * unit if digits.isdigit() else None


def _road_from(x):
    """The road that objects like this one take to us. A producer with nothing quicker makes one capsule, to see which."""
    road = _freehold._road(x)
    if not road.startswith("__dlpack__"):
        return road
    capsule = x.__dlpack__() if "without" in road else x.__dlpack__(max_version=(1, 3))
    return "versioned capsule" if '"dltensor_versioned"' in repr(capsule) else "legacy capsule"


def _look(name, found):
    """Roads of one framework as far as they can be known; the error if it cannot be imported or used."""
    module, make = _MAKE[name]
    road_to = _freehold._road_to(name) if found[name].target else None
    try:
        x = make(importlib.import_module(module))
        road_from = _road_from(x)
        if road_to == "exchange table" and not any(hasattr(type(x), name) for name in _TABLES):
            road_to = "versioned capsule"
        if found[name].target and name != "cupy":
            given = _freehold.convert(_freehold.copy([1.0], dtype="float32"), name)
            back = _freehold.copy(given, dtype="float32")
            if memoryview(back).tolist() != [1.0]:
                return road_from, road_to, f"{name} gives back another value than it got"
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises is what there is to report
        return None, road_to, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return road_from, road_to, None


def _environment(system):
    """Variables that are set, and what is wrong with them."""
    values = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    wrong = []
    simd = values.get("FREEHOLD_SIMD")
    if simd is not None and simd != system["simd"]:
        wrong.append(f"FREEHOLD_SIMD={simd} is not in force: this machine has {system['simd']}")
    threads = values.get("FREEHOLD_NUM_THREADS")
    if threads is not None and threads.strip() != str(system["threads"]):
        wrong.append(f"FREEHOLD_NUM_THREADS={threads} is not in force: a number from 1 up is")
    cache = values.get("FREEHOLD_HOST_CACHE")
    if cache is not None and _bytes(cache) is None:
        wrong.append(f"FREEHOLD_HOST_CACHE={cache} is not in force: bytes with an optional K, M or G are")
    if system["policy_error"]:
        wrong.append(f"FREEHOLD_POLICY is not in force: {system['policy_error']}")
    library = values.get("FREEHOLD_CUDA_LIBRARY")
    if library and "missing" in system["cuda"]:
        wrong.append(f"FREEHOLD_CUDA_LIBRARY={library}: {system['cuda']['missing']}")
    return values, wrong


def examine(import_them=False):
    """Everything as plain data. `findings` are (grave, text): a grave one makes the exit status 1."""
    system = _freehold._system()
    findings = []
    values, wrong = _environment(system)
    findings += [(True, text) for text in wrong]
    found = _targets.find()
    frameworks = {}
    # In the order in which they can be imported one after the other.
    for name in _MAKE:
        entry = found[name]
        row = {"version": entry.version, "installed": entry.installed, "imported": entry.imported, "target": entry.target}
        row |= {"taken_by": None, "given_by": None, "devices": list(entry.devices)}
        if entry.target:
            row["given_by"] = _freehold._road_to(name)
            row |= {key: value for key, value in _freehold._caps(name).items() if key in _CAPS}
        frameworks[name] = row
        if not entry.installed:
            continue
        oldest = _OLDEST.get(name)
        if oldest and entry.version and _numbers(entry.version) < oldest:
            wanted = ".".join(map(str, oldest))
            findings.append((True, f"{name} {entry.version} is too old: freehold is meant for {wanted} and newer"))
        if import_them or entry.imported:
            row["taken_by"], row["given_by"], error = _look(name, found)
            row["imported"] = error is None
            if error:
                findings.append((True, f"{name} cannot be used: {error}"))
            elif name == "torch" and row["taken_by"] != "exchange table":
                text = f"torch {entry.version} has no C exchange table: its tensors take the slower road through __dlpack__"
                findings.append((False, text))
    if frameworks["numpy"]["installed"] and not _targets.installed("ml_dtypes"):
        text = "ml_dtypes is not installed: bfloat16 and float8 cannot be given to numpy as what they are (pip install ml_dtypes)"
        findings.append((False, text))
    torch = sys.modules.get("torch")
    if torch is not None and frameworks["torch"]["installed"]:
        devices = system["cuda"].get("devices", [])
        if torch.cuda.is_available() != bool(devices):
            sees, has = ("sees", "none") if not devices else ("sees none", f"{len(devices)}")
            findings.append((True, f"torch {sees} of CUDA's devices, and the driver that freehold asked has {has}"))
    rules = policy()
    return {
        "freehold": _freehold.__version__,
        "library": _freehold.__file__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}",
        "system": system,
        "ledger": {"level": ledger.level, **ledger.stats()["live"]},
        "policy": {name: getattr(rules, name) for name in _RULES},
        "environment": values,
        "frameworks": frameworks,
        "findings": [{"grave": grave, "text": text} for grave, text in findings],
    }


_CAPS = ("dtypes", "strides", "read_only", "alignment", "dlpack", "max_ndim", "own_memory", "immutable", "device_kinds")
_RULES = ("readonly", "alias", "copies", "max_copy_bytes", "sync", "devices", "threads")


def _size(count):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


_ROW = "{:<12} {:<14} {:<18} {:<24} {:<7} {:<13} {:<10} {}"


def words(report):
    """The report for a person."""
    system, live = report["system"], report["ledger"]
    cuda = system["cuda"]
    number, level = system["ledger"]
    rules = ", ".join(f"{name}={value}" for name, value in report["policy"].items() if value is not None)
    devices = ["cpu"] + [f"cuda:{i} {name} ({_size(size)})" for i, (name, size) in enumerate(cuda.get("devices", []))]
    lines = [
        f"freehold {report['freehold']}, {report['python']}, {report['platform']}, DLPack "
        + ".".join(map(str, system["dlpack"])),
        f"  library      {report['library']}",
        f"  copies       {system['simd']} kernels, {system['threads']} threads at most",
        f"  host memory  {_size(system['host_in_use'])} in use, {_size(system['host_kept'])} kept for the next result,"
        f" {_size(system['host_cache'])} at most",
        f"  ledger       level {number} ({level}), {live['buffers']} buffers, {_size(live['bytes'])} live",
        f"  policy       {rules}",
        f"  devices      {', '.join(devices)}" + (f"; {cuda['missing']}" if "missing" in cuda else ""),
        "  environment  "
        + (", ".join(f"{k}={v}" for k, v in report["environment"].items()) or "no FREEHOLD_* variable is set"),
        "",
        _ROW.format("framework", "version", "tensors come by", "and go by", "dtypes", "strides", "read-only", "devices"),
    ]
    for name, row in report["frameworks"].items():
        version = (row["version"] or "?") if row["installed"] else "not installed"
        come = row["taken_by"] or ("" if not row["installed"] else "?" if row["imported"] else "(not imported)")
        takes = ("", "", "")
        if row["target"]:
            takes = (str(len(row["dtypes"])), row["strides"], "yes" if row["read_only"] else "no")
        devices = ", ".join(row["devices"])
        lines.append(_ROW.format(name, version, come, row["given_by"] or "", *takes, devices).rstrip())
    if any(row["installed"] and row["taken_by"] is None for row in report["frameworks"].values()):
        lines += ["", "The road of a framework is only known once it is imported: doctor --import"]
    lines += ["", "findings" if report["findings"] else "nothing is wrong"]
    lines += [f"  {'error' if found['grave'] else 'note'}: {found['text']}" for found in report["findings"]]
    return "\n".join(lines)


def main(import_them, as_json):
    """Prints the report; 1 if something is wrong, else 0."""
    report = examine(import_them)
    if as_json:
        import json

        print(json.dumps(report, indent=2))
    else:
        print(words(report))
    return int(any(found["grave"] for found in report["findings"]))
