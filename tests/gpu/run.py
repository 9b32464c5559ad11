"""Runs the bundle's steps on this machine's GPU. Usage: run.py BUNDLE OUT_DIR [--quick], by the bundle's run.sh.

Steps have a time limit each, and all together one: what is cheap and says whether it is correct comes first, then
measurements, then compute-sanitizer. A step that fails stops no other. With FREEHOLD_CUDA_LIBRARY set, that driver is used
and nothing counts as measured on a GPU.
"""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import report

# Seconds for everything.
WHOLE, QUICK = 235, 88
# What the tests of races name, and how many there are: crates/freehold-device/tests/gpu/races.rs.
FORGOTTEN = {"cuStreamWaitEvent": 2, "cuEventQuery": 2, "cuEventSynchronize": 1}
PACKAGES = ("torch", "cupy-cuda13x", "cupy-cuda12x", "cupy", "jax", "jaxlib", "numpy", "ml_dtypes")


@dataclass
class Machine:
    bundle: Path
    out: Path
    quick: bool
    deadline: float
    environment: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    log: list = field(default_factory=list)

    def run(self, command, limit, more=None):
        """The status and the output of a command, which is ended with all that it started when its time is over."""
        limit = min(limit, self.deadline - time.monotonic())
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**self.environment, **(more or {})},
            cwd=self.bundle,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate(timeout=max(limit, 1))
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            status = f"longer than {limit:.0f} s"
        shown = " ".join(f"{k}={v}" for k, v in (more or {}).items())
        self.log.append(f"$ {shown} {' '.join(map(str, command))}\n{text}\n[{status}]\n")
        return status, text

    def step(self, name, what, least=5):
        """One step: `what` gives a verdict and a note."""
        start = time.monotonic()
        self.log.append(f"\n######## {name}\n")
        if self.deadline - start < least:
            verdict, note = "skip", "no time was left"
        else:
            try:
                verdict, note = what()
            except Exception as error:  # noqa: BLE001 (a step that breaks stops no other)
                verdict, note = "fail", f"{type(error).__name__}: {error}"
        seconds = round(time.monotonic() - start, 1)
        self.steps.append({"step": name, "verdict": verdict, "seconds": seconds, "note": note})
        print(f"{verdict:4}  {name:12} {seconds:6.1f} s   {note}", flush=True)
        # Whatever comes after, this much is kept.
        self.write()

    def collect(self, name, text):
        """Rows and claims are lines of JSON."""
        found = 0
        for line in text.splitlines():
            if line.startswith("{"):
                try:
                    self.rows.append({"step": name, **json.loads(line)})
                    found += 1
                except json.JSONDecodeError:
                    self.log.append(f"not a row: {line}\n")
        return found

    def write(self):
        results = {**self.about, "steps": self.steps, "rows": self.rows}
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (self.out / "summary.md").write_text(report.page(results), encoding="utf-8")
        (self.out / "logs.txt").write_text("".join(self.log), encoding="utf-8")


def versions():
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            pass
    return found


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def environment(machine):
    """Which card and driver these are, and whether Freehold finds them."""
    _, text = machine.run(
        ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current",
         "--format=csv,noheader"], 20) if shutil.which("nvidia-smi") else (1, "")
    first = [part.strip() for part in text.splitlines()[0].split(",")] if text.strip() else []
    if len(first) == 5:
        machine.about["driver"] = first[1]
        machine.about["card_memory"] = first[2]
        machine.about["link"] = f"PCIe {first[3]} x{first[4]}"
    machine.run(["free", "-g"], 5) if shutil.which("free") else None
    status, text = machine.run([sys.executable, "-c", "import freehold, json; print(json.dumps(freehold._freehold._system()))"], 30)
    if status != 0:
        return "fail", f"the package cannot be imported: {text.strip().splitlines()[-1] if text.strip() else status}"
    cuda = json.loads(text.strip().splitlines()[-1])["cuda"]
    machine.about["cuda"] = cuda
    if cuda.get("missing"):
        return "fail", f"no CUDA: {cuda['missing']}"
    devices = cuda["devices"]
    # Freehold says name and memory of each; nvidia-smi's name is that of the card even where the driver is another.
    machine.about["card"] = first[0] if first and machine.about["is_gpu"] else str(devices[0][0])
    return "pass", machine.about["card"]


def closing(text):
    """What a test program said last."""
    lines = [line for line in text.splitlines() if re.search(r"test result:|\d+ (passed|failed|skipped|error)", line)]
    return re.sub(r"^=+ | =+$|; finished.*|; 0 measured.*", "", lines[-1]).strip() if lines else "it said nothing"


def program(machine, arguments, limit, more=None):
    status, text = machine.run([machine.bundle / "bin" / "gpu", *arguments], limit, more)
    return ("pass" if status == 0 else "fail"), closing(text) if isinstance(status, int) else status


