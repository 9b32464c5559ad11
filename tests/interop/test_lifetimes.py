"""Who keeps what alive, and who lets go: capsules, threads without the GIL, shutdown, resizing, freezing, memory."""

import array
import ctypes
import gc
import mmap
import resource
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
import torch

import freehold as fh
from capsules import Producer, managed_of, name_of


def counted(name):
    rows = {row["name"]: row["count"] for row in fh.ledger.stats()["counters"]}
    return rows.get(name, 0)


def refcount_of_array(make):
    """The array's reference count with a view alive, and after."""
    a = np.zeros(4)
    before = sys.getrefcount(a)
    view = make(a)
    during = sys.getrefcount(a)
    del view
    gc.collect()
    return before, during, sys.getrefcount(a)


# -- references --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda a: fh.share(a),
        lambda a: fh.share(a, "torch"),
        lambda a: fh.share(a, "numpy", writable=False),
        lambda a: np.from_dlpack(fh.share(a)),
        lambda a: torch.from_dlpack(fh.share(a)),
        lambda a: memoryview(fh.share(a)),
        lambda a: fh.share(fh.share(fh.share(a, "torch"), "numpy")),
        lambda a: fh.share(a).__dlpack__(),
        lambda a: fh.share(a).__dlpack__(max_version=(1, 3)),
    ],
)
def test_a_view_holds_its_owner_once(make):
    before, during, after = refcount_of_array(make)
    assert during == before + 1 and after == before


@pytest.mark.parametrize("make", [lambda a: fh.copy(a), lambda a: fh.copy(a, "torch"), lambda a: fh.convert(a, dtype="int8")])
def test_a_copy_holds_nothing(make):
    before, during, after = refcount_of_array(make)
    assert before == during == after


def test_a_refusal_holds_nothing():
    a = np.zeros(4)
    before = sys.getrefcount(a)
    for call in (
        lambda: fh.share(a[::-1], "torch"),
        lambda: fh.share(a, dtype=None, nonsense=1),
        lambda: fh.convert(np.full(4, 2.5), "torch", dtype="int8"),
        lambda: fh.share(a, "nobody"),
    ):
        with pytest.raises((fh.BoundaryError, TypeError)):
            call()
    gc.collect()
    assert sys.getrefcount(a) == before


def test_the_owner_dies_with_the_last_view():
    t = torch.zeros(4)
    alive = weakref.ref(t)
    view = fh.share(t, "numpy")
    del t
    # PyTorch keeps the storage, not the Python object.
    view[:] = 3
    again = fh.share(view, "torch")
    del view
    assert again.tolist() == [3, 3, 3, 3]
    del again
    gc.collect()
    assert alive() is None


HANDOVERS = {
    "numpy -> fh": "fh.share(a)",
    "numpy -> torch": "fh.share(a, 'torch')",
    "torch -> numpy": "fh.share(t, 'numpy')",
    "torch -> fh -> torch": "fh.share(fh.share(t), 'torch')",
    "fh -> capsule, unconsumed": "f.__dlpack__(max_version=(1, 3))",
    "fh -> buffer": "memoryview(f)",
    "numpy -> torch, copied": "fh.copy(a, 'torch', dtype='float32')",
    "a plan": "fh.plan(a, 'torch')",
    "a refusal": "refused()",
    "a list": "fh.copy([1, 2, 3])",
    "empty": "fh.share(a[:0], 'torch')",
}


