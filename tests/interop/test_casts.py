"""Every cast, bit by bit, against NumPy and ml_dtypes.

The casts run in one process (the example `cast_stream` of freehold-tensor) that answers requests over a pipe. Set
FREEHOLD_CAST_STREAM to use a binary built before; else this module builds it.

Where the two libraries define no value, or disagree with each other, the expectation says which is taken and why:

* An integer, or a float after truncation, outside the target's range: C leaves it undefined and NumPy wraps, so only
  values in range are compared. Freehold saturates.
* A truth value whose byte is not 0 or 1: NumPy takes any byte as true, ml_dtypes casts the byte as a number. Freehold
  does as NumPy; only 0 and 1 are compared with ml_dtypes.
* ml_dtypes has no casts between f8_e8m0fnu and the other narrow floats, nor from the small integers to some narrow
  types. They are compared with the cast by way of float32, which holds all their values.
* ml_dtypes wraps the small integers; only values in range are compared.
"""

import os
import pathlib
import subprocess

import ml_dtypes
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
N = 1_000_000
SEED = 20_250
# How many random floats are compared in bulk: whole with FREEHOLD_EXHAUSTIVE=1 (make test-exhaustive), else a sample.
BULK = 100_000_000 if os.environ.get("FREEHOLD_EXHAUSTIVE") == "1" else 1 << 19
CHUNK = 1 << 22

NAMED = {
    "bool": np.bool_,
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128")},
}
ML = [
    "bfloat16",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
    "int4",
    "uint4",
    "int2",
    "uint2",
    "uint1",
]
DTYPES = {name: np.dtype(dtype) for name, dtype in NAMED.items()}
DTYPES.update({name: np.dtype(getattr(ml_dtypes, name)) for name in ML})
BITS = {name: dtype.itemsize * 8 for name, dtype in DTYPES.items()}
BITS.update(float6_e2m3fn=6, float6_e3m2fn=6, float4_e2m1fn=4, int4=4, uint4=4, int2=2, uint2=2, uint1=1)
INTEGERS = {name: (name.startswith("int"), BITS[name]) for name in DTYPES if name.startswith(("int", "uint"))}
COMPLEX = ("complex64", "complex128")
SMALL_FLOATS = [name for name in ML if name.startswith("float")]