def forgotten(machine):
    """The tests of races fail with a driver that leaves undone what keeps their order."""
    said = []
    for function, count in FORGOTTEN.items():
        library = machine.bundle / "lib" / f"forgets-{function}.so"
        prefix = re.sub("[A-Z]", lambda m: "_" + m.group().lower(), function)
        more = {"FREEHOLD_CUDA_LIBRARY": str(library)}
        # Where another driver is chosen, it stands behind the one that forgets.
        if chosen := os.environ.get("FREEHOLD_CUDA_LIBRARY"):
            link = Path(tempfile.mkdtemp()) / "libcuda.so.1"
            link.symlink_to(chosen)
            more["LD_LIBRARY_PATH"] = str(link.parent)
        status, text = machine.run([machine.bundle / "bin" / "gpu", f"races::{prefix}_", "--test-threads=1"], 30, more)
        if status == 0 or f"0 passed; {count} failed" not in text:
            return "fail", f"without {function}: {closing(text)}, and all {count} should fail"
        said.append(f"{count} fail without {function}")
    return "pass", ", ".join(said)


def python(machine, name, limit, *arguments):
    """A script of the bundle that prints rows."""
    script = machine.bundle / "tests" / name
    quick = ["--quick"] if machine.quick else []
    status, text = machine.run([sys.executable, script, *arguments, *quick], limit)
    rows = machine.collect(script.stem, text)
    return ("pass" if status == 0 else "fail"), f"{rows} rows" + ("" if status == 0 else f", exit {status}")


def check(machine, limit):
    """The kernels, bit for bit: one line a group."""
    script = machine.bundle / "tests" / "check.py"
    status, text = machine.run([sys.executable, script, *(["--quick"] if machine.quick else [])], limit)
    lines = text.strip().splitlines()
    return ("pass" if status == 0 else "fail"), lines[-1] if lines and isinstance(status, int) else str(status)


def pytest(machine, limit):
    tests = sorted((machine.bundle / "tests").glob("test_*.py"))
    if not tests:
        return "skip", "the bundle has none"
    status, text = machine.run([sys.executable, "-c", "import pytest"], 20)
    if status != 0:
        return "skip", "there is no pytest"
    status, text = machine.run([sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests], limit)
    return ("pass" if status == 0 else "fail"), closing(text) if isinstance(status, int) else status


def example(machine, path, limit):
    status, text = machine.run([path, *(["--quick"] if machine.quick else [])], limit)
    rows = machine.collect(path.name, text)
    return ("pass" if status == 0 else "fail"), f"{rows} rows" + ("" if status == 0 else f", exit {status}")


def sanitizer(machine, tool, filters, limit):
    """The tests under compute-sanitizer. It gives 66 where it finds something."""
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(found).exists():
        return "skip", "there is no compute-sanitizer"
    command = [found, "--tool", tool, "--error-exitcode", "66", "--print-limit", "20"]
    if tool == "memcheck":
        # Failed calls are what some tests are about.
        command += ["--report-api-errors", "no"]
    status, text = machine.run([*command, machine.bundle / "bin" / "gpu", "--test-threads=1", *filters], limit)
    errors = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): .*", text)
    note = f"{errors[-1] if errors else 'no summary'}; {closing(text)}"
    clean = status == 0 and errors and re.search(r"SUMMARY: 0 ", errors[-1])
    return ("pass" if clean else "fail"), note if isinstance(status, int) else f"{status}; {note}"


def main(bundle, out, quick):
    machine = Machine(bundle, out, quick, time.monotonic() + (QUICK if quick else WHOLE))
    chosen = os.environ.get("FREEHOLD_CUDA_LIBRARY")
    machine.about = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "card": "unknown",
        "is_gpu": chosen is None,
        "cpu": f"{cpu()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "versions": versions(),
        "bundle": json.loads((bundle / "bundle.json").read_text(encoding="utf-8")),
        "quick": quick,
    }
    machine.environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(bundle / "python"), str(bundle / "tools")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "RUST_BACKTRACE": "0",
        **({} if chosen else {"FREEHOLD_GPU": "1"}),
    }
    # What the driver compiles from PTX is compiled once for all steps.
    with tempfile.TemporaryDirectory() as cache:
        machine.environment["CUDA_CACHE_PATH"] = cache
        step = machine.step
        step("environment", lambda: environment(machine))
        step("rust", lambda: program(machine, ["--test-threads=4"], 60))
        step("races", lambda: forgotten(machine))
        step("frameworks", lambda: pytest(machine, 60))
        step("check", lambda: check(machine, 40))
        for path in sorted((bundle / "bin").glob("cuda_*")):
            step(path.name, lambda path=path: example(machine, path, 45))
        step("bench", lambda: python(machine, "bench_frameworks.py", 30 if quick else 60))
        memcheck = ["--skip", "races", "--skip", "forgetful"]
        step("memcheck", lambda: sanitizer(machine, "memcheck", memcheck, 60), least=10)
        racecheck = ["transfers::values", "transfers::layouts", "transfers::kernels"]
        step("racecheck", lambda: sanitizer(machine, "racecheck", racecheck, 60), least=10)
    return 1 if any(step["verdict"] == "fail" for step in machine.steps) else 0


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--quick"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(arguments[0]).resolve(), Path(arguments[1]).resolve(), "--quick" in sys.argv))