@pytest.mark.parametrize("handover", HANDOVERS)
def test_memory_is_flat(handover):
    a, t = np.zeros((4, 4)), torch.zeros(4, 4)
    f = fh.share(a)

    def refused():
        try:
            fh.share(a[::-1], "torch")
        except fh.BoundaryError:
            pass

    scope = {"fh": fh, "a": a, "t": t, "f": f, "refused": refused}
    n = 100_000 if handover not in ("a refusal", "a list") else 10_000
    loop = compile(f"for _ in range({n}): {HANDOVERS[handover]}", handover, "exec")
    small = compile(f"for _ in range(2000): {HANDOVERS[handover]}", handover, "exec")
    exec(small, scope)
    gc.collect()
    references, before = (sys.getrefcount(a), sys.getrefcount(None)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    exec(loop, scope)
    gc.collect()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1500, f"{grown} KiB more after {n} handovers"
    assert sys.getrefcount(a) == references[0] and abs(sys.getrefcount(None) - references[1]) < 50


# -- capsules (X12) ----------------------------------------------------------------------------------------------------


def test_X12_a_capsule_is_consumed_once():
    for version in (None, (1, 3)):
        capsule = fh.share(np.arange(3.0)).__dlpack__(max_version=version)
        assert fh.from_dlpack(capsule).shape == (3,)
        assert name_of(capsule).startswith("used_")
        before = counted("double_consumed")
        with pytest.raises(fh.BoundaryError) as refused:
            fh.from_dlpack(capsule)
        assert refused.value.code == "CP01" and counted("double_consumed") == before + 1


def test_X12_an_unconsumed_capsule_is_freed_and_counted():
    a = np.zeros(3)
    references, before = sys.getrefcount(a), counted("unconsumed_capsules")
    for version in (None, (1, 3)):
        capsule = fh.share(a).__dlpack__(max_version=version)
        assert sys.getrefcount(a) == references + 1
        del capsule
    assert sys.getrefcount(a) == references and counted("unconsumed_capsules") == before + 2


def test_X12_another_consumers_rename_is_enough():
    a = np.zeros(3)
    before = counted("unconsumed_capsules")
    capsule = fh.share(a).__dlpack__(max_version=(1, 0))
    t = torch.from_dlpack(capsule)
    del capsule
    t.fill_(1)
    assert a.tolist() == [1, 1, 1] and counted("unconsumed_capsules") == before


def test_a_capsule_of_somebody_else_is_left_alone():
    producer = Producer(name=b"someone_elses")
    capsule = producer.capsule()
    with pytest.raises(fh.BoundaryError) as refused:
        fh.from_dlpack(capsule)
    assert refused.value.code == "OB01" and name_of(capsule) == "someone_elses" and producer.deleted == 0


@pytest.mark.parametrize("legacy", [False, True])
def test_a_consumed_capsule_is_released_once(legacy):
    producer = Producer(legacy=legacy)
    capsule = producer.capsule()
    x = fh.from_dlpack(capsule)
    y = fh.share(x, "torch")
    del x, capsule
    assert producer.deleted == 0
    del y
    assert producer.deleted == 1


def test_a_refused_capsule_stays_the_callers():
    producer = Producer(ndim=-1)
    capsule = producer.capsule()
    with pytest.raises(fh.BoundaryError) as refused:
        fh.from_dlpack(capsule)
    assert refused.value.code == "CP02" and producer.deleted == 0 and name_of(capsule) == "dltensor_versioned"


def test_an_unknown_major_version_is_released_and_not_read():
    producer = Producer(version=(2, 0), ndim=-7, data=8)
    capsule = producer.capsule()
    with pytest.raises(fh.BoundaryError) as refused:
        fh.from_dlpack(capsule)
    assert refused.value.code == "VE01" and producer.deleted == 1 and name_of(capsule).startswith("used_")


def test_an_exception_on_its_way_survives_what_is_dropped_meanwhile():
    producer = Producer()

    def lose(held):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        lose(fh.from_dlpack(producer))
    with pytest.raises(KeyError, match="mine"):
        lose(fh.from_dlpack(Producer()).__dlpack__())
    with pytest.raises(fh.BoundaryError):
        fh.share(fh.from_dlpack(Producer((3,), "float4_e2m1fn")), "numpy")
    gc.collect()
    assert producer.deleted == 1


def test_pytorch_leaves_what_it_refuses_with_the_caller():
    """What target/torch.rs relies on. If this fails, PyTorch releases what it refuses, and we must not."""
    capsule = torch.Tensor.__dlpack_c_exchange_api__

    class Table(ctypes.Structure):
        _fields_ = [("header", ctypes.c_void_p * 2), ("entries", ctypes.c_void_p * 5)]

    table = managed_of(capsule, Table)
    to_py = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.py_object))(table.entries[2])
    for wrong in ({"lanes": 3}, {"strides": (-1,)}, {"device": (18, 0)}):
        producer = Producer((3,), **wrong)
        with pytest.raises((RuntimeError, BufferError)):
            to_py(ctypes.addressof(managed_of(producer.capsule())), ctypes.py_object())
        assert producer.deleted == 0


