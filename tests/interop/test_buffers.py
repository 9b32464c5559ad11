"""The buffer protocol, `__array_interface__` and `__cuda_array_interface__`: every code of a format, every view of a
memoryview, and dictionaries that say too little or too much. NumPy's reading of the same object is the expected one."""

import ctypes
import mmap
import pickle
import struct
from multiprocessing import shared_memory

import numpy as np
import pytest
import torch

import freehold as fh
from producers import refused

pytestmark = pytest.mark.flat

# -- formats -------------------------------------------------------------------------------------------------------------------

NATIVE = "bBhHiIlLqQnNefdP?c"
STANDARD = "bBhHiIlLqQefd?"


@pytest.mark.parametrize("code", NATIVE)
def test_every_native_code_of_struct(code):
    size = struct.calcsize(code)
    memory = bytearray(range(4 * size))
    if code == "?":
        memory = bytearray([0, 1, 1, 0])
    view = memoryview(memory).cast(code) if code != "e" else memoryview(np.frombuffer(memory, "e"))
    x = fh.share(view, "numpy")
    kind = {"P": f"u{size}", "c": "u1", "n": f"i{size}", "N": f"u{size}"}.get(code, code)
    assert x.dtype == np.dtype(kind) and x.tobytes() == bytes(memory)
    x.view("u1")[0] = 1
    assert memory[0] == 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", STANDARD)
def test_every_standard_code_in_both_orders(order, code):
    dtype = np.dtype(order + code)
    a = np.arange(3).astype(dtype)
    x = fh.convert(memoryview(a), "numpy")
    assert x.dtype == dtype.newbyteorder("=") and x.tolist() == a.tolist()
    if dtype.isnative:
        assert np.shares_memory(x, a)
    else:
        refused("BO01", fh.share, memoryview(a), "numpy")


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_numbers(dtype):
    a = np.array([1 + 2j, 3 - 4j], dtype)
    assert np.array_equal(fh.share(memoryview(a), "numpy"), a)
    assert fh.convert(memoryview(a.astype(np.dtype(dtype).newbyteorder(">"))), "numpy").tolist() == a.tolist()


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_float)]


NO_NUMBERS = {
    "records": lambda: (Pair * 2)(),
    "a record": lambda: Pair(),
    "a record of NumPy's": lambda: memoryview(np.zeros(2, [("a", "i4"), ("b", "f4")])),
    "text": lambda: memoryview(np.array(["ab", "c"])),
    "wide characters": lambda: (ctypes.c_wchar * 2)(),
    "long doubles": lambda: memoryview(np.zeros(2, "g")),
    "complex long doubles": lambda: memoryview(np.zeros(2, "G")),
    "pointers to objects": lambda: (ctypes.py_object * 2)(),
    "pointers to characters": lambda: (ctypes.c_char_p * 2)(),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_X06_a_format_that_is_no_number(name):
    x = NO_NUMBERS[name]()
    error = refused("DT03", fh.share, x, "numpy")
    assert "format" in str(error) and fh.plan(x, "numpy").codes == ("DT03",)
    raw = fh.share(eval(error.fixes[0], {"x": x}), "numpy")
    assert raw.dtype == np.uint8 and raw.size == memoryview(x).nbytes


class Either(ctypes.Union):
    _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_float)]


@pytest.mark.parametrize("x", [Either(), (Either * 2)()], ids=["one", "two"])
def test_X06_a_union_is_not_a_number_of_its_size(x):
    """X06: ctypes says that a union is bytes, four of them an item; neither is it an integer of four bytes."""
    assert '"B", of 4 bytes' in str(refused("DT03", fh.share, x, "numpy"))


@pytest.mark.parametrize("make", [ctypes.c_int32, ctypes.c_double, ctypes.c_uint16])
def test_X04_the_other_byte_order_of_ctypes(make):
    """X04: arrays, and one value without dimensions."""
    held = (make.__ctype_be__ * 2)(1, 258)
    refused("BO01", fh.share, held)
    assert fh.convert(held, "numpy").tolist() == [1, 258] and fh.convert(make.__ctype_be__(7), "numpy").tolist() == 7


@pytest.mark.parametrize("count", [0, 3])
def test_X09_arrays_of_ctypes_without_elements(count):
    """X09: nothing in it, in the first or in the last dimension."""
    assert fh.share((ctypes.c_int * 0 * count)(), "numpy").shape == (count, 0)
    assert fh.share((ctypes.c_int * count * 0)(), "numpy").shape == (0, count)


