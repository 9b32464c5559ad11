// What every kernel is given: one struct, by value. freehold_device::cuda::walk::Walk has the same fields at the same
// offsets; a test compares the two.
#pragma once
#include "cast.cuh"

#define MAX_AXES 8

struct Walk {
    u64 dst;          // address of the first element
    u64 src;          // address of the first element; of a fill, the first 8 bytes of the value
    u64 count;        // elements
    u64 lost;         // address of a u32 that becomes 1 if a value is lost; 0: nobody asks; of a fill, the last 8 bytes
    u32 src_kind;     // Kind
    u32 dst_kind;     // Kind
    u32 flags;        // Flag
    u32 axes;         // used below; axis 0 is the outermost, the last one the fastest in the destination
    i64 shape[MAX_AXES];
    i64 dst_step[MAX_AXES];  // bytes
    i64 src_step[MAX_AXES];  // bytes
};

// CONJ and ZERO_IMAG go by the index along the last axis, whose odd places are imaginary parts.
enum Flag { SATURATE = 1, SWAP_SRC = 2, NEG = 4, CONJ = 8, ZERO_IMAG = 16, ANY_PART = 32 };

static __device__ __forceinline__ void report(const Walk &w, bool lost) {
    if (lost) *(volatile u32 *)w.lost = 1;
}

// Where element `i` of the walk lies on both sides.
struct Place { i64 dst, src; u32 last; };

template <class Index>
static __device__ __forceinline__ Place place(const Walk &w, u64 at) {
    Index i = (Index)at;
    Place p = {0, 0, 0};
#pragma unroll 1
    for (int axis = (int)w.axes - 1; axis > 0; axis--) {
        const Index n = (Index)w.shape[axis], next = i / n, k = i - next * n;
        p.dst += (i64)k * w.dst_step[axis];
        p.src += (i64)k * w.src_step[axis];
        if (axis == (int)w.axes - 1) p.last = (u32)k;
        i = next;
    }
    p.dst += (i64)i * w.dst_step[0];
    p.src += (i64)i * w.src_step[0];
    if (w.axes == 1) p.last = (u32)i;
    return p;
}

// One element a turn, for kernels that do so much with each that their code would be long twice.
template <class V, class Read, class Write>
static __device__ __forceinline__ void stroll(const Walk &w, Read read, Write write) {
    const u64 step = (u64)gridDim.x * 256;
#pragma unroll 1
    for (u64 i = (u64)blockIdx.x * 256 + threadIdx.x; i < w.count; i += step) {
        Place p;
        if (w.count <= 0xffffffffull) p = place<u32>(w, i);
        else p = place<u64>(w, i);
        const V v = read(p.src, p.last);
        write(p.dst, v);
    }
}

// Calls `read` with the place of each element in the source and `write` with that in the destination, several reads before
// the writes. Long rows: a block walks pieces of rows, so that the outer axes are asked once a piece. Short ones: every
// element asks.
template <int TURNS, class V, class Read, class Write>
static __device__ __forceinline__ void walk(const Walk &w, Read read, Write write) {
    const int last = (int)w.axes - 1;
    const u64 n = (u64)w.shape[last];
    V v[TURNS];
    if (n >= 64) {
        constexpr u64 piece = 256 * TURNS;
        const u64 pieces = (n + piece - 1) / piece, total = w.count / n * pieces;
        const i64 dst_step = w.dst_step[last], src_step = w.src_step[last];
        for (u64 t = blockIdx.x; t < total; t += gridDim.x) {
            const u64 row = total <= 0xffffffffull ? (u32)t / (u32)pieces : t / pieces;
            const u64 k = (t - row * pieces) * piece + threadIdx.x;
            i64 dst = (i64)k * dst_step, src = (i64)k * src_step;
            u64 i = row;
#pragma unroll 1
            for (int axis = last - 1; axis >= 0; axis--) {
                const u64 m = (u64)w.shape[axis], next = row <= 0xffffffffull ? (u32)i / (u32)m : i / m, j = i - next * m;
                dst += (i64)j * w.dst_step[axis];
                src += (i64)j * w.src_step[axis];
                i = next;
            }
#pragma unroll
            for (int u = 0; u < TURNS; u++) {
                if (k + u * 256 < n) v[u] = read(src + u * 256 * src_step, (u32)(k + u * 256));
            }
#pragma unroll
            for (int u = 0; u < TURNS; u++) {
                if (k + u * 256 < n) write(dst + u * 256 * dst_step, v[u]);
            }
        }
    } else {
        constexpr int turns = TURNS < 4 ? TURNS : 4;
        const u64 step = (u64)gridDim.x * (256 * turns);
        for (u64 i = (u64)blockIdx.x * (256 * turns) + threadIdx.x; i < w.count; i += step) {
            i64 to[turns];
#pragma unroll
            for (int u = 0; u < turns; u++) {
                const u64 at = i + u * 256;
                if (at < w.count) {
                    const Place p = w.count <= 0xffffffffull ? place<u32>(w, at) : place<u64>(w, at);
                    to[u] = p.dst;
                    v[u] = read(p.src, p.last);
                }
            }
#pragma unroll
            for (int u = 0; u < turns; u++) {
                if (i + u * 256 < w.count) write(to[u], v[u]);
            }
        }
    }
}
