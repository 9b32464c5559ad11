"""The device's copies against the host's, bit for bit, on a real GPU.

    python check.py [--quick]

The host's engine is held to NumPy and ml_dtypes by tests/interop/test_casts.py; here every cast, many layouts and every road
over the link must give the same bits. Prints one line a group, and exits with 1 if one differs.
"""

import itertools
import os
import sys
import time

import ml_dtypes
import numpy as np
import torch

import freehold as fh

QUICK = "--quick" in sys.argv
FAILED = []
MINI = ["float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
        "float8_e5m2fnuz", "float8_e8m0fnu"]
REAL = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
        "float64"]


def numpy_dtype(name):
    return np.dtype(getattr(ml_dtypes, name)) if name == "bfloat16" or name.startswith("float8") else np.dtype(name)


def values(name, count, rng):
    """Every bit pattern of narrow types; else random patterns, and values near the edges of others."""
    dtype = numpy_dtype(name)
    if name == "bool":
        return rng.integers(0, 2, count).astype(bool)
    if dtype.itemsize == 1:
        return np.arange(256, dtype=np.uint8).view(dtype)
    if dtype.itemsize == 2:
        return np.arange(65536, dtype=np.uint16).view(dtype)
    raw = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8).view(dtype)
    small = rng.integers(-70000, 70000, count)
    parts = [raw, small.astype(dtype)]
    if dtype.kind == "f":
        parts.append((rng.standard_normal(count) * 10.0 ** rng.integers(-45, 39, count)).astype(dtype))
        edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**31, 2.0**32, 2.0**63, 2.0**64, -2.0**31, -2.0**63, 65504, 65520,
                 448, 464, 464.1, 57344, 1e-45, 2.0**-126, 2.0**-127, 1.5, 2.5, 127.5, 128, 255.5, -0.5, 5e-8]
        parts.append(np.array(edges, dtype))
    return np.concatenate(parts)


def bits(tensor):
    """The bytes of a tensor, on the host."""
    host = fh.convert(tensor, device="cpu")
    array = fh.convert(host, "numpy")
    return np.ascontiguousarray(array).view(np.uint8).ravel()


def group(name, cases):
    start, count, wrong = time.time(), 0, []
    for label, case in cases:
        count += 1
        try:
            got, want = case()
            if got.shape != want.shape or not np.array_equal(got, want):
                at = np.flatnonzero(got != want) if got.shape == want.shape else []
                wrong.append(f"{label}: {len(at)} of {want.size} bytes differ" + (f", first at {at[0]}" if len(at) else ""))
        except Exception as error:  # noqa: BLE001: all cases are to be seen
            wrong.append(f"{label}: {type(error).__name__}: {str(error).splitlines()[0]}")
    FAILED.extend(wrong)
    print(f"{'ok  ' if not wrong else 'FAIL'} {name}: {count} cases, {len(wrong)} wrong, {time.time() - start:.1f} s", flush=True)
    for text in wrong[:8]:
        print("     ", text, flush=True)


def cast_cases(on_loss):
    rng = np.random.default_rng(1)
    for source in REAL + MINI:
        host = values(source, 20000, rng)
        on_host = fh.convert(host)
        on_device = fh.convert(on_host, device="cuda:0")
        # A run at an odd place: not aligned to 16 bytes.
        odd = fh.convert(fh.convert(host[3:]), device="cuda:0")
        for target in REAL + MINI:
            if source == target:
                continue

            def case(a=on_host, b=on_device, target=target):
                return bits(fh.convert(b, dtype=target, on_loss=on_loss)), bits(fh.convert(a, dtype=target, on_loss=on_loss))

            yield f"{source} -> {target} ({on_loss})", case
        del odd


def loss_cases():
    pairs = [("float32", "int8"), ("float64", "int32"), ("int64", "int32"), ("int64", "float32"), ("uint64", "int64"),
             ("float32", "uint64"), ("int32", "float16"), ("float16", "uint8"), ("float64", "int64"), ("int32", "bfloat16")]
    rng = np.random.default_rng(2)
    for source, target in pairs:
        good = rng.integers(0, 100, 5000).astype(numpy_dtype(source))
        bad = good.copy()
        bad[1234] = 2**31 + 1 if source.startswith("int64") or source.startswith("uint64") else 30001.0
        if source == "uint64":
            bad[1234] = 2**63 + 5
        if source == "int32":
            bad[1234] = 2**24 + 1
        if target in ("int32", "int64", "uint64") and source.startswith("float"):
            bad[1234] = 0.5

        def case(good=good, bad=bad, target=target):
            fine = fh.convert(fh.convert(good, device="cuda:0"), dtype=target)
            want = fh.convert(good, dtype=target)
            texts = []
            for tensor in (fh.convert(bad, device="cuda:0"), fh.convert(bad)):
                try:
                    fh.convert(tensor, dtype=target)
                    texts.append(b"no error")
                except fh.BoundaryError as error:
                    texts.append((error.code + str(error).splitlines()[1]).encode())
            same = np.frombuffer(texts[0], np.uint8), np.frombuffer(texts[1], np.uint8)
            return np.concatenate([bits(fine), same[0]]), np.concatenate([bits(want), same[1]])

        yield f"{source} -> {target} says what is lost", case


