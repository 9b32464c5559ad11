"""JAX, both ways: 64 bits, immutability, alignment, strides. What the row says is asked of JAX's own `from_dlpack`."""

import ml_dtypes
import numpy as np
import pytest
import torch

import freehold as fh
from capsules import DTYPES
from frameworks import aligned, dtype_of, framework, misaligned, own_way, pointer, values
from producers import assert_runs, over_bytes, refused
from row_tools import read_only

jax = framework("jax")
jnp = jax.numpy
ROW = fh._freehold._caps("jax")


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def owned(values=(1.0, 2.0, 3.0), dtype="float32"):
    """A tensor of Freehold's, of which nobody else has the memory."""
    return fh.copy(np.array(values, dtype))


# -- the row, measured ---------------------------------------------------------------------------------------------------


def own(**fields):
    return own_way(jax.dlpack.from_dlpack, legacy=True, **fields)


@pytest.mark.parametrize("dtype", DTYPES)
def test_X03_the_dtypes_of_the_row_are_those_that_jax_shares(dtype):
    how, got = own(dtype=dtype)
    assert (how == "shares" and got == dtype) == (dtype in ROW["dtypes"])


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "complex128"])
def test_X03_jax_by_itself_narrows_64_bits_without_a_word(dtype):
    assert own(dtype=dtype) == ("copies", {"i": "int32", "u": "uint32", "f": "float32", "c": "complex64"}[dtype[0]])


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "complex128"])
def test_X03_with_x64_they_are_shared(x64, dtype):
    assert own(dtype=dtype) == ("shares", dtype)


@pytest.mark.parametrize("start", [1, 2, 4, 8, 16, 32, 64, 128])
def test_X08_jax_by_itself_copies_below_64_bytes(start):
    assert own(start=start)[0] == ("shares" if start % ROW["alignment"] == 0 else "copies")


@pytest.mark.parametrize(
    ("shape", "strides", "taken"),
    [((2, 3), (3, 1), True), ((2, 3), (1, 2), True), ((2, 3, 4), (3, 1, 6), True), ((3, 2), (4, 1), False),
     ((3,), (2,), False), ((3, 4), (0, 1), False), ((1, 4), (777, 1), True)],
)
def test_A24_strides_without_gaps_in_any_order_are_taken(shape, strides, taken):
    assert (own(shape=shape, strides=strides)[0] == "shares") == taken
    producer = over_bytes(shape, strides=strides, memory=aligned(np.zeros(2048, "u1")), legacy=True)
    assert ("ST02" not in fh.plan(producer, "jax", freeze=True).codes) == taken
    assert ROW["strides"] == "without gaps"


# -- to JAX ------------------------------------------------------------------------------------------------------------------


def test_X17_a_mutable_owner_is_copied_unless_it_is_frozen_or_trusted():
    a = aligned(np.arange(3, dtype="f4"))
    assert fh.plan(a, "jax").codes == ("AL03",) and fh.plan(a, "jax").verdict == "copy"
    y = fh.convert(a, "jax")
    a[0] = 9
    assert values(y) == [0, 1, 2] and pointer(y) != pointer(a)
    refused("AL03", fh.share, a, "jax")
    with fh.policy(alias="trust"):
        y = fh.share(a, "jax")
    a[1] = 8
    assert pointer(y) == pointer(a) and values(y) == [9, 8, 2]


def test_X17_a_frozen_owner_is_shared_and_gets_its_right_to_write_back():
    a = aligned(np.arange(3, dtype="f4"))
    y = fh.share(a, "jax", freeze=True)
    assert pointer(y) == pointer(a)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 5
    del y
    # JAX lets go without the GIL, so the array is thawed at the next call.
    assert fh.ledger.owner(a) is None
    a[0] = 5


def test_X16_what_never_changes_is_shared_both_ways():
    x = jnp.arange(6.0)
    view = fh.share(x, "numpy")
    assert pointer(view) == pointer(x) and not view.flags.writeable
    assert fh.plan(x, "numpy").codes == ("RO02",)
    refused("RO01", fh.share, x, "torch")
    t = fh.convert(x, "torch")
    t[0] = 9
    assert values(x)[0] == 0
    back = fh.share(fh.share(x), "jax")
    assert pointer(back) == pointer(x)