class Stream:
    """The cast process."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)

    def request(self, source, target, data, count, allow, saturate=False):
        header = f"{source} {target} {'allow' if allow else 'error'} {int(saturate)} {count}\n"
        self.process.stdin.write(header.encode() + data)
        self.process.stdin.flush()
        verb, _, rest = self.process.stdout.readline().decode().strip().partition(" ")
        if verb == "ok":
            return verb, self.process.stdout.read(int(rest))
        return verb, rest

    def cast(self, values, source, target, allow=True, saturate=False):
        verb, data = self.request(source, target, values.tobytes(), values.size, allow, saturate)
        assert verb == "ok", f"{source} -> {target}: {verb} {data}"
        return np.frombuffer(data, DTYPES[target])


@pytest.fixture(scope="module")
def stream():
    binary = os.environ.get("FREEHOLD_CAST_STREAM")
    build = ["cargo", "run", "--release", "-q", "-p", "freehold-tensor", "--example", "cast_stream"]
    stream = Stream([binary] if binary else build)
    yield stream
    stream.process.stdin.close()
    assert stream.process.wait(timeout=10) == 0


def bits(values):
    return np.ascontiguousarray(values).view(np.uint8).reshape(values.size, -1)


def integers_in(low_bits, signed):
    return (-(1 << (low_bits - 1)), (1 << (low_bits - 1)) - 1) if signed else (0, (1 << low_bits) - 1)


def every_code(name):
    """All values of a dtype of at most 16 bits."""
    if name == "bool":
        return np.array([False, True])
    if name in INTEGERS and BITS[name] < 8:
        low, high = integers_in(BITS[name], INTEGERS[name][0])
        return np.arange(low, high + 1).astype(np.int8).astype(DTYPES[name])
    raw = np.arange(1 << BITS[name], dtype=np.uint32)
    return raw.astype(np.uint16 if BITS[name] == 16 else np.uint8).view(DTYPES[name])


def ties(rng):
    """float64 values at, just above and just below the midpoints of every narrow format."""
    formats = ["float16", "bfloat16"] + SMALL_FLOATS
    middles = []
    for name in formats:
        with np.errstate(invalid="ignore"):
            values = every_code(name).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        middles.append((values[1:] + values[:-1]) / 2)
    middles = np.concatenate(middles)
    near = [middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf)]
    near += [middles * (1 + sign * 2.0**-exponent) for exponent in (23, 24, 26, 30) for sign in (1, -1)]
    return np.concatenate(near)


def samples(name):
    """Special and random values of a dtype wider than 16 bits."""
    rng = np.random.default_rng(SEED)
    dtype = DTYPES[name]
    if name in INTEGERS:
        low, high = integers_in(BITS[name], INTEGERS[name][0])
        edges = {low, high, 0, 1, high - 1, low + 1}
        for exponent in range(BITS[name]):
            edges |= {sign * ((1 << exponent) + d) for sign in (1, -1) for d in range(-3, 4)}
        edges = np.array([v for v in sorted(edges) if low <= v <= high], dtype)
        wide = rng.integers(low, high, N // 2, dtype, endpoint=True)
        # Every magnitude is equally likely, so that small targets are met in range.
        scaled = rng.integers(low, high, N // 2, dtype, endpoint=True) >> rng.integers(0, BITS[name], N // 2).astype(dtype)
        return np.concatenate([edges, wide, scaled])
    part = np.dtype(np.float64 if name in ("float64", "complex128") else np.float32)
    raw = rng.integers(0, 1 << (part.itemsize * 8), N // 2, np.uint64, endpoint=False) if part.itemsize < 8 else (
        rng.integers(0, 2**64 - 1, N // 2, np.uint64, endpoint=True)
    )
    uniform = raw.astype(f"u{part.itemsize}").view(part)
    scaled = (rng.standard_normal(N // 2) * 2.0 ** rng.integers(-30, 66, N // 2)).astype(part)
    rounded = np.rint(scaled[: N // 4])
    info = np.finfo(part)
    special = np.array([0, -0.0, 1, -1, np.inf, -np.inf, info.max, -info.max, info.tiny, info.smallest_subnormal], part)
    payloads = np.array([0, 1, 2**9, 2**10, 2**13, 2**22 - 1, 2**22], np.uint64) << (0 if part.itemsize == 4 else 29)
    base = 0x7F800000 if part.itemsize == 4 else 0x7FF0000000000000
    nans = np.concatenate([base + payloads, base + payloads + (1 << (part.itemsize * 8 - 1))]).astype(f"u{part.itemsize}")
    limits = np.array([sign * (2.0**e + d) for e in range(0, 66) for sign in (1, -1) for d in (-1, -0.5, 0, 0.5, 1)], part)
    with np.errstate(over="ignore"):
        parts = [special, nans.view(part), limits, ties(rng).astype(part), uniform, scaled, rounded]
    values = np.concatenate(parts)
    if name not in COMPLEX:
        return values
    out = np.empty(values.size, dtype)
    out.real, out.imag = values, values[::-1]
    return out


_cache = {}


def values_of(name):
    if name not in _cache:
        _cache[name] = every_code(name) if BITS[name] <= 16 else samples(name)
    return _cache[name]


def expected(values, source, target):
    """The values that have a defined answer, and the answer."""
    dtype = DTYPES[target]
    if target in INTEGERS and source != "bool":
        low, high = integers_in(BITS[target], INTEGERS[target][0])
        real = values.real if source in COMPLEX else values
        if source in INTEGERS:
            exact = real.astype(object if BITS[source] == 64 else np.int64)
            keep = np.asarray((exact >= low) & (exact <= high), bool)
            real = real[keep]
            return values[keep], real.astype(np.int64 if BITS[source] < 64 else real.dtype).astype(dtype)
        # Truncated in float64, where every source value is exact; 2^63 and 2^64 are the first that do not fit.
        with np.errstate(invalid="ignore"):
            whole = np.trunc(real.astype(np.float64))
            keep = (whole >= float(low)) & (whole < float(high + 1))
        wide = np.uint64 if target == "uint64" else np.int64
        return values[keep], whole[keep].astype(wide).astype(dtype)
    # NumPy warns when it drops the imaginary part; as a truth value it looks at both.
    real = values.real if source in COMPLEX and target not in (*COMPLEX, "bool") else values
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            return values, real.astype(dtype)
        except TypeError:
            return values, real.astype(np.float32).astype(dtype)


def direct_integer_cast_agrees(values, source, target):
    """expected() computes float -> integer by way of float64: that NumPy itself says the same."""
    kept, answer = expected(values, source, target)
    real = kept.real if source in COMPLEX else kept
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.array_equal(bits(real.astype(DTYPES[target])), bits(answer))
    except TypeError:
        return True


def compare(stream, values, source, target):
    kept, answer = expected(values, source, target)
    assert kept.size >= min(values.size, 2), f"{source} -> {target}: nothing to compare"
    if target in INTEGERS:
        assert direct_integer_cast_agrees(values, source, target), f"{source} -> {target}"
    ours, theirs = stream.cast(kept, source, target), answer
    if ours.tobytes() == np.ascontiguousarray(theirs).tobytes():
        return
    ours, theirs = bits(ours), bits(theirs)
    wrong = np.flatnonzero((ours != theirs).any(axis=1))
    i = wrong[0]
    shown = f"{kept[i]!r} ({bits(kept)[i][::-1].tobytes().hex()})"
    pytest.fail(
        f"{source} -> {target}: {wrong.size} of {kept.size} differ; {shown} gives "
        f"{ours[i][::-1].tobytes().hex()}, not {theirs[i][::-1].tobytes().hex()}"
    )


@pytest.mark.parametrize("source", DTYPES)
def test_every_target_bit_by_bit(stream, source):
    values = values_of(source)
    for target in DTYPES:
        if target != source:
            compare(stream, values, source, target)


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_random_floats_in_bulk(stream, source):
    """All bit patterns are equally likely in a quarter, all magnitudes in half, small whole numbers in a quarter."""
    rng = np.random.default_rng(SEED + 1)
    dtype = DTYPES[source]
    for start in range(0, BULK, CHUNK):
        n = min(CHUNK, BULK - start)
        raw = np.frombuffer(rng.bytes(n // 4 * dtype.itemsize), dtype)
        with np.errstate(over="ignore"):
            scaled = (rng.standard_normal(n // 2) * 2.0 ** rng.integers(-30, 66, n // 2)).astype(dtype)
        whole = rng.integers(-(1 << 17), 1 << 17, n - n // 4 - n // 2).astype(dtype)
        values = np.concatenate([raw, scaled, whole])
        for target in DTYPES:
            if target != source:
                compare(stream, values, source, target)


@pytest.mark.parametrize("source", DTYPES)
def test_errors_name_exactly_what_does_not_survive(stream, source):
    """Under on_loss="error" the losses are the values that a round trip through the target changes."""
    values = values_of(source)[:60_000]
    if source in COMPLEX:
        for target in DTYPES:
            if target not in COMPLEX:
                verb, text = stream.request(source, target, values.tobytes(), values.size, allow=False)
                assert verb == "error" and "allowed explicitly" in text
        return
    for target in DTYPES:
        if target == source or target in COMPLEX:
            continue
        verb, rest = stream.request(source, target, values.tobytes(), values.size, allow=False)
        if target == "bool":
            assert verb == "error" and "allowed explicitly" in rest
            continue
        if target not in INTEGERS and source not in INTEGERS and source != "bool":
            assert verb == "ok", f"{source} -> {target}: float to float is never a loss"
            continue
        survives = survivors(values, source, target)
        lost = np.flatnonzero(~survives)
        if lost.size == 0:
            assert verb == "ok", f"{source} -> {target}: {verb} {rest}"
        else:
            assert verb == "loss", f"{source} -> {target}: no loss of {values[lost[0]]!r}"
            count, first, _ = rest.split()
            assert (int(count), int(first)) == (lost.size, lost[0]), f"{source} -> {target}: {values[lost[0]]!r}"


def survivors(values, source, target):
    """Which values have an equal in the target, decided in Python integers or float64."""
    if target in INTEGERS:
        low, high = integers_in(BITS[target], INTEGERS[target][0])
        if source in INTEGERS or source == "bool":
            exact = values.astype(object if BITS[source] == 64 else np.int64)
            return np.asarray((exact >= low) & (exact <= high), bool)
        with np.errstate(invalid="ignore"):
            real = values.astype(np.float64)
            return (real == np.trunc(real)) & (real >= float(low)) & (real < float(high + 1))
    # Integer to float: the cast value, widened exactly, is the integer.
    exact = [int(v) for v in values.astype(np.int64 if source != "uint64" else np.uint64)]
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            cast = values.astype(DTYPES[target])
        except TypeError:
            cast = values.astype(np.float32).astype(DTYPES[target])
        cast = cast.astype(np.float64)
    return np.array([bool(np.isfinite(c)) and int(c) == v for c, v in zip(cast.tolist(), exact)])


@pytest.mark.parametrize("target", ["float16", "bfloat16", "float32"] + SMALL_FLOATS)
def test_saturation_replaces_overflow_and_nothing_else(stream, target):
    for source in ("float32", "float64"):
        if source == target:
            continue
        values = values_of(source)
        plain = stream.cast(values, source, target)
        clamped = stream.cast(values, source, target, saturate=True)
        info = np.finfo(np.float32) if target == "float32" else ml_dtypes.finfo(DTYPES[target])
        over = np.abs(values) > float(info.max)
        kept = bits(plain) == bits(clamped)
        assert kept[~over].all()
        # Just above the largest, rounding to it is not overflow; everything else is clamped to it.
        positive = over & (values > 0)
        assert (clamped[positive].astype(np.float64) == float(info.max)).all()
        if target != "float8_e8m0fnu":
            assert (clamped[over & (values < 0)].astype(np.float64) == -float(info.max)).all()


@pytest.mark.parametrize("name", [n for n in DTYPES if BITS[n] < 8])
def test_packed_elements_share_bytes_from_the_low_bit_up(stream, name):
    width = BITS[name]
    rng = np.random.default_rng(SEED)
    for count in (1, 2, 3, 7, 8, 9, 1001):
        codes = rng.integers(0, 1 << width, count).astype(np.uint8)
        spread = (codes[:, None] >> np.arange(width)) & 1
        packed = np.packbits(spread.reshape(-1), bitorder="little")
        verb, data = stream.request(name, f"{name}/packed", codes.tobytes(), count, allow=False)
        assert (verb, data) == ("ok", packed.tobytes())
        verb, data = stream.request(f"{name}/packed", name, packed.tobytes(), count, allow=False)
        assert (verb, data) == ("ok", codes.tobytes())
        wide = stream.request(f"{name}/packed", "float32", packed.tobytes(), count, allow=False)
        assert wide == stream.request(name, "float32", codes.tobytes(), count, allow=False)
        back = stream.request("float32", f"{name}/packed", wide[1], count, allow=False)
        assert back == ("ok", packed.tobytes())
