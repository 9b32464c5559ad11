"""The hard cases of DLPack, each with the tests that prove it, by file (without `test_`) and name.

| case | what a correct runtime does | proved by |
|---|---|---|
| 1 | read-only memory is never silently writable | rows_x_protocol: x16_case_1_an_immutable_producer_into_torch; rows_x_layouts: x16_case_1_read_only_memory_is_never_silently_writable |
| 2 | copy=True copies, whatever the producer says | rows_x_copies: x21_case_2_a_producer_that_only_says_so |
| 3 | one buffer imported N times, let go in any order | rows_x_capsules: x12_case_3_one_buffer_many_capsules; frameworks_paddle: X13_paddle_loses_a_deleter_when_two_tensors_have_one_address; hard_cases: x25_case_27_every_round_trip |
| 4 | dropped, refused half-way, consumed and then an exception | rows_x_capsules: x12_never_consumed, x12_case_4_consumed_and_then_an_exception, x12_case_4_refused_at_every_stage, x12_case_4_the_callers_exception_survives_a_deleter |
| 5 | deleters on any thread, and after the interpreter | rows_x_threads: x13_case_5_a_deleter_on_any_thread, x13_case_5_shutdown; shutdown: x13_case_5_alive_at_the_end |
| 6 | byte_offset is honoured coming in and folded going out | rows_x_layouts: x11_case_6_an_offset_is_honoured_and_folded |
| 7 | strides NULL are compact; ours are always written | rows_x_layouts: x09_case_7_no_strides |
| 8 | an unknown major version: one deleter call, nothing else | rows_x_capsules: x11_case_8_an_unknown_major_version |
| 9 | newer minor versions pass, unknown values are named | rows_x_capsules: x11_case_9_every_known_capsule_is_shared, x11_cases_9_and_15_hostile_metadata |
| 10 | no elements: any address, and NULL going out | rows_x_layouts: x09_case_10_nothing_in_it |
| 11 | no dimensions, with NULL shape and strides | rows_x_layouts: x09_case_11_no_dimensions |
| 12 | strides of dimensions of size 1 mean nothing | rows_x_layouts: x09_case_12_a_stride_that_means_nothing |
| 13 | negative strides: shared, or one copy; the lowest address is on the ledger | rows_x_layouts: x25_case_13_a_negative_stride_has_its_lowest_address_on_the_ledger; matrix: each_pair_does_what_it_planned |
| 14 | overlapping elements are never lent writable | rows_x_layouts: x10_case_14_shared_read_only |
| 15 | hostile metadata is refused by checked arithmetic | rows_x_capsules: x11_cases_9_and_15_hostile_metadata, x11_case_15_every_field_at_its_limits; rows_x_layouts: x08_case_15_a_capsule_with_an_odd_address |
| 16 | alignment below JAX's 64: said, or refused; ours is enough | frameworks_jax: X08_unaligned_memory_is_copied_by_us_and_said, X08_what_we_allocate_is_shared |
| 17 | graphs, lazy bits, sparse, meta and fake tensors | rows_x_values: x01_case_17_both_ways_out_of_pytorch, x01_case_17_a_graph_and_a_lazy_bit; rows_x_protocol: x19_case_17_nothing_to_share; frameworks_torch: X19_nothing_to_share_has_a_reason |
| 18 | no deleter, no context: taken, and never given | rows_x_capsules: x11_case_18_no_deleter_and_no_context |
| 19 | the device tuple against the capsule's | rows_x_capsules: x15_case_19_the_tuple_and_the_capsule, x15_case_19_host_memory_of_a_device |
| 20 | bf16, f8, f4, bool, complex32, uint16 keep their bits | rows_x_values: x05_case_20_round_trips_keep_every_bit, x05_case_20_sub_byte_elements, x05_case_20_vectors_are_named |
| 21 | byte order, long double, dates, objects, fields, masks | rows_x_values: x06_refused_with_a_recipe_that_runs, x04_convert_swaps_and_share_refuses, x02_a_mask_is_never_dropped; rows_x_layouts: x07_a_field_of_a_packed_record |
| 22 | one call with the right arguments; its own error arrives | rows_x_protocol: x26_case_22_a_genuine_error_arrives_after_one_call, x26_case_22_every_signature_is_called_once_and_right |
| 23 | host objects get no stream (streams of devices need one) | rows_x_protocol: x26_case_23_a_host_object_gets_no_stream; array_api: X11_every_call_of_our_method_keeps_the_contract |
| 24 | memory that moves under a view: refused where the owner can | rows_x_lifetimes: x22_case_24_what_pytorch_lets_happen_today, x22_what_is_lent_cannot_be_resized; frameworks_jax: X13_what_is_lent_is_not_donated, X19_a_deleted_or_donated_array_is_gone |
| 25 | the C exchange table, theirs and ours | rows_x_exchange: x26_case_25_our_table_is_on_the_type_and_complete, x26_case_25_out_and_in_by_the_table, x26_case_25_the_allocator_reports_errors, x26_case_25_a_table_of_another_type |
| 26 | one capsule, many threads | rows_x_capsules: x12_case_26_two_threads_one_capsule; hard_cases: x12_case_26_a_race_for_every_kind_of_capsule |
| 27 | forks, workers, and round trips through frameworks | rows_x_threads: x24_case_27_a_child_frees_nothing_of_its_parent; shutdown: x24_workers_of_a_data_loader; rows_x_copies: x25_case_27_round_and_round; hard_cases: x25_case_27_every_round_trip |
"""

import gc
import itertools
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import freehold as fh
from frameworks import aligned, framework, pointer
from producers import Made, refused
from row_tools import ledger_of

framework("paddle")
framework("tvm_ffi")