def test_X08_unaligned_memory_is_copied_by_us_and_said():
    a = misaligned(np.arange(4, dtype="f4"))
    plan = fh.plan(a, "jax", freeze=True)
    assert plan.verdict == "copy" and plan.codes == ("AG01",) and plan.bytes_copied == 16
    assert values(fh.convert(a, "jax", freeze=True)) == [0, 1, 2, 3]
    refused("AG01", fh.share, a, "jax", freeze=True)


def test_X08_what_we_allocate_is_shared():
    t = owned()
    y = fh.share(t, "jax") if fh.plan(t, "jax", copy=False) else fh.share(t, "jax", freeze=True)
    assert pointer(y) == t.data_ptr


@pytest.mark.parametrize(("wide", "narrow"), [("float64", "float32"), ("int64", "int32"), ("uint64", "uint32"),
                                              ("complex128", "complex64")])
def test_X03_64_bits_are_cast_and_the_decision_says_so(wide, narrow):
    a = np.array([1, 2, 3], wide)
    plan = fh.plan(a, "jax")
    assert plan.verdict == "copy" and plan.codes[0] == "CA01" and plan.dtype == narrow and "cast" in plan.steps
    assert dtype_of(fh.convert(a, "jax")) == narrow
    error = refused("CA01", fh.share, a, "jax")
    assert "jax_enable_x64" in str(error)
    assert "jax_enable_x64" in str(refused("DT02", fh.convert, a, "jax", dtype=wide))


def test_X03_a_value_that_does_not_fit_is_refused():
    """X03: the plan asks what JAX takes (32 bits), says the cast, and a value that the cast would lose is CA02."""
    assert fh.plan(np.array([2**40 + 5]), "jax").dtype == "int32" and not ROW["dtypes"].count("int64")
    error = refused("CA02", fh.convert, np.array([2**40 + 5]), "jax")
    assert "1099511627781" in str(error) and "jax_enable_x64" in str(error)
    assert values(fh.convert(np.array([2**40]), "jax", on_loss="allow")) == [2**31 - 1]


@pytest.mark.parametrize("wide", ["float64", "int64", "uint64", "complex128"])
def test_X03_with_x64_nothing_is_cast(x64, wide):
    a = aligned(np.array([1, 2, 3], wide))
    y = fh.share(a, "jax", freeze=True)
    assert pointer(y) == pointer(a) and dtype_of(y) == wide