class View(ctypes.Structure):
    """`Py_buffer`, of which the interpreter fills in what it is given."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("buf", "obj")]
    _fields_ += [("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("format", "shape", "strides", "suboffsets", "internal")]


def of_rows(rows, suboffset=0):
    """A memoryview whose memory is pointers to rows, as PIL's images once were; what it points to is kept beside it."""
    rows = [ctypes.create_string_buffer(row, len(row)) for row in rows]
    pointers = (ctypes.c_void_p * len(rows))(*map(ctypes.addressof, rows))
    sizes = ctypes.c_ssize_t * 2
    shape, strides, below = sizes(len(rows), len(rows[0])), sizes(8, 1), sizes(suboffset, -1)
    image = View(ctypes.addressof(pointers), None, sum(map(len, rows)), 1, 1, 2)
    image.format, image.shape, image.strides, image.suboffsets = (
        ctypes.cast(b"B", ctypes.c_void_p), ctypes.addressof(shape), ctypes.addressof(strides), ctypes.addressof(below)
    )
    make = ctypes.pythonapi.PyMemoryView_FromBuffer
    make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(View)]
    return make(image), (rows, pointers, shape, strides, below)


def test_rows_that_lie_apart_are_refused_with_a_way_out():
    """A buffer with suboffsets is no tensor; NumPy does not take it either."""
    x, kept = of_rows([b"abc", b"def"])
    with pytest.raises((BufferError, ValueError)):
        np.asarray(x)
    error = refused("OB01", fh.share, x, "numpy")
    assert "suboffsets" in str(error) and fh.plan(x, "numpy").codes == ("OB01",)
    names = {"x": x}
    exec(error.fixes[0], names)
    assert fh.copy(names["x"], "numpy").tolist() == [[97, 98, 99], [100, 101, 102]]
    del kept