def test_every_case_is_proved_by_tests_that_exist():
    """The table above names 27 cases and no test that is not there."""
    rows = [line.split("|")[1:-1] for line in __doc__.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 28))
    for case, _, proofs in rows:
        for proof in proofs.split(";"):
            file, names = proof.split(":")
            text = (Path(__file__).parent / f"test_{file.strip()}.py").read_text(encoding="utf-8")
            for name in names.split(","):
                assert f"\ndef test_{name.strip()}(" in text, f"case {case}: {file}: {name}"


# -- case 27: every round trip through three of the frameworks that share writable memory --------------------------------------

RELEASES = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)]
RING = ["numpy", "torch", "paddle", "tvm_ffi", None]


@pytest.mark.parametrize("ring", list(itertools.permutations(RING, 3)), ids=str)
def test_x25_case_27_every_round_trip(ring):
    """X25, cases 3 and 27: A -> B -> C -> A: one address, one buffer, one owner, in whatever order they are let go."""
    for release in RELEASES:
        array = aligned(np.arange(4, dtype="f4"))
        hops = [fh.share(array, ring[0])]
        for to in (ring[1], ring[2], ring[0]):
            hops.append(fh.share(hops[-1], to))
        assert len({pointer(hop) for hop in hops} | {array.ctypes.data}) == 1
        assert ledger_of(array)[0] == "numpy" and len(fh.ledger.live()) == 1
        array[2] = 9
        assert [fh.copy(hop, "numpy").tolist() for hop in hops] == [[0, 1, 9, 3]] * 4
        for i in release:
            hops[i] = None
            left = [hop for hop in hops if hop is not None]
            assert [fh.copy(hop, "numpy")[2] for hop in left] == [9] * len(left)
            fh.ledger.live()
            assert (fh.ledger.owner(array) is None) == all(hop is array for hop in left)
        del left
        fh.ledger.live()
        assert fh.ledger.owner(array) is None


@pytest.mark.parametrize("to", ["jax", "mlx", "pyarrow"])
def test_x25_case_27_a_round_trip_through_what_never_changes(to):
    """X25: through an immutable framework and back it is read-only, and still the same buffer where nothing was copied."""
    framework({"mlx": "mlx.core"}.get(to, to))
    owned = fh.copy(np.arange(4, dtype="f4"))
    there = fh.convert(owned, to, freeze=True)
    back = fh.share(fh.share(there), "numpy")
    assert back.tolist() == [0, 1, 2, 3] and pointer(back) == pointer(there)
    assert back.flags.writeable == (to == "mlx")
    if to != "mlx":
        again = fh.share(fh.share(fh.share(there)), to)
        assert pointer(again) == pointer(there) and len(fh.ledger.live()) == 1
        del again
    del owned, there, back
    gc.collect()
    assert fh.ledger.live() == []


# -- case 26: races ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("whose", ["theirs", "ours"])
@pytest.mark.parametrize("verb", [fh.from_dlpack, lambda c: fh.share(c, "torch"), lambda c: fh.copy(c, "numpy")])
def test_x12_case_26_a_race_for_every_kind_of_capsule(whose, legacy, verb):
    """X12, case 26: of eight threads with one capsule, one gets the tensor, the others CP01, and it is freed once."""
    for _ in range(10):
        mark, made = fh.ledger.mark(), Made([1.0, 2.0], legacy=legacy)
        capsule = made.capsule() if whose == "theirs" else fh.copy([1.0, 2.0]).__dlpack__(max_version=None if legacy else (1, 3))
        start, got = threading.Barrier(8), []

        def work():
            start.wait()
            try:
                got.append(verb(capsule))
            except fh.BoundaryError as error:
                got.append(error.code)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = [x for x in got if not isinstance(x, str)]
        assert len(taken) == 1 and [x for x in got if isinstance(x, str)] == ["CP01"] * 7 and np.asarray(taken[0]).tolist() == [1, 2]
        refused("CP01", verb, capsule)
        del taken, threads
        got.clear()
        fh.ledger.live()
        assert made.deletes == (whose == "theirs") and not fh.ledger.leaks(since=mark)


def test_x13_one_tensor_lent_by_many_threads_at_once():
    """X13: threads that lend and let go of the same memory through different frameworks leave nothing behind."""
    array, stop, wrong = np.arange(4, dtype="f4"), threading.Event(), []
    references = fh.ledger.stats()["live"]

    def work(to):
        while not stop.is_set():
            held = [fh.share(fh.share(array, to), "numpy") for _ in range(8)]
            if any(view.tolist() != [0, 1, 2, 3] for view in held):
                wrong.append(to)

    threads = [threading.Thread(target=work, args=(to,)) for to in ("torch", "tvm_ffi", None, "numpy")]
    for thread in threads:
        thread.start()
    stop.wait(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    gc.collect(0)
    fh.ledger.live()
    assert fh.ledger.stats()["live"] == references


# -- exceptions in the middle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["torch", "numpy", "paddle", "tvm_ffi", None])
def test_x13_an_exception_in_every_frame_of_a_generator(to):
    """X13: views in the frames of a generator that an exception unwinds, thrown in or raised, are given back."""
    array = np.arange(4, dtype="f4")

    def lend(depth):
        view = fh.share(array, to)
        try:
            if depth:
                yield from lend(depth - 1)
            else:
                yield view
                raise KeyError("inside")
        finally:
            assert np.asarray(fh.share(view, "numpy")).tolist() == [0, 1, 2, 3]

    for end in (lambda steps: steps.throw(ValueError("outside")), next):
        steps = lend(4)
        next(steps)
        with pytest.raises((ValueError, KeyError)):
            end(steps)
        del steps
        fh.ledger.live()
        assert fh.ledger.owner(array) is None
