"""Rows X11, X12, X15, X20, X21: what comes in a capsule, hostile or odd, and what goes out in ours.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a capsule that the frameworks of
today get wrong.
"""

import ctypes
import itertools
import sys
import threading

import numpy as np
import pytest
import torch

import freehold as fh
import producers
from capsules import READ_ONLY, name_of, opened
from producers import CUDA, CUDA_HOST, Made, Modern, counter, refused
from row_tools import codes, ledger_of

TARGETS = ["numpy", "torch", None]


# -- X11: versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("fields", [{"legacy": True}, {}, {"version": (1, 0)}, {"version": (1, 99)}, {"flags": 1 << 63}])
def test_x11_case_9_every_known_capsule_is_shared(fields, to):
    """X11, case 9: legacy and versioned, any minor version, unknown flag bits: the same memory, written both ways."""
    made = Made(np.arange(3.0), **fields)
    capsule = made.capsule()
    assert fh.plan(capsule, to, copy=False).verdict == "share" and made.deletes == 0
    x = fh.share(capsule, to)
    assert name_of(capsule).startswith("used_")
    np.asarray(x)[0] = 7
    made.array[1] = 8
    assert np.asarray(x).tolist() == made.array.tolist() == [7, 8, 2]
    del x, capsule
    fh.ledger.live()
    assert (made.deletes, made.dropped) == (1, 0)


def refusals(code):
    return sum(row["count"] for row in fh.ledger.stats()["refused"] if row["code"] == code)


@pytest.mark.parametrize("version", [(0, 8), (2, 0), (2**32 - 1, 0)])
@pytest.mark.parametrize("bare", [False, True])
def test_x11_case_8_an_unknown_major_version(version, bare):
    """X11, case 8: the deleter is called once and nothing else is read, not even a pointer that would crash."""
    hostile = {"version": version, "ndim": 7, "data": 8, "shape": None, "dtype": (99, 0, 0)}
    made = Made(**hostile)
    source = made.capsule() if bare else Modern(made)
    before = refusals("VE01")
    error = refused("VE01", fh.from_dlpack, source)
    assert f"{version[0]}.{version[1]}" in str(error) and error.decision.verdict == "reject"
    assert made.deletes == 1 and (not bare or name_of(source).startswith("used_"))
    assert refusals("VE01") == before + 1
    del source
    assert made.deletes == 1, "the capsule's own destructor must not call it again"
    planned = fh.plan(Modern(lambda **_: Made(**hostile)), "numpy")
    assert planned.verdict == "reject" and codes(planned) == ["VE01"]


def test_x11_a_plan_leaves_a_capsule_of_any_version_alone():
    """X11: a look at a capsule, whatever is in it, neither takes nor frees it."""
    for fields, wanted in (
        ({}, ("share", ["HT01"])),
        ({"legacy": True}, ("share", ["HT01"])),
        ({"version": (2, 0)}, ("reject", ["VE01"])),
        ({"ndim": -1}, ("reject", ["CP02"])),
        ({"flags": READ_ONLY}, ("copy", ["RO01", "HT01"])),
    ):
        made = Made(**fields)
        capsule = made.capsule()
        name = name_of(capsule)
        decision = fh.plan(capsule, "torch")
        assert (decision.verdict, codes(decision)) == wanted
        if decision:
            fh.explain(capsule)
            fh.ledger.owner(capsule)
        assert (name_of(capsule), made.deletes) == (name, 0)
        del capsule, decision  # a decision can be run, so it keeps its source
        assert (made.deletes, made.dropped) == (1, 1)


