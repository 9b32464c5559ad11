// Fills with one value of 1, 2, 4, 8 or 16 bytes. `src` and `lost` of the walk are the value, repeated to 16 bytes.
#include "walk.cuh"

struct alignas(16) Wide { u64 low, high; };

// Elements with steps, aligned to their size, which is `src_kind`. The branch is the same for all threads.
extern "C" __global__ void __launch_bounds__(256) fh_fill_elements(const __grid_constant__ Walk w) {
    const u64 dst = w.dst;
    const Wide value = {w.src, w.lost};
    const u32 size = w.src_kind;
    walk<1, u8>(w, [&](i64, u32) { return (u8)0; }, [&](i64 d, u8) {
        const u64 at = dst + d;
        if (size == 1) *(u8 *)at = (u8)value.low;
        else if (size == 2) *(u16 *)at = (u16)value.low;
        else if (size == 4) *(u32 *)at = (u32)value.low;
        else if (size == 8) *(u64 *)at = value.low;
        else *(Wide *)at = value;
    });
}

// Runs of bytes at any address, by the aligned 16 bytes that they touch. The last axis counts these: its step is 16 in the
// destination and 1 in the source, and a run has 16 * (its length - 2) + `src_kind` bytes, which touch no more than that.
static __device__ __forceinline__ void touch(const Walk &w, u64 at, u64 k) {
    const u64 first = at - 16 * k, end = first + 16 * (u64)(w.shape[w.axes - 1] - 2) + w.src_kind, word = at & ~15ull;
    // The value as it lies in these 16 bytes: where the run begins decides.
    Wide v = {w.src, w.lost};
    if (first & 8) v = {v.high, v.low};
    const int shift = 8 * (int)(first & 7);
    if (shift) v = {v.low << shift | v.high >> (64 - shift), v.high << shift | v.low >> (64 - shift)};
    if (word >= first && word + 16 <= end) {
        *(Wide *)word = v;
        return;
    }
#pragma unroll 1
    for (int i = 0; i < 16; i++) {
        const u64 half = i < 8 ? v.low : v.high;
        if (word + i >= first && word + i < end) *(u8 *)(word + i) = (u8)(half >> (8 * (i & 7)));
    }
}

extern "C" __global__ void __launch_bounds__(256) fh_fill_run(const __grid_constant__ Walk w) {
    walk<1, i64>(w, [&](i64 s, u32) { return s; }, [&](i64 d, i64 k) { touch(w, w.dst + d, (u64)k); });
}