CTYPES = ["bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "longlong", "ulonglong", "size_t"]
CTYPES += ["ssize_t", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double"]


@pytest.mark.parametrize("name", CTYPES)
def test_arrays_and_scalars_of_ctypes(name):
    kind = getattr(ctypes, f"c_{name}")
    held = (kind * 3 * 2)((1, 0, 1), (0, 1, 0))
    x = fh.share(held, "numpy")
    assert x.dtype == np.dtype(kind) and x.tolist() == [[1, 0, 1], [0, 1, 0]]
    x[0, 0] = 0
    assert held[0][0] == 0
    one = kind(1)
    fh.share(one, "numpy")[()] = 0
    assert one.value == 0 and fh.share(one, "numpy").shape == ()


# -- memory and its views --------------------------------------------------------------------------------------------------------


def test_views_of_a_view():
    memory = bytearray(range(24))
    whole = memoryview(memory)
    for view in (whole[::-1], whole[::2], whole[5:], whole[5:5], whole[20:2:-3], whole.cast("B", (2, 3, 4)),
                 whole.cast("h"), whole.cast("i", (2, 3)), whole[:4].cast("i", []), whole.toreadonly()):
        x = fh.share(view, "numpy")
        assert np.array_equal(x, np.asarray(view)) and x.strides == np.asarray(view).strides
        assert x.flags.writeable != view.readonly and (x.size == 0 or np.shares_memory(x, np.frombuffer(memory, "u1")))
        assert fh.copy(view, "torch").tolist() == view.tolist()


def test_X25_views_of_one_block_are_one_buffer():
    """X25: cut, stepped, turned round and cast, a memoryview is a view of the block that it came from."""
    memory = bytearray(64)
    start = np.frombuffer(memory, "u1").ctypes.data
    whole = memoryview(memory)
    held = [fh.share(view) for view in (memory, whole, whole[::-1], whole[::2], whole[40:8:-4], whole[8:], whole.cast("d")[1:3])]
    assert len({fh.ledger.owner(x)["id"] for x in held}) == len(fh.ledger.live()) == 1
    assert {(int(fh.ledger.owner(x)["base"], 16), fh.ledger.owner(x)["len"]) for x in held} == {(start, 64)}


def test_X25_a_view_of_scattered_memory_claims_none_that_is_not_its_own():
    array = np.zeros(64, "u1")[::2]
    x = fh.share(memoryview(array)[::-1])
    buffer = fh.ledger.owner(x)
    assert (int(buffer["base"], 16), buffer["len"]) == (array.ctypes.data, 63)


def test_X18_a_small_view_of_a_large_block_says_so():
    assert "HT02" in fh.plan(memoryview(bytearray(10_000_000))[5:50], "numpy").codes


def test_what_is_lent_stays_where_it_is(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(16)))
    with open(path, "r+b") as file:
        for access, writable in ((mmap.ACCESS_READ, False), (mmap.ACCESS_WRITE, True), (mmap.ACCESS_COPY, True)):
            mapped = mmap.mmap(file.fileno(), 0, access=access)
            x = fh.share(mapped, "numpy")
            assert x.tolist() == list(range(16)) and x.flags.writeable == writable
            with pytest.raises(BufferError):
                mapped.close()
            if not writable:
                refused("RO01", fh.share, mapped, "torch")
            del x
            mapped.close()
    shared = shared_memory.SharedMemory(create=True, size=16)
    try:
        x = fh.share(shared.buf, "torch")
        x[3] = 7
        assert shared.buf[3] == 7
        del x
        fh.ledger.live()
    finally:
        shared.close()
        shared.unlink()


def test_bytes_in_other_clothes():
    for make in (bytes, bytearray, memoryview, pickle.PickleBuffer):
        x = fh.convert(make(b"abc"), "numpy")
        assert x.tolist() == [97, 98, 99] and fh.share(make(b"")).shape == (0,)
    released = memoryview(b"abc")
    released.release()
    with pytest.raises(ValueError, match="released"):
        fh.share(released)


# -- the array interface ---------------------------------------------------------------------------------------------------------


class Interface:
    """An object that has an interface, whatever is in it."""

    def __init__(self, interface, name="__array_interface__"):
        setattr(self, name, interface)


ABSENT = object()


def interface(**changes):
    a = np.arange(6, dtype="f4")
    made = Interface({key: value for key, value in {**a.__array_interface__, **changes}.items() if value is not ABSENT})
    made.array = a
    return made


@pytest.mark.parametrize("version", [3, 2, ABSENT])
def test_an_interface_of_any_version(version):
    x = interface(version=version)
    y = fh.share(x, "numpy")
    y[2] = 9
    assert x.array[2] == 9


def test_X02_a_mask_is_never_dropped():
    for mask in (np.ones(6, bool), [1] * 6):
        x = interface(mask=mask)
        assert "mask" in str(refused("NU01", fh.share, x, "numpy")) and fh.plan(x, "numpy").codes == ("NU01",)
        refused("NU01", fh.copy, x, "torch")
    assert fh.share(interface(mask=None), "numpy").size == 6


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": None}, "OB01"),
        ({"data": ABSENT}, "OB01"),
        ({"data": 5}, "OB01"),
        ({"data": (1, 2, 3)}, "OB01"),
        ({"shape": ABSENT}, "OB01"),
        ({"shape": 3}, "OB01"),
        ({"shape": (-2,)}, "CP02"),
        ({"shape": (1 << 62, 8)}, "CP02"),
        ({"typestr": ABSENT}, "OB01"),
        ({"typestr": 4}, "OB01"),
        ({"typestr": "<f16"}, "DT03"),
        ({"typestr": "|V4"}, "DT03"),
        ({"typestr": "|t1"}, "DT03"),
        ({"typestr": "|O8"}, "DT03"),
        ({"typestr": ""}, "DT03"),
        ({"strides": "no"}, "OB01"),
        ({"strides": (4, 4)}, "OB01"),
        ({"data": (0, False)}, "CP02"),
    ],
)
def test_an_interface_that_makes_no_sense_is_refused(changes, code):
    refused(code, fh.share, interface(**changes), "numpy")


def test_an_interface_that_is_no_dictionary():
    for wrong in (3, None, [("shape", (1,))]):
        refused("OB01", fh.share, Interface(wrong), "numpy")
    assert fh.share(interface(shape=(0,), data=(0, False)), "numpy").shape == (0,)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_X15_device_memory_by_interface_of_one_object():
    device = {"shape": (2,), "typestr": "<f4", "data": (0x7F0000000000, False), "version": 3}
    x = Interface(device, "__cuda_array_interface__")
    for call in (fh.share, lambda x: fh.convert(x, "torch"), lambda x: fh.copy(x, "numpy")):
        assert "CUDA" in str(refused("DV02", call, x))
    plain = Interface({}, "other")
    refused("OB01", fh.share, plain)  # the type was not taken for one with memory


class Maker:
    """What only NumPy can ask for an array."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(3.0)


def test_what_only_numpy_can_ask_is_said():
    error = refused("OB01", fh.share, Maker())
    assert fh.share(eval(error.fixes[0], {"numpy": np, "x": Maker()}), "numpy").tolist() == [0, 1, 2]