@pytest.mark.parametrize("asked", [None, (0, 8), (0, 0), (1, 0), (1, 1), (1, 3), (1, 99), (2, 0)])
def test_x11_what_we_export(asked):
    """X11: the capsule is what the consumer asked for, of the highest version that both sides know."""
    array = np.arange(4.0)
    capsule = fh.share(array).__dlpack__(max_version=asked)
    struct = opened(capsule)
    if asked is None or asked[0] < 1:
        assert name_of(capsule) == "dltensor"
    else:
        assert name_of(capsule) == "dltensor_versioned"
        assert (struct.major, struct.minor) == (min(asked, (1, 3)) if asked[0] == 1 else (1, 3)) and struct.flags == 0
    # Case 18: no consumer meets a NULL deleter or context of ours.
    assert struct.deleter and struct.manager_ctx
    assert struct.tensor.byte_offset == 0 and struct.tensor.strides and struct.tensor.lanes == 1
    t = torch.from_dlpack(capsule)
    t[0] = 9
    assert array[0] == 9


# -- case 15: hostile metadata -------------------------------------------------------------------------------------------

HOSTILE = {
    "ndim": {"ndim": -1},
    "ndim, least": {"ndim": -(2**31)},
    "ndim, too many": {"ndim": 65, "shape": (1,) * 65, "strides": (1,) * 65},
    "shape": {"shape": (-1,)},
    "shape, least": {"shape": (-(2**63),)},
    "shape, overflows": {"shape": (2**62, 8), "strides": (8, 1)},
    "shape, product overflows": {"shape": (2**33, 2**33), "strides": (0, 0)},
    "shape, NULL": {"shape": None, "strides": None, "ndim": 2},
    "strides": {"strides": (2**62,)},
    "strides, least": {"strides": (-(2**63),)},
    "dtype.lanes": {"dtype": (2, 64, 0)},
    "dtype.bits": {"dtype": (2, 0, 1)},
    "dtype.bits, odd": {"dtype": (2, 7, 1)},
    "dtype.code": {"dtype": (99, 8, 1)},
    "device.device_type": {"device": (99, 0)},
    "device.device_type, negative": {"device": (-1, 0)},
    "device.device_type, never assigned": {"device": (5, 0)},
    "device.device_id": {"device": (1, -1)},
    "data": {"data": 0},
    "byte_offset": {"byte_offset": 2**64 - 1},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("field", HOSTILE)
def test_x11_cases_9_and_15_hostile_metadata(field, legacy):
    """X11, cases 9 and 15: refused with the field named, the process alive, the deleter called once, by its owner."""
    fields = {**HOSTILE[field], "legacy": legacy}
    name = field.partition(",")[0]
    made = Made(**fields)
    error = refused("CP02", fh.from_dlpack, Modern(made))
    assert name in str(error) and isinstance(error, BufferError) and error.decision.codes == ("CP02",)
    # The producer's capsule was dropped unconsumed: its own destructor frees it.
    assert (made.deletes, made.dropped) == (1, 1)
    bare = Made(**fields)
    capsule = bare.capsule()
    refused("CP02", fh.share, capsule, "torch")
    assert bare.deletes == 0 and not name_of(capsule).startswith("used_"), "a refused capsule stays its owner's"
    del capsule
    assert bare.deletes == 1
    planned = fh.plan(Modern(lambda **_: Made(**fields)), "torch")
    assert planned.verdict == "reject" and codes(planned) == ["CP02"]


def test_x11_case_15_every_field_at_its_limits():
    """X11, case 15: any two fields at their limits at once: a tensor or a refusal, and each capsule freed once."""
    limits = [{"ndim": n} for n in (-1, 0, 2, 64, 2**31 - 1)]
    limits += [{"shape": shape, "strides": (1,) * len(shape)} for shape in ((2**63 - 1,), (0, 2**63 - 1), (-5, 0))]
    limits += [{"strides": (s,)} for s in (0, -1, 2**63 - 1, -(2**63))]
    limits += [{"dtype": (code, bits, lanes)} for code, bits, lanes in ((17, 4, 1), (255, 255, 65535), (6, 1, 1))]
    limits += [{"device": device} for device in ((0, 0), (18, 2**31 - 1), (-(2**31), -(2**31)))]
    limits += [{"byte_offset": offset} for offset in (1, 2**63, 2**64 - 16)] + [{"data": data} for data in (0, 1)]
    limits += [{"flags": 2**64 - 1}, {"manager_ctx": None}, {"legacy": True}]
    for one, other in itertools.combinations(limits, 2):
        fields = {**one, **other}
        if fields.get("ndim", 1) > 1 and "shape" not in fields:
            # The contract has `ndim` values behind the pointers: more than that is the producer's own memory error.
            fields |= {"shape": (1,) * min(fields["ndim"], 70), "strides": (1,) * min(fields["ndim"], 70)}
        made = Made(np.arange(16.0), **fields)
        try:
            x = fh.from_dlpack(Modern(made, device=fields.get("device")))
            repr(x), fh.explain(x)
            del x
        except fh.BoundaryError as error:
            assert error.code in ("CP02", "DV03"), (fields, error.code)
        fh.ledger.live()
        assert made.deletes == 1, fields


# -- X12: once -----------------------------------------------------------------------------------------------------------


def test_x12_consumed_twice():
    """X12: the second time is `reject CP01`, whoever was first; what the first has is untouched."""
    for legacy, first in itertools.product([False, True], [fh.from_dlpack, torch.from_dlpack]):
        made = Made(np.arange(3.0), legacy=legacy)
        capsule = made.capsule()
        x = first(capsule)
        before = counter("double_consumed")
        for call in (fh.from_dlpack, lambda c: fh.share(c, "torch"), lambda c: fh.copy(c, "numpy")):
            error = refused("CP01", call, capsule)
            assert "used_dltensor" in str(error)
        assert codes(fh.plan(capsule, "numpy")) == ["CP01"]
        assert counter("double_consumed") >= before + 3
        with pytest.raises(RuntimeError):
            torch.from_dlpack(capsule)
        np.asarray(x)[0] = 5
        assert made.array[0] == 5 and made.deletes == 0
        del x, capsule
        fh.ledger.live()
        assert made.deletes == 1


def test_x12_our_own_consumed_twice():
    """X12: our capsules are no exception: whoever took one, and of whatever version, we refuse it the second time."""
    for asked, first in itertools.product([None, (1, 3)], [fh.from_dlpack, torch.from_dlpack]):
        array = np.arange(3.0)
        capsule = fh.share(array).__dlpack__(max_version=asked)
        x = first(capsule)
        assert name_of(capsule).startswith("used_")
        before = counter("double_consumed")
        refused("CP01", fh.from_dlpack, capsule)
        assert counter("double_consumed") == before + 1
        np.asarray(x)[0] = 5
        assert array[0] == 5


def test_x12_never_consumed():
    """X12, case 4: our capsule that nobody took is freed and counted; theirs is freed by themselves."""
    array = np.arange(3.0)
    mark, references, before = fh.ledger.mark(), sys.getrefcount(array), counter("unconsumed_capsules")
    for asked in (None, (1, 3)):
        x = fh.share(array)
        capsule = x.__dlpack__(max_version=asked)
        del x
        # The record of the capsule is still open: its memory is lent to nobody knows whom.
        assert len(fh.ledger.leaks(since=mark)) == 2 and sys.getrefcount(array) == references + 1
        del capsule
        assert not fh.ledger.leaks(since=mark) and sys.getrefcount(array) == references
    assert counter("unconsumed_capsules") == before + 2
    made = Made()
    capsule = made.capsule()
    fh.plan(capsule)
    del capsule
    assert (made.deletes, made.dropped) == (1, 1)


def test_x12_pytorchs_own_rename_is_enough():
    """X12: a capsule of ours that PyTorch took is PyTorch's, and not counted when it is freed."""
    array = np.zeros(3)
    before = counter("unconsumed_capsules")
    capsule = fh.share(array).__dlpack__(max_version=(1, 0))
    t = torch.from_dlpack(capsule)
    del capsule
    t.fill_(1)
    assert array.tolist() == [1, 1, 1] and counter("unconsumed_capsules") == before


@pytest.mark.parametrize("steps", ["rename", "clear", "both"])
def test_x12_a_consumer_says_so_in_its_own_way(steps):
    """X12: numpy and torch rename, nanobind clears the destructor, JAX does both: each way the capsule is taken."""
    array = np.arange(3.0)
    before = counter("unconsumed_capsules")
    capsule = fh.share(array).__dlpack__(max_version=(1, 3))
    struct = opened(capsule)
    address, deleter = ctypes.addressof(struct), struct.deleter
    del struct
    if steps != "clear":
        producers.rename(capsule, b"used_dltensor_versioned")
    if steps != "rename":
        assert ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None) == 0
    del capsule
    assert ledger_of(array)[0] == "numpy", "taken, and not freed with the capsule"
    producers.call_with_gil(address, deleter)
    assert fh.ledger.owner(array) is None and counter("unconsumed_capsules") == before


