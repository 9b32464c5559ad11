"""Rows A01 to A10 and A17 to A21: sharing, both ways, what forbids it, and the copy that has no conditions."""

import ctypes
import itertools
import mmap
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import freehold as fh
from row_tools import VERBS, address, blocking, codes, copied_bytes, do, ledger_of, read_only


def run_child(code):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)


# -- A01, A02: which methods share and which copy


SOURCES = {
    "numpy": lambda: np.arange(6, dtype="float32"),
    "numpy, strided": lambda: np.arange(12, dtype="float32")[::2],
    "numpy, negative stride": lambda: np.arange(6, dtype="float32")[::-1],
    "numpy, read-only": lambda: read_only(np.arange(6, dtype="float32")),
    "numpy, big-endian": lambda: np.arange(6, dtype=">f4"),
    "numpy, broadcast": lambda: np.broadcast_to(np.float32(7), (6,)),
    "torch": lambda: torch.arange(6, dtype=torch.float32),
    "torch, transposed": lambda: torch.arange(6, dtype=torch.float32).reshape(2, 3).t(),
    "torch, with a graph": lambda: torch.arange(6, dtype=torch.float32).requires_grad_(),
    "freehold": lambda: fh.copy(np.arange(6, dtype="float32")),
    "bytearray": lambda: bytearray(range(6)),
    "bytes": lambda: bytes(range(6)),
    "list": lambda: [0.0, 1.0, 2.0],
}
TARGETS = [None, "numpy", "torch"]


@pytest.mark.parametrize("source", SOURCES)
def test_a01_plan_says_before_what_the_call_then_does(source):
    """A01: which methods share and which copy is answered by `plan`, for every pair, and the call keeps to it."""
    for verb, to in itertools.product(VERBS, TARGETS):
        x = SOURCES[source]()
        decision, _ = do(verb, x, to)
        if decision.verdict == "copy":
            size = 8 if isinstance(x, list) else 4 if "byte" not in source else 1
            assert decision.bytes_copied == decision.bytes_allocated == size * (3 if isinstance(x, list) else 6)
        else:
            assert decision.verdict in ("share", "reject") and decision.bytes_allocated == 0


def test_a01_plan_reads_no_byte_of_the_tensor():
    """A01: `plan` answers before any byte moves: it even plans for memory that cannot be read."""
    setup = """
        import mmap
        import freehold as fh, numpy as np
        unreadable = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
        x = np.frombuffer(unreadable, dtype="float64")[::-1]
    """
    planned = run_child(f"""{setup}
        d = fh.plan(x, "torch", dtype="float32", order="C")
        print(d.verdict, d.bytes_copied, *d.steps)
        print(fh.plan(x, "numpy").verdict, fh.plan(x, "torch", copy=False).verdict)
    """)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.split("\n")[:2] == ["copy 524288 layout cast", "share reject"]
    # The memory really cannot be read: carrying the plan out ends the process.
    assert run_child(f"{setup}\n        fh.copy(x)\n        print('read')").returncode < 0


def independent(x, y):
    """Writes on both sides and looks whether the other side sees it."""
    x[0], y[1] = 50, 60
    return float(y[0]) != 50 and float(x[1]) != 60


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("source", ["numpy", "torch", "freehold", "bytearray"])
def test_a02_three_verbs_with_one_meaning_for_every_pair(source, to):
    """A02: SHARE, TRY TO SHARE, COPY: three verbs that mean the same for every pair, told by writing on both sides."""
    for verb, shares in [("share", True), ("convert", True), ("copy", False)]:
        x = SOURCES[source]()
        decision, result = do(verb, x, to)
        # fh.Tensor has no indexing: NumPy writes for it, through a view of the same memory.
        ours = fh.share(x, "numpy") if isinstance(x, fh.Tensor) else x
        theirs = fh.share(result, "numpy") if isinstance(result, fh.Tensor) else result
        assert independent(ours, theirs) is not shares
        assert decision.verdict == ("share" if shares else "copy")


def test_a02_try_to_share_differs_from_share_where_sharing_is_impossible():
    """A02: where memory cannot be shared, `share` refuses, `convert` copies, and `copy` never asked."""
    x = np.arange(6.0)[::-1]
    assert [do(verb, x, "torch")[0].verdict for verb in ("share", "convert", "copy")] == ["reject", "copy", "copy"]


