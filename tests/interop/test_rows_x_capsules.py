"""Rows X11, X12, X15, X20, X21: what comes in a capsule, hostile or odd, and what goes out in ours.

"Case n" is the n-th hard case of the conformance list: what a correct runtime does with a capsule that the frameworks of
today get wrong.
"""

import ctypes
import itertools
import threading

import numpy as np
import pytest
import torch

import freehold as fh
import producers
from capsules import IS_COPIED, READ_ONLY, Versioned, name_of
from producers import CUDA, CUDA_HOST, ExchangeTable, Made, Modern, counter, fresh, opened, refused, take
from row_tools import codes, do, ledger_of

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


@pytest.mark.parametrize("version", [(0, 8), (2, 0), (2**32 - 1, 0)])
@pytest.mark.parametrize("bare", [False, True])
def test_x11_case_8_an_unknown_major_version(version, bare):
    """X11, case 8: the deleter is called once and nothing else is read, not even a pointer that would crash."""
    hostile = {"version": version, "ndim": 7, "data": 8, "shape": None, "dtype": (99, 0, 0)}
    made = Made(**hostile)
    source = made.capsule() if bare else Modern(made)
    before = {row["code"]: row["count"] for row in fh.ledger.stats()["refused"]}
    error = refused("VE01", fh.from_dlpack, source)
    assert f"{version[0]}.{version[1]}" in str(error) and error.decision.verdict == "reject"
    assert made.deletes == 1
    after = {row["code"]: row["count"] for row in fh.ledger.stats()["refused"]}
    assert after["VE01"] == before.get("VE01", 0) + 1
    del source
    assert made.deletes == 1, "the capsule's own destructor must not call it again"
    planned = fh.plan(Modern(lambda **_: Made(**hostile)), "numpy")
    assert planned.verdict == "reject" and codes(planned) == ["VE01"]


def test_x11_a_plan_leaves_a_capsule_of_any_version_alone():
    """X11: a look at a capsule, whatever is in it, neither takes nor frees it."""
    for fields in ({}, {"legacy": True}, {"version": (2, 0)}, {"ndim": -1}, {"flags": READ_ONLY}):
        made = Made(**fields)
        capsule = made.capsule()
        name = name_of(capsule)
        decision = fh.plan(capsule, "torch")
        wanted = {"version": ["VE01"], "ndim": ["CP02"]}
        assert codes(decision)[:1] == wanted.get(next(iter(fields), ""), codes(decision)[:1])
        if decision:
            fh.explain(capsule)
            fh.ledger.owner(capsule)
        assert (name_of(capsule), made.deletes) == (name, 0)
        del capsule
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


def test_x12_never_consumed():
    """X12, case 4: our capsule that nobody took is freed and counted; theirs is freed by themselves."""
    array = np.arange(3.0)
    mark, before = fh.ledger.mark(), counter("unconsumed_capsules")
    for asked in (None, (1, 0)):
        x = fh.share(array)
        capsule = x.__dlpack__(max_version=asked)
        del x
        # The record of the capsule is still open: its memory is lent to nobody knows whom.
        assert len(fh.ledger.leaks(since=mark)) == 2
        del capsule
        assert not fh.ledger.leaks(since=mark)
    assert counter("unconsumed_capsules") == before + 2
    made = Made()
    capsule = made.capsule()
    fh.plan(capsule)
    del capsule
    assert (made.deletes, made.dropped) == (1, 1)


@pytest.mark.parametrize("steps", ["rename", "clear", "both"])
def test_x12_a_consumer_says_so_in_its_own_way(steps):
    """X12: numpy and torch rename, nanobind clears the destructor, JAX does both: each way the capsule is taken."""
    array = np.arange(3.0)
    before = counter("unconsumed_capsules")
    capsule = fh.share(array).__dlpack__(max_version=(1, 3))
    struct = opened(capsule)
    address, deleter = ctypes.addressof(struct), struct.deleter
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
        made = [Made(array) for _ in range(4)]
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
        refused("DV01", call)
    refused("DV02", fh.convert, fh.copy([1.0]), device="cuda:0")


# -- X20: one class ----------------------------------------------------------------------------------------------------


def test_x20_both_classes_that_the_standard_names():
    """X20: copy=False that cannot be is BufferError in one part of the standard and ValueError in another: ours is both."""
    x = np.arange(3.0)[::-1]
    for call in (
        lambda: fh.share(x, "torch"),
        lambda: fh.convert(x, "torch", copy=False),
        lambda: fh.from_dlpack(np.arange(3, dtype=">i4"), copy=False),
        lambda: fh.copy(x).__dlpack__(dl_device=CUDA, copy=False),
        lambda: fh.share(np.array(["a"])),
        lambda: fh.share([1, 2]),
        lambda: fh.share(object()),
        lambda: fh.from_dlpack(Made(version=(9, 0)).capsule()),
    ):
        for kind in (BufferError, ValueError, fh.BoundaryError):
            with pytest.raises(kind):
                call()
    assert issubclass(fh.BoundaryError, BufferError) and issubclass(fh.BoundaryError, ValueError)
    with pytest.raises(ValueError):  # what PyTorch raises where the standard says BufferError
        torch.from_dlpack(np.arange(4.0), copy=False, device="meta")


# -- X21, case 2: copies -------------------------------------------------------------------------------------------------