def test_x12_case_4_consumed_and_then_an_exception():
    """X12, case 4: an exception between taking a capsule and the end loses nothing, and frees everything once."""
    made = Made()

    def work():
        x = fh.from_dlpack(made.capsule())
        y = fh.share(x, "torch")
        raise KeyError(int(y[0]))

    with pytest.raises(KeyError) as caught:
        work()
    assert caught.value.args == (1,) and made.deletes == 0, "the traceback holds the frame"
    del caught
    fh.ledger.live()
    assert made.deletes == 1


@pytest.mark.parametrize(
    "code, fields, call",
    [
        ("CP02", {"ndim": -1}, lambda p: fh.from_dlpack(p)),
        ("VE01", {"version": (3, 0)}, lambda p: fh.from_dlpack(p)),
        ("DV01", {"device": CUDA}, lambda p: fh.share(p, "numpy")),
        ("DV03", {"device": CUDA_HOST}, lambda p: fh.from_dlpack(Modern(p.made, device=CUDA))),
        ("DT02", {"dtype": (2, 64, 2), "shape": (1,)}, lambda p: fh.convert(p, "torch")),
        ("CA02", {"values": [2.5, 1.0]}, lambda p: fh.convert(p, "torch", dtype="int8")),
        ("RO01", {"flags": READ_ONLY}, lambda p: fh.share(p, "torch")),
        ("PO01", {"values": [1.0, 2.0]}, lambda p: fh.copy(p)),
    ],
)
def test_x12_case_4_refused_at_every_stage(code, fields, call):
    """X12, case 4: whatever refuses it, and wherever: the deleter runs exactly once, the exception is ours."""
    made = Made(**fields)
    limit = 8 if code == "PO01" else None
    with fh.policy(max_copy_bytes=limit):
        refused(code, call, Modern(made))
    fh.ledger.live()
    assert made.deletes == 1