# -- A03 to A05: shared memory, and how to verify it


PAIRS = [("numpy", "torch"), ("torch", "numpy"), ("numpy", "numpy"), ("torch", "torch")]


def make(framework, n=3):
    return np.arange(n, dtype="float32") if framework == "numpy" else torch.arange(n, dtype=torch.float32)


@pytest.mark.parametrize("source, target", PAIRS)
def test_a03_a_write_in_the_source_shows_in_the_target(source, target):
    """A03: share gives the same memory: a write in the source is visible in the target; one buffer, two holders."""
    x = make(source)
    decision, t = do("share", x, target)
    assert (decision.verdict, decision.bytes_copied, codes(decision), decision.writable) == ("share", 0, [], True)
    x[0] = 99
    assert float(t[0]) == 99 and address(t) == address(x)
    if source != target:
        assert ledger_of(x) == (source, [target]) == ledger_of(t)
        assert fh.ledger.owner(x)["id"] == fh.ledger.owner(t)["id"]
        assert fh.ledger.owner(x)["len"] == 12 or source == "torch"


@pytest.mark.parametrize("source, target", PAIRS)
def test_a04_a_write_in_the_target_shows_in_the_source(source, target):
    """A04: ... and both ways, where both sides may write."""
    x = make(source)
    t = fh.share(x, target)
    t[1] = -7
    assert float(x[1]) == -7
    # The seed's own lines, in its order.
    arr = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    t_shared = torch.from_numpy(arr)
    ours = fh.share(arr, "torch")
    arr[0], ours[1] = 99.0, -7.0
    assert ours.tolist() == t_shared.tolist() == arr.tolist() == [99.0, -7.0, 3.0]


@pytest.mark.parametrize("to", [None, "numpy"])
def test_a04_a_target_over_a_read_only_owner_is_read_only_and_says_so(to):
    """A04: both ways only if both sides are writable; else the target is read-only and the decision says `RO02`."""
    owner = np.arange(3.0)
    x = owner.view()
    x.flags.writeable = False
    decision, view = do("share", fh.share(x) if to else x, to)
    assert (decision.verdict, decision.writable, codes(decision)) == ("share", False, ["RO02"])
    array = np.asarray(view)
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
    owner[0] = 5
    assert array[0] == 5
    buffer = fh.ledger.owner(owner)
    assert buffer["holders"] and all("read_only" in member["flags"] for member in [buffer["owner"], *buffer["holders"]])
    assert to is None or any(holder["reasons"] == ["RO02"] for holder in buffer["holders"])


def test_a05_comparing_pointers_misleads_and_explain_does_not():
    """A05: comparing the pointers that the seed compares is right for from_numpy and wrong for a slice in PyTorch."""
    arr = np.array([1, 2, 3, 4, 5, 6], dtype=np.float32)
    t = torch.from_numpy(arr)
    assert arr.__array_interface__["data"][0] == t.untyped_storage().data_ptr()
    # Today: two slices that share no byte have one storage pointer, and a slice has not its own storage pointer.
    head, tail = t[:3], t[3:]
    assert head.untyped_storage().data_ptr() == tail.untyped_storage().data_ptr()
    assert tail.data_ptr() == tail.untyped_storage().data_ptr() + 12
    assert fh.explain(arr, t).aliases and fh.explain(arr, t).bytes == 24
    disjoint = fh.explain(head, tail)
    assert (disjoint.aliases, disjoint.bytes, disjoint.same_buffer) == (False, 0, True)
    part = fh.explain(arr, tail)
    assert (part.aliases, part.bytes, part.same_buffer) == (True, 12, True)
    assert part.span == (address(tail), address(tail) + 12)