# -- threads and shutdown (X13) -----------------------------------------------------------------------------------------


def without_the_gil(managed):
    """Calls a capsule's deleter as a C library would: ctypes lets go of the GIL for the call."""
    deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)
    address = ctypes.addressof(managed)
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(managed.capsule), b"used_dltensor_versioned")
    deleter(address)


def test_X13_a_deleter_without_the_gil_defers():
    a = np.zeros(3)
    references, before = sys.getrefcount(a), counted("deferred_drops")
    managed = managed_of(fh.share(a).__dlpack__(max_version=(1, 3)))
    without_the_gil(managed)
    fh.ledger.live()
    assert sys.getrefcount(a) == references and counted("deferred_drops") == before + 1


def test_X13_the_interpreter_drops_it_without_a_call_of_ours():
    a = np.zeros(3)
    references = sys.getrefcount(a)
    without_the_gil(managed_of(fh.share(a).__dlpack__(max_version=(1, 3))))
    for _ in range(1000):  # pending calls are made between instructions
        pass
    assert sys.getrefcount(a) == references


def test_X13_many_threads():
    arrays = [np.full(3, i, "f8") for i in range(8)]
    references = [sys.getrefcount(a) for a in arrays]

    def work(a):
        for _ in range(500):
            t = fh.share(a, "torch")
            assert t[0] == a[0]
            without_the_gil(managed_of(fh.share(t).__dlpack__(max_version=(1, 3))))
            del t

    threads = [threading.Thread(target=work, args=(a,)) for a in arrays for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fh.ledger.live()
    del threads
    gc.collect()
    fh.ledger.live()
    assert [sys.getrefcount(a) for a in arrays] == references


PROGRAMS = {
    "globals": """
        a = np.zeros(4); t = fh.share(a, "torch"); b = fh.share(t, "numpy"); f = fh.share(b); m = memoryview(f)
        g = fh.share(torch.zeros(3), "numpy"); c = f.__dlpack__(); d = fh.copy(a, "torch")
    """,
    "cycles": """
        class Holder: pass
        h = Holder(); h.t = fh.share(np.zeros(4), "torch"); h.h = h; h.f = fh.share(h.t)
        sys.modules["kept"] = h
    """,
    # Runs after the interpreter is gone: exit() calls it with the managed tensor.
    "a deleter after the interpreter": """
        capsule = fh.share(np.zeros(4)).__dlpack__(max_version=(1, 3))
        managed = managed_of(capsule)
        ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), b"used_dltensor_versioned")
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit.argtypes = [ctypes.c_void_p] * 3
        assert libc.__cxa_atexit(managed.deleter, ctypes.addressof(managed), None) == 0
        del managed.capsule
        import builtins; builtins.kept = capsule
    """,
    # Without PyTorch, which ends the process by itself when a thread like this one lives at the end.
    "threads that never stop": """
        import threading
        def work():
            a = np.zeros(4)
            while True:
                b = fh.share(fh.share(a), "numpy", writable=False)
                managed = managed_of(fh.share(b).__dlpack__(max_version=(1, 3)))
                ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(managed.capsule), b"used_dltensor_versioned")
                ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)(ctypes.addressof(managed))
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        import time; time.sleep(0.3)
    """,
    "threads in the middle of a copy": """
        import threading
        a = np.zeros((1000, 1000))
        def work():
            while True: fh.convert(a.T, dtype="float32", order="C")
        for _ in range(3): threading.Thread(target=work, daemon=True).start()
        import time; time.sleep(0.3)
    """,
    "frozen": """
        a = np.zeros(4); t = fh.share(a, "torch", freeze=True); f = fh.share(a, freeze=True)
    """,
    "a child": """
        import os, warnings
        warnings.simplefilter("ignore")
        t = fh.share(np.zeros(4), "torch"); f = fh.share(t)
        child = os.fork()
        if child == 0:
            u = fh.share(np.ones(4), "torch"); del t, f
            assert u.sum() == 4
        else:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_X13_shutdown(program):
    lines = "import ctypes, sys\nimport numpy as np, torch\nimport freehold as fh\nfrom capsules import managed_of\n"
    code = lines + textwrap.dedent(PROGRAMS[program])
    for _ in range(3 if "threads" in program else 1):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code],
            cwd=__file__.rpartition("/")[0],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")


# -- resizing (X22) ------------------------------------------------------------------------------------------------------


def test_X22_what_is_lent_cannot_be_resized():
    lent, numbers, a = bytearray(8), array.array("d", [1, 2]), np.zeros(4)
    views = [fh.share(lent), fh.share(numbers, "torch"), fh.share(a, "torch")]
    with pytest.raises(BufferError):
        lent.append(1)
    with pytest.raises(BufferError):
        numbers.append(3.0)
    with pytest.raises(ValueError):
        a.resize(8)
    views[1][0] = 7
    assert numbers[0] == 7
    del views
    lent.append(1)
    numbers.append(3.0)


def test_X22_a_mapping_stays_open_while_lent(tmp_path):
    path = tmp_path / "values"
    path.write_bytes(np.arange(4, dtype="f4").tobytes())
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    view = fh.share(mapped)
    with pytest.raises(BufferError):
        mapped.close()
    del view
    mapped.close()


# -- freeze ------------------------------------------------------------------------------------------------------------------


def test_a_frozen_array_is_read_only_while_lent():
    a = np.arange(3.0)
    t = fh.share(a, "torch", freeze=True)
    assert not a.flags.writeable
    u = fh.share(a, freeze=True)
    assert u.writable and t.tolist() == [0, 1, 2]
    del t
    assert not a.flags.writeable, "somebody else has it frozen"
    del u
    assert a.flags.writeable
    a[0] = 5


def test_a_frozen_array_thaws_where_nothing_was_lent():
    a = np.arange(3.0)
    fh.copy(a)
    assert fh.plan(a, "torch", freeze=True).verdict == "share" and a.flags.writeable
    with pytest.raises(fh.BoundaryError):
        fh.share(np.broadcast_to(a, (2, 3)), "torch", freeze=True)
    fh.convert(a, "torch", dtype="float32", freeze=True)
    assert a.flags.writeable


def test_a_write_to_what_is_lent_frozen_is_a_hazard():
    t = torch.zeros(3)
    view = fh.share(t, "numpy", freeze=True)
    assert not view.flags.writeable
    t[1] = 5
    del view
    assert [hazard["code"] for hazard in fh.ledger.hazards()][-1] == "AL01"
    with pytest.warns(fh.BoundaryWarning, match="AL01"):
        fh.share(t)
    quiet = fh.share(t, "numpy", freeze=True)
    before = len(fh.ledger.hazards())
    del quiet
    assert len(fh.ledger.hazards()) == before


def test_a_view_of_an_array_is_watched_because_its_base_can_be_written():
    a = np.zeros(6)
    lent = fh.share(a[1:4], freeze=True)
    a[2] = 1
    del lent
    assert [hazard["code"] for hazard in fh.ledger.hazards()][-1] == "AL01"
    with pytest.warns(fh.BoundaryWarning):
        fh.share(a)