def test_x12_case_4_the_callers_exception_survives_a_deleter():
    """X12, case 4: an exception on its way past an fh.Tensor's last reference arrives; the deleter, Python code, ran."""
    kept = []
    for make in (
        lambda made: fh.from_dlpack(Modern(made)),
        lambda made: fh.from_dlpack(Modern(made)).__dlpack__(),
        lambda made: fh.share(Modern(made), "numpy"),
        lambda made: memoryview(fh.from_dlpack(Modern(made))),
        lambda made: fh.plan(Modern(made)),
    ):
        made = Made()
        with pytest.raises(ZeroDivisionError):
            (lambda held: 1 // 0)(make(made))
        kept.append(made)
    fh.ledger.live()
    assert [made.deletes for made in kept] == [1] * len(kept)


def test_x12_case_3_one_buffer_many_capsules():
    """X12, case 3: the same memory taken N times by N consumers, let go in every order: N deleter calls, one buffer."""
    array = np.arange(4.0)
    for order in itertools.permutations(range(4)):
        made = [Made(array, legacy=i % 2 == 1) for i in range(4)]
        held = [fh.share(Modern(made[0])), fh.share(Modern(made[1]), "numpy"), fh.share(Modern(made[2]), "torch")]
        held.append(fh.share(fh.from_dlpack(made[3].capsule()), "torch"))
        assert len({fh.ledger.owner(x)["id"] for x in held}) == 1
        held[2][0] = 9.0
        assert all(np.asarray(x)[0] == 9 for x in held) and array[0] == 9
        for n, i in enumerate(order, 1):
            held[i] = None
            fh.ledger.live()
            assert sum(m.deletes for m in made) == n and made[i].deletes == 1
        assert fh.ledger.owner(array) is None


def test_x12_case_26_two_threads_one_capsule():
    """X12, case 26: of many threads that take one capsule, one has it; the others get CP01."""
    for _ in range(50):
        made = Made()
        capsule = made.capsule()
        start, got = threading.Barrier(4), []

        def work():
            start.wait()
            try:
                got.append(fh.from_dlpack(capsule))
            except fh.BoundaryError as error:
                got.append(error.code)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(x if isinstance(x, str) else "tensor" for x in got) == ["CP01"] * 3 + ["tensor"]
        got.clear()
        assert made.deletes == 1


# -- case 18, X15, case 19: NULLs and devices ------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_x11_case_18_no_deleter_and_no_context(legacy):
    """X11, case 18: a producer may have neither; our own capsules over its memory have both."""
    made = Made(np.arange(3.0), deleter=False, manager_ctx=None, legacy=legacy)
    x = fh.from_dlpack(made.capsule())
    again = opened(x.__dlpack__(max_version=(1, 0)))
    assert again.deleter and again.manager_ctx
    t = fh.share(x, "torch")
    t[0] = 4
    assert made.array[0] == 4
    del x, t
    assert made.deletes == 0


def test_x15_case_19_the_tuple_and_the_capsule():
    """X15, case 19: who says what, and who is believed: a contradiction is a refusal that names both."""
    error = refused("DV03", fh.from_dlpack, Modern(Made(), device=CUDA))
    assert "cuda:0" in str(error) and "cpu" in str(error)
    refused("DV03", fh.from_dlpack, Modern(Made(device=(2, 1)), device=(2, 0)))
    # Paddle says None for the host's index; dlpack.h says that the host has no other index than 0.
    assert fh.from_dlpack(Modern(Made(), device=(1, None))).device == "cpu"
    x = fh.from_dlpack(Modern(Made(device=(1, 7))))
    assert (x.device, x.__dlpack_device__()) == ("cpu", (1, 0))
    # PyTorch announces pinned memory as kDLCUDAHost and describes it as kDLCPU: either is host memory.
    for says, is_ in ((CUDA_HOST, (1, 0)), ((1, 0), CUDA_HOST)):
        made = Made(device=is_)
        a = fh.share(Modern(made, device=says), "numpy")
        a[0] = 3
        assert made.array[0] == 3


def test_x15_case_19_host_memory_of_a_device():
    """X15, case 19: pinned memory is host memory: shared with numpy and torch, who know only "cpu"."""
    made = Made(device=CUDA_HOST)
    x = fh.from_dlpack(Modern(made))
    assert x.device == "cuda_host:0" and x.__dlpack_device__() == CUDA_HOST
    for to in ("numpy", "torch"):
        y = fh.share(x, to)
        y[1] = y[1] + 1
    assert made.array[1] == 4


def test_x15_memory_that_the_host_cannot_read_is_not_read():
    """X15: a tensor on a device that is not here is carried, described and handed on, and never touched."""
    made = Made(device=CUDA, data=0xDEAD000)
    x = fh.from_dlpack(Modern(made))
    assert (x.device, x.shape) == ("cuda:0", (3,)) and "cuda:0" in fh.explain(x)
    assert opened(x.__dlpack__(max_version=(1, 3))).tensor.data == 0xDEAD000
    for call in (lambda: fh.convert(x, "numpy"), lambda: np.asarray(x), lambda: memoryview(x)):
        assert "move it" in str(refused("DV01", call))
    refused("DV02", fh.convert, fh.copy([1.0]), device="cuda:0")
