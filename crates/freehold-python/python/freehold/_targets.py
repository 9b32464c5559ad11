"""What is installed, and what each side takes. Nothing is imported to find out."""

import importlib.metadata
import importlib.util
import sys
from typing import NamedTuple, Optional

from . import _freehold

# Frameworks that only give: tensors are taken from them by protocol. What is handed over to, the native half knows.
_SOURCES = ("pandas", "polars", "onnxruntime", "drjit")
# The distributions that have a framework under another name, where one of several may be installed.
_DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "cupy": ("cupy", "cupy-cuda12x", "cupy-cuda13x"),
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "tvm_ffi": ("apache-tvm-ffi",),
}


class Target(NamedTuple):
    """A framework: whether it is here, and what it takes."""

    name: str
    installed: bool
    version: Optional[str]
    imported: bool
    target: bool
    dtypes: tuple[str, ...] = ()
    strides: Optional[str] = None
    read_only: Optional[bool] = None
    default_dtype: Optional[str] = None
    devices: tuple[str, ...] = ()


def installed(name: str) -> bool:
    """Whether a module is imported or could be."""
    if sys.modules.get(name) is not None:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _find(name: str) -> tuple[bool, Optional[str], bool]:
    here = installed(name)
    version = getattr(sys.modules.get(name), "__version__", None)
    for distribution in _DISTRIBUTIONS.get(name, (name,)) if here and version is None else ():
        try:
            version = importlib.metadata.version(distribution)
            break
        except importlib.metadata.PackageNotFoundError:
            pass
    return here, version, sys.modules.get(name) is not None


def _devices(name: str) -> tuple[str, ...]:
    # A framework may lack a device that is here, so it is asked itself, once somebody imported it.
    module = sys.modules.get(name)
    count = 0
    if name == "torch" and module is not None and module.cuda.is_available():
        count = module.cuda.device_count()
    elif name == "cupy" and module is not None:
        try:
            count = module.cuda.runtime.getDeviceCount()
        except Exception:  # noqa: BLE001: CuPy has its own error where there is no driver
            count = 0
    host = () if name == "cupy" else ("cpu",)
    return (*host, *(f"cuda:{i}" for i in range(count)))


class Targets(dict[str, Target]):
    """A dict of Target by name, that prints as a table."""

    def __repr__(self) -> str:
        lines = [f"{'framework':<12} {'version':<18} {'take from':<10} {'give to':<8} {'default':<8} devices"]
        for entry in self.values():
            version = entry.version or ("?" if entry.installed else "not installed")
            default = entry.default_dtype or ""
            give = "yes" if entry.target else ""
            take = "yes" if entry.installed else ""
            devices = ", ".join(entry.devices)
            lines.append(f"{entry.name:<12} {version:<18} {take:<10} {give:<8} {default:<8} {devices}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from . import _html

        return _html.targets(self)


def find() -> Targets:
    """The answer of `fh.targets()`."""
    found = Targets()
    for name in _freehold._target_names():
        here, version, imported = _find(name)
        caps = _freehold._caps(name, extended="ml_dtypes" in sys.modules)
        found[name] = Target(
            name,
            here,
            version,
            imported,
            True,
            tuple(caps["dtypes"]),
            caps["strides"],
            caps["read_only"],
            caps["default_dtype"],
            _devices(name) if here else (),
        )
    for name in _SOURCES:
        found[name] = Target(name, *_find(name), False)
    return found