def test_a05_the_overlap_is_exact_for_strides():
    """A05: the overlap is exact for strides, where `may_share_memory` only compares ranges."""
    base = np.arange(10, dtype=np.float32)
    even, odd = fh.share(base[::2], "torch"), fh.share(base[1::2], "torch")
    assert np.may_share_memory(even.numpy(), odd.numpy())
    verdict = fh.explain(even, odd)
    assert (verdict.aliases, verdict.bytes, verdict.same_buffer) == (False, 0, True)
    assert [alias["holder"]["framework"] for alias in fh.ledger.aliases(odd) if "torch" in str(alias)] == ["torch"]
    # Every third and every second element meet in every sixth.
    both = fh.explain(base[::2], base[::3])
    assert (both.aliases, both.bytes) == (True, 2 * 4)
    even[0] = -1
    assert base[0] == -1 and odd.tolist() == [1, 3, 5, 7, 9]


def test_a05_one_buffer_id_for_every_view_of_it():
    """A05: whoever holds a part of it, one buffer has one id; another buffer has another."""
    base = np.arange(10, dtype=np.float32)
    t, u = fh.share(base[:5], "torch"), fh.share(base[5:], "torch")
    other = fh.share(np.arange(10, dtype=np.float32), "torch")
    ids = [fh.ledger.owner(x)["id"] for x in (base, t, u, other)]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    different = fh.explain(t, other)
    assert (different.aliases, different.bytes, different.same_buffer) == (False, 0, False)


# -- A06 to A10: requirements


def test_a06_an_object_array_is_refused_and_told_why():
    """A06: an object array has no numbers to share: `DT01`, with what the elements are and what to type."""
    x = np.array(["a", "b", "c"], dtype=object)
    with pytest.raises(TypeError):
        torch.from_numpy(x)
    for verb, to in itertools.product(VERBS, TARGETS):
        decision, error = do(verb, x, to)
        assert codes(decision) == ["DT01"]
        assert "an object array has no fixed element size; 3 of 3 elements are str" in str(error)
        assert any(".astype(" in fix for fix in error.fixes)
        assert isinstance(error, BufferError) and isinstance(error, ValueError)


def test_a06_the_fix_for_an_object_array_of_numbers_runs():
    """A06: the line that the error prints can be run."""
    x = np.array([1, 2, 3], dtype=object)
    with pytest.raises(fh.BoundaryError) as error:
        fh.share(x, "torch")
    fixed = eval(error.value.fixes[0], {"x": x})
    assert fh.share(fixed, "torch").tolist() == [1, 2, 3]


def test_a07_read_only_memory_stays_read_only_where_the_target_can_say_so():
    """A07: by default, read-only memory is shared as a read-only view with any target that has such views."""
    x = read_only(np.array([1.0, 2.0, 3.0]))
    for to in (None, "numpy"):
        decision, view = do("share", x, to)
        assert decision.verdict == "share" and not decision.writable
        assert not np.asarray(view).flags.writeable


def test_a07_read_only_memory_is_copied_for_torch_by_default():
    """A07: PyTorch has no read-only tensors: the default policy copies (`RO01`), and the copy is writable."""
    x = read_only(np.array([1.0, 2.0, 3.0]))
    decision, t = do("convert", x, "torch")
    assert (decision.verdict, decision.steps, decision.bytes_copied) == ("copy", ("fresh",), 24)
    assert blocking(decision) == ["RO01"] and decision.writable
    t[0] = 9
    assert x[0] == 1 and t[0] == 9
    assert fh.policy().readonly == "copy"
    decision, error = do("share", x, "torch")
    assert codes(decision)[0] == "RO01" and "flags.writeable=False" in str(error)


def test_a07_read_only_policies_reject_and_trust():
    """A07: policy `readonly="reject"` refuses, `"trust"` shares and the ledger keeps the hazard."""
    x = read_only(np.array([1.0, 2.0, 3.0]))
    with fh.policy(readonly="reject"):
        decision, error = do("convert", x, "torch")
        assert decision.verdict == "reject" and codes(decision)[0] == "RO01"
        assert eval(error.fixes[0], {"fh": fh, "x": x}).tolist() == [1, 2, 3]
    hazards = len(fh.ledger.hazards())
    with fh.policy(readonly="trust"):
        decision, t = do("share", x, "torch")
        assert decision.verdict == "share" and decision.writable and "RO01" in codes(decision)
        assert decision.to_dict()["trusted"] is True
    assert address(t) == address(x)
    (hazard,) = fh.ledger.hazards()[hazards:]
    assert hazard["code"] == "RO01" and "trust" in hazard["note"]
    assert fh.plan(x, "torch").verdict == "copy", "the policy ended with its block"