def test_x21_the_flag_is_true_going_out():
    """X21: IS_COPIED is on what was copied for this consumer alone, and on nothing else."""
    flags = lambda x, **asked: opened(x.__dlpack__(max_version=(1, 3), **asked)).flags  # noqa: E731
    x = np.arange(3.0)
    assert flags(fh.share(x)) == 0 and flags(fh.share(x), copy=True) == IS_COPIED
    copied = fh.copy(x)
    assert flags(copied) == IS_COPIED
    # A second consumer makes two owners: neither is told that it is alone from then on.
    first = copied.__dlpack__(max_version=(1, 3))
    assert opened(first).flags == IS_COPIED and flags(copied) == 0
    del first
    assert flags(copied) == IS_COPIED
    view = np.asarray(copied)
    assert flags(copied) == 0
    view[0] = 8
    assert np.from_dlpack(copied)[0] == 8
    del view
    assert flags(fh.share(copied, writable=False)) == READ_ONLY, "a view of a copy is no copy"
    table = ExchangeTable.of(fh.Tensor)
    managed = table.managed_from(fh.copy(x))
    assert managed.flags == IS_COPIED
    producers.call_with_gil(ctypes.addressof(managed), managed.deleter)


def test_x21_what_pytorch_says_today():
    """X21: PyTorch does not say that it copied, so its capsules are never believed to be copies, nor not to be."""
    t = torch.zeros(3)
    assert opened(t.__dlpack__(max_version=(1, 3), copy=True)).flags == 0, "PyTorch sets IS_COPIED now"
    a = np.zeros(3)
    assert opened(a.__dlpack__(max_version=(1, 3), copy=True)).flags == IS_COPIED


@pytest.mark.parametrize("flags", [0, IS_COPIED])
@pytest.mark.parametrize("to", TARGETS)
def test_x21_case_2_a_producer_that_only_says_so(to, flags):
    """X21, case 2: asked to copy it would not, and its flag says it did: Freehold copies itself, and checks by address."""
    array = np.arange(3.0)
    producer = fresh(array, flags=flags)
    decision, copied = do("copy", producer, to)
    assert decision.steps == ("fresh",) and decision.bytes_copied == 24
    assert all("copy" not in asked for asked in producer.calls), "we copy, so nobody is asked to"
    array[0] = 9
    assert np.asarray(copied)[0] == 0
    np.asarray(copied)[1] = 5
    assert array[1] == 1
    assert opened(fh.from_dlpack(fh.copy(producer)).__dlpack__(max_version=(1, 0))).flags == IS_COPIED


def test_x21_a_claim_is_checked_against_the_ledger():
    """X21: memory that somebody is known to hold was not copied for us, whatever the flag says."""
    array = np.arange(3.0)
    said = lambda x: opened(x.__dlpack__(max_version=(1, 3))).flags  # noqa: E731
    alone = fh.from_dlpack(Modern(Made(array, flags=IS_COPIED)))
    assert said(alone) == IS_COPIED
    del alone
    holder = fh.share(array, "torch")
    second = fh.from_dlpack(Modern(Made(array, flags=IS_COPIED)))
    assert said(second) == 0
    holder[0] = 6
    assert np.from_dlpack(second)[0] == 6


# -- case 27: round trips --------------------------------------------------------------------------------------------------


def test_x25_case_27_round_and_round():
    """X25, case 27: A -> B -> C -> A: one buffer, one owner, every hop on it, and READ_ONLY is never lost on the way."""
    array = np.arange(4.0)
    hops = [array]
    for to in ["torch", None, "numpy", None, "torch", "numpy", None]:
        hops.append(fh.share(hops[-1], to))
    hops.append(fh.from_dlpack(hops[-1].__dlpack__()))
    hops.append(torch.from_dlpack(hops[-1]))
    hops.append(fh.share(hops[-1], "numpy"))
    assert len({fh.ledger.owner(x)["id"] for x in hops}) == 1
    assert len(fh.ledger.live()) == 1 and ledger_of(array)[0] == "numpy"
    hops[-1][3] = 33
    hops[1][0] = 11
    assert all(np.asarray(x).tolist() == [11, 1, 2, 33] for x in hops)
    array.flags.writeable = False
    view = fh.share(array)
    for _ in range(5):
        view = fh.share(fh.share(np.from_dlpack(fh.share(view)), "numpy"))
        assert not view.writable
    refused("RO01", lambda: view.__dlpack__())
    del hops, view
    fh.ledger.live()
    assert fh.ledger.owner(array) is None


def test_x12_a_capsule_survives_the_producers_object():
    """X12: the tensor lives as long as the capsule, whatever becomes of the object and of its memory's name."""
    made = Made(np.arange(3.0))
    producer = Modern(made)
    x = fh.share(producer, "torch")
    del producer
    assert x.tolist() == [0, 1, 2] and made.deletes == 0
    del x
    fh.ledger.live()
    assert made.deletes == 1


def test_x12_take_and_release_from_c():
    """X12: a C consumer takes our capsule, keeps it past everything else, and calls the deleter once."""
    array = np.arange(3.0)
    address, deleter = take(fh.share(array).__dlpack__(max_version=(1, 3)))
    struct = Versioned.from_address(address)
    ctypes.c_double.from_address(struct.tensor.data).value = 42.0
    assert array[0] == 42 and ledger_of(array)[0] == "numpy"
    producers.call_with_gil(address, deleter)
    assert fh.ledger.owner(array) is None