def views(torch_tensor):
    t = torch_tensor
    yield "as it is", t
    yield "transposed", t.transpose(0, -1)
    yield "every other", t[..., ::2]
    yield "rows 1 of 3", t[1::3]
    yield "middle", t[1:-1, ..., 3:-2]
    if t.dim() > 2:
        yield "permuted", t.permute(2, 0, 1)
        yield "channels last", t.permute(1, 2, 0)
    yield "broadcast", t[:1].expand(5, *t.shape[1:])
    yield "one column", t[..., 1:2]
    yield "column", t[..., 1]


def layout_cases():
    shapes = [(67, 131), (256, 512), (3, 65, 97), (64, 3, 33), (5, 7, 3), (1000, 3)]
    if QUICK:
        shapes = shapes[:4]
    pairs = [("uint8", None), ("int16", None), ("float32", None), ("float64", None), ("complex64", None), ("complex128", None),
             ("float32", "bfloat16"), ("float32", "float16"), ("float64", "float32"), ("uint8", "float32"), ("int64", "int32"),
             ("bfloat16", "float32"), ("float16", "float64"), ("int32", "float64"), ("float32", "float8_e4m3fn"),
             ("complex64", "complex128")]
    for shape, (source, target) in itertools.product(shapes, pairs):
        dtype = getattr(torch, source)
        numbers = torch.arange(int(np.prod(shape))) % 251
        # Signs reach into the bits above a narrower element.
        base = (numbers if source == "uint8" else numbers - 100).reshape(shape).to(dtype).cuda()
        for name, view in views(base):
            for order in ("C", "F") if not QUICK else ("C",):

                def case(view=view, target=target, order=order):
                    got = fh.copy(view, dtype=target, order=order, on_loss="allow")
                    want = fh.copy(view.cpu(), dtype=target, order=order, on_loss="allow")
                    return bits_in(got, order), bits_in(want, order)

                yield f"{shape} {source} -> {target} {name} {order}", case


def bits_in(tensor, order):
    host = fh.convert(fh.convert(tensor, device="cpu", order=order), "numpy", dtype=None)
    return np.frombuffer(np.asfortranarray(host).tobytes(order) if order == "F" else host.tobytes(), np.uint8)


def lazy_cases():
    z = torch.randn(33, 65, dtype=torch.complex64).cuda()
    for name, view in [("conj", z.conj()), ("neg", torch._neg_view(z.real.contiguous())), ("imag of conj", z.conj().imag),
                       ("conj transposed", z.conj().T)]:

        def case(view=view):
            want = view.resolve_conj().resolve_neg().contiguous().cpu().numpy()
            return bits(fh.convert(view, "numpy")), want.view(np.uint8).ravel()

        yield name, case
    swapped = np.arange(5000, dtype=">f4").reshape(50, 100)

    def swap():
        return bits(fh.convert(swapped, device="cuda:0")), swapped.astype("<f4").view(np.uint8).ravel()

    yield "big-endian", swap


def road_cases():
    """Over the link, both ways: small and large, pageable and pinned, contiguous and not, with and without casts."""
    sizes = [(1000,), (1 << 20,), (1 << 20, 5), (3001, 3001), (7, 1 << 20)] + ([] if QUICK else [(1 << 12, 1 << 13)])
    for shape in sizes:
        for source, target in [("float32", None), ("float32", "bfloat16"), ("float64", "float32"), ("float32", "float64"),
                               ("uint8", "float32"), ("int64", "int32")]:
            host = (torch.arange(int(np.prod(shape))) % 127).reshape(shape).to(getattr(torch, source))
            for pinned in (False, True):
                tensor = host.pin_memory() if pinned else host
                for name, view in [("", tensor), (" transposed", tensor.T if tensor.dim() == 2 else tensor[::2])]:

                    def case(view=view, target=target):
                        there = fh.convert(view, device="cuda:0", dtype=target)
                        want = fh.copy(view.clone() if view.is_contiguous() else view, dtype=target)
                        back = fh.convert(there, device="cpu")
                        return bits(fh.convert(back, order="C")), bits(fh.convert(want, order="C"))

                    yield f"{shape} {source} -> {target}{name}{' pinned' if pinned else ''}", case
            device = host.cuda()
            for name, view in [("", device), (" transposed", device.T if device.dim() == 2 else device[::3])]:

                def down(view=view, target=target):
                    got = fh.convert(view, "numpy", dtype=target)
                    want = fh.convert(view.cpu(), "numpy", dtype=target)
                    return np.ascontiguousarray(got).view(np.uint8).ravel(), np.ascontiguousarray(want).view(np.uint8).ravel()

                yield f"down {shape} {source} -> {target}{name}", down


def main():
    print("freehold", fh.__version__, "torch", torch.__version__, torch.cuda.get_device_name(), flush=True)
    start = time.time()
    fh.convert(np.zeros(4), device="cuda:0")
    print(f"first use of the device: {time.time() - start:.2f} s", flush=True)
    group("casts, allow", cast_cases("allow"))
    group("casts, saturate", cast_cases("saturate"))
    group("losses", loss_cases())
    group("layouts", layout_cases())
    group("lazy bits and byte order", lazy_cases())
    group("roads", road_cases())
    live = [record for record in fh.ledger.live()]
    print("live records at the end:", len(live), flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if FAILED:
        print(len(FAILED), "failures")
    os._exit(1 if FAILED else 0) if "--hard-exit" in sys.argv else sys.exit(1 if FAILED else 0)


main()