def test_a07_a_mapped_file_that_may_not_be_written_is_safe():
    """A07: a write through a read-only mapping would end the process; the copy is what PyTorch gets."""
    mapping = mmap.mmap(-1, 4096, access=mmap.ACCESS_READ)
    x = np.frombuffer(mapping, dtype="float32")
    decision, t = do("convert", x, "torch")
    assert decision.verdict == "copy" and blocking(decision) == ["RO01"]
    t[0] = 1
    assert x[0] == 0


def test_a08_strides_that_a_target_takes_and_does_not_take():
    """A08: negative strides are shared with NumPy, copied for PyTorch by convert and copy, refused by share."""
    x = np.arange(5.0)[::-1]
    with pytest.raises(ValueError):
        torch.from_numpy(x)
    assert fh.targets()["torch"].strides == "not negative" and fh.targets()["numpy"].strides == "any"
    assert do("share", x, "numpy")[0].verdict == do("share", x)[0].verdict == "share"
    decision, error = do("share", x, "torch")
    assert codes(decision)[0] == "ST01" and "stride -1 < 0" in str(error)
    assert "convert would copy 40 B" in str(error)
    for verb in ("convert", "copy"):
        decision, t = do(verb, x, "torch")
        assert "layout" in decision.steps and "ST01" in codes(decision) and decision.bytes_copied == 40
        assert t.tolist() == [4, 3, 2, 1, 0]
    assert do("share", np.arange(10.0)[::3], "torch")[1].stride() == (3,)


def test_a09_the_seeds_read_only_example_raises():
    """A09: the seed's example prints "Read-only error: ...". Nothing raises there today; with us it does."""
    ro_arr = np.array([1.0, 2.0, 3.0])
    ro_arr.setflags(write=False)
    printed = []
    try:
        fh.share(ro_arr, "torch", writable=True)
    except Exception as e:
        printed.append(f"Read-only error: {type(e).__name__}")
        assert e.code == "RO01" and codes(e.decision)[0] == "RO01"
    assert printed == ["Read-only error: BoundaryError"]
    assert fh.plan(ro_arr, "torch", copy=False, writable=True).verdict == "reject"