def test_writable_cannot_be_promised():
    a = aligned(np.zeros(3, "f4"))
    refused("RO01", fh.convert, a, "jax", writable=True)
    assert not fh.plan(a, "jax").writable and not fh.plan(a, "jax", freeze=True).writable


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "bfloat16", "float32", "complex64", "float8_e5m2"])
def test_X09_shapes_and_dtypes_arrive_whole(shape, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    a = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    y = fh.convert(a, "jax")
    assert y.shape == shape and y.dtype == kind and np.array_equal(np.asarray(y), a)


def test_a_column_major_array_stays_column_major():
    a = aligned(np.arange(6, dtype="f4").reshape(3, 2)).T
    y = fh.share(a, "jax", freeze=True)
    assert pointer(y) == pointer(a) and values(y) == a.tolist()
    assert values(fh.convert(a, "jax")) == a.tolist()


def test_a_reversed_array_is_copied():
    a = aligned(np.arange(3, dtype="f4"))[::-1]
    assert fh.plan(a, "jax").codes[0] == "ST01" and values(fh.convert(a, "jax")) == [2, 1, 0]


def test_jit_does_not_write_to_what_it_was_lent():
    a = aligned(np.array([-1, 2, -3], "f4"))
    y = jax.jit(lambda v: jnp.maximum(v, 0) + 1)(fh.share(a, "jax", freeze=True))
    assert values(y) == [1, 3, 1] and a.tolist() == [-1, 2, -3]


# -- from JAX ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int32", "float16", "bfloat16", "float32", "complex64", "float8_e4m3fn"])
def test_X16_arrays_are_shared_read_only(dtype):
    x = jnp.arange(4).astype(dtype)
    view = fh.share(x, "numpy")
    assert pointer(view) == pointer(x) and not view.flags.writeable
    assert np.array_equal(view, np.asarray(x))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_the_same_array_comes_back():
    x = jnp.ones(3)
    assert fh.share(x, "jax") is x and fh.convert(x, jax) is x and fh.share(x, type(x)) is x
    assert fh.copy(x, "jax") is not x and pointer(fh.copy(x, "jax")) != pointer(x)


def test_X19_a_tracer_has_no_values():
    @jax.jit
    def inside(x):
        error = refused("LY03", fh.share, x)
        assert "jit" in str(error)
        return x

    inside(jnp.ones(2))


def test_torch_to_jax_shares_what_torch_does_not_write():
    t = torch.arange(4, dtype=torch.float32)
    assert fh.plan(t, "jax").codes == ("AL03",)
    with fh.policy(alias="trust"):
        y = fh.share(t, "jax")
    t[0] = 7
    assert (pointer(y) == t.data_ptr()) == (values(y)[0] == 7)


def test_a_read_only_array_may_still_be_written_by_its_owner():
    a = read_only(aligned(np.arange(3, dtype="f4")))
    assert fh.plan(a, "jax").codes == ("AL03",)


def test_the_ledger_names_both_sides():
    a = aligned(np.arange(3, dtype="f4"))
    y = fh.share(a, "jax", freeze=True)
    assert "jax" in [holder["framework"] for holder in fh.ledger.holders(a)]
    del y
    assert fh.ledger.owner(a) is None


# -- arrays that are not what they seem ------------------------------------------------------------------------------------


def test_X19_a_deleted_or_donated_array_is_gone():
    gone, given = jnp.ones(4), jnp.ones(4)
    gone.delete()
    jax.jit(lambda x: x + 1, donate_argnums=0)(given)
    for x in (gone, given):
        for call in (lambda: fh.share(x, "numpy"), lambda: fh.convert(x, "torch"), lambda: fh.from_dlpack(x)):
            assert "deleted" in str(refused("LY03", call))
        assert fh.plan(x, "numpy").codes == ("LY03",)


def test_X13_what_is_lent_is_not_donated():
    x = jnp.arange(4.0)
    view = fh.share(x, "numpy")
    jax.jit(lambda x: x + 1, donate_argnums=0)(x)
    assert view.tolist() == [0, 1, 2, 3], "JAX keeps a buffer that somebody outside refers to"


def test_X15_an_array_on_several_devices_is_gathered_first():
    assert_runs(
        """if True:
        import jax, numpy as np, freehold as fh
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from producers import refused
        mesh = Mesh(np.array(jax.devices()), ("rows",))
        for spec in (PartitionSpec("rows"), PartitionSpec()):
            x = jax.device_put(jax.numpy.arange(4.0), NamedSharding(mesh, spec))
            error = refused("DV01", fh.share, x, "numpy")
            assert "2 devices" in str(error) and fh.plan(x, "numpy").codes == ("DV01",)
            assert fh.share(eval(error.fixes[0]), "numpy").tolist() == [0, 1, 2, 3]
            assert fh.share(eval(error.fixes[1]), "numpy").shape == ((2,) if spec else (4,))
        second = jax.device_put(jax.numpy.arange(4.0), jax.devices()[1])
        assert fh.share(second, "numpy").tolist() == [0, 1, 2, 3]
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )


def test_X06_keys_are_no_numbers():
    error = refused("DT03", fh.share, jax.random.key(0), "numpy")
    assert fh.share(eval(error.fixes[0], {"jax": jax, "x": jax.random.key(0)}), "numpy").dtype == np.uint32
    assert fh.share(jax.random.PRNGKey(0), "numpy").tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int2"])
def test_X05_small_integers_have_no_capsule(dtype):
    x = jnp.array([1, 0, 1], dtype)
    error = refused("DT03", fh.convert, x, "numpy")
    assert fh.convert(eval(error.fixes[0], {"x": x}), "numpy").tolist() == [1, 0, 1]


def test_X19_a_sparse_array_has_no_dense_buffer():
    sparse = pytest.importorskip("jax.experimental.sparse")
    x = sparse.BCOO.fromdense(jnp.eye(2))
    error = refused("LY02", fh.convert, x, "numpy")
    assert fh.convert(eval(error.fixes[0], {"x": x}), "numpy").tolist() == [[1, 0], [0, 1]]