def test_a10_the_errors_first_line_is_the_solution():
    """A10: the solution, a copy first, is one pass, and it is what the error's "Do:" line prints."""
    ro = read_only(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(fh.BoundaryError) as error:
        fh.share(ro, "torch")
    fix = error.value.fixes[0]
    assert fix.split("#")[0].strip() == 'fh.copy(x, "torch")' and "24 B" in fix
    assert 'Do: fh.copy(x, "torch")' in str(error.value)
    before = copied_bytes()
    t = eval(fix, {"fh": fh, "x": ro})
    assert copied_bytes() - before == 24, "one pass"
    t[0] = 5
    assert ro.tolist() == [1, 2, 3] and t.tolist() == [5, 2, 3]
    assert torch.from_numpy(np.array(ro, copy=True)).tolist() == [1, 2, 3]


# -- A17 to A21: the copy


@pytest.mark.parametrize("source", [s for s in SOURCES if "graph" not in s])
def test_a17_a_copy_is_always_independent(source):
    """A17: copy is always new memory of ours, that the receiver may write."""
    for to in TARGETS:
        decision, result = do("copy", SOURCES[source](), to)
        assert decision.verdict == "copy" and "fresh" in decision.steps and decision.writable
        assert ledger_of(result)[0] == "freehold", "nobody else's memory"


def test_a17_a_copy_says_so_in_its_capsule():
    """A17: the DLPack flag IS_COPIED is set on a copy that nobody else has, and not on a share."""

    def flags(t):
        capsule = t.__dlpack__(max_version=(1, 3))
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        # version 8 bytes, manager_ctx 8, deleter 8, then the flags.
        return ctypes.c_uint64.from_address(get(capsule, b"dltensor_versioned") + 24).value

    is_copied = 2
    x = np.arange(3.0)
    assert flags(fh.copy(x)) & is_copied and not flags(fh.share(x)) & is_copied


def test_a18_no_surprises_from_mutations():
    """A18: after copy the ledger knows of no alias, and writes on either side stay there."""
    arr = np.array([10, 20, 30], dtype=np.int64)
    t = fh.copy(arr, "torch")
    arr[0], t[1] = 123, -1
    assert t.tolist() == [10, -1, 30] and arr.tolist() == [123, 20, 30]
    assert fh.ledger.owner(arr) is None, "nobody else holds the source"
    assert [alias["holder"]["framework"] for alias in fh.ledger.aliases(arr)] == []
    assert not fh.explain(arr, t).aliases


@pytest.mark.parametrize("verb", ["convert", "copy"])
def test_a19_dtype_device_and_layout_in_one_pass(verb):
    """A19: dtype, device and order are asked of the same call, and one pass does all of it."""
    x = np.arange(6.0).reshape(2, 3)[:, ::-1]
    decision, t = do(verb, x, "torch", dtype="float32", device="cpu", order="F")
    assert {"layout", "cast"} <= set(decision.steps) and decision.bytes_copied == decision.bytes_allocated == 24
    assert t.dtype is torch.float32 and t.stride() == (1, 2) and t.tolist() == x.tolist()


def test_a19_dtype_and_device_in_anybodys_words():
    """A19: dtype and device may be any framework's own objects."""
    dtypes = ["float32", torch.float32, np.float32, np.dtype("float32")]
    for dtype, device in itertools.product(dtypes, [None, "cpu", torch.device("cpu"), (1, 0)]):
        decision, t = do("copy", [1, 2, 3], "torch", dtype=dtype, device=device)
        assert t.dtype is torch.float32 and t.device == torch.device("cpu") and t.tolist() == [1, 2, 3]
        assert (decision.dtype, decision.device) == ("float32", "cpu")


VALUES = [
    [1, 2, 3],
    (1.5, 2.5),
    [[1, 2], [3, 4]],
    [True, False],
    [1, 2.5],
    [1j, 2],
    7,
    2.5,
    True,
    1j,
    range(4),
    [],
    np.float32(3),
    [np.ones(2, dtype="float32"), np.zeros(2, dtype="float32")],
    [torch.ones(2), torch.zeros(2)],
]


@pytest.mark.parametrize("values", VALUES, ids=repr)
def test_a20_copy_takes_lists_tuples_scalars_and_arrays(values):
    """A20: copy works with any input that holds numbers, as NumPy counts them; share refuses with `OB01`."""
    expected = np.array([np.asarray(v) for v in values]) if isinstance(values, list) else np.asarray(values)
    owner = "numpy.float32" if isinstance(values, np.generic) else type(values).__name__
    for to in ("numpy", "torch"):
        _, result = do("copy", values, to)
        array = np.asarray(result)
        assert array.dtype == expected.dtype and array.shape == expected.shape and array.tolist() == expected.tolist()
        decision, error = do("share", values, to)
        assert codes(decision) == ["OB01"]
        assert f"{'an' if owner[0] in 'aeiou' else 'a'} {owner} owns no tensor memory" in str(error)


def test_a20_what_holds_no_numbers_is_refused_by_copy_too():
    """A20: a ragged list, a string and a dict are refused with what is wrong with them."""
    for values, code in [([[1, 2], [3]], "DT01"), (["a"], "DT01"), ("abc", "OB01"), ({"a": 1}, "OB01")]:
        decision, error = do("copy", values, "torch")
        assert codes(decision) == [code] and error.fixes


def test_a21_the_seeds_explicit_example():
    """A21: `torch.tensor(arr, dtype=torch.float32, device='cpu')`, with the same keywords."""
    arr = np.array([10, 20, 30], dtype=np.int64)
    theirs = torch.tensor(arr, dtype=torch.float32, device="cpu")
    decision, ours = do("copy", arr, "torch", dtype=torch.float32, device="cpu")
    assert ours.dtype is theirs.dtype and ours.device == theirs.device and torch.equal(ours, theirs)
    assert decision.steps == ("fresh", "cast") and decision.bytes_copied == 12
