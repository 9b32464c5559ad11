// Copies between any two layouts, with a cast of any pair, and byte order, sign and conjugation resolved on the way.
#include "walk.cuh"

template <class T> struct alignas(16) Pair { T low, high; };
typedef Pair<u64> u128;

// Where element `i` of the walk lies on both sides.
struct Place { i64 dst, src; u32 last; };

template <class Index>
static __device__ __forceinline__ Place place(const Walk &w, u64 at) {
    Index i = (Index)at;
    Place p = {0, 0, 0};
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

// Calls `each` with the places of all elements. Long rows: a block walks pieces of rows, so that the outer axes are asked
// once a piece. Short ones: every element asks.
template <int UNROLL, class Each>
static __device__ __forceinline__ void walk(const Walk &w, Each each) {
    const int last = (int)w.axes - 1;
    const u64 n = (u64)w.shape[last];
    if (n >= 64) {
        constexpr u64 piece = 256 * UNROLL;
        const u64 pieces = (n + piece - 1) / piece, total = w.count / n * pieces;
        for (u64 t = blockIdx.x; t < total; t += gridDim.x) {
            const u64 row = total <= 0xffffffffull ? (u32)t / (u32)pieces : t / pieces;
            u64 k = (t - row * pieces) * piece + threadIdx.x;
            i64 dst = 0, src = 0;
            u64 i = row;
            for (int axis = last - 1; axis >= 0; axis--) {
                const u64 m = (u64)w.shape[axis], next = row <= 0xffffffffull ? (u32)i / (u32)m : i / m, j = i - next * m;
                dst += (i64)j * w.dst_step[axis];
                src += (i64)j * w.src_step[axis];
                i = next;
            }
#pragma unroll
            for (int u = 0; u < UNROLL; u++, k += 256) {
                if (k < n) each(dst + (i64)k * w.dst_step[last], src + (i64)k * w.src_step[last], (u32)k);
            }
        }
    } else {
        const u64 step = (u64)gridDim.x * 256;
        for (u64 i = (u64)blockIdx.x * 256 + threadIdx.x; i < w.count; i += step) {
            const Place p = w.count <= 0xffffffffull ? place<u32>(w, i) : place<u64>(w, i);
            each(p.dst, p.src, p.last);
        }
    }
}

template <class T>
static __device__ __forceinline__ void move(const Walk &w) {
    const u64 dst = w.dst, src = w.src;
    walk<4>(w, [&](i64 d, i64 s, u32) { *(T *)(dst + d) = *(const T *)(src + s); });
}

#define MOVE(BYTES, TYPE) \
    extern "C" __global__ void __launch_bounds__(256) fh_move_##BYTES(const __grid_constant__ Walk w) { move<TYPE>(w); }
MOVE(1, u8) MOVE(2, u16) MOVE(4, u32) MOVE(8, u64) MOVE(16, u128)

// Reads and writes of any alignment, and in the other byte order.
template <class T>
static __device__ __forceinline__ T read_any(u64 at, bool swap) {
    T value;
    if (!swap && at % sizeof(T) == 0) return *(const T *)at;
    for (int i = 0; i < (int)sizeof(T); i++) ((u8 *)&value)[swap ? sizeof(T) - 1 - i : i] = ((const u8 *)at)[i];
    return value;
}

template <class T>
static __device__ __forceinline__ void write_any(u64 at, T value) {
    if (at % sizeof(T) == 0) { *(T *)at = value; return; }
    for (int i = 0; i < (int)sizeof(T); i++) ((u8 *)at)[i] = ((const u8 *)&value)[i];
}

template <int K>
static __device__ __forceinline__ typename As<K>::Stored negated(typename As<K>::Stored s) {
    typedef typename As<K>::Stored T;
    if constexpr (K >= I8 && K <= I64) return (T)(0 - (u64)s);
    else if constexpr (K == F16 || K == BF16) return (T)(s ^ 0x8000);
    else if constexpr (K == F32) return s ^ 0x80000000u;
    else if constexpr (K == F64) return s ^ 0x8000000000000000ull;
    else if constexpr (K >= E3M4 && K < E8M0FNU) {
        constexpr bool fnuz = K == E4M3B11FNUZ || K == E4M3FNUZ || K == E5M2FNUZ;
        return fnuz && (s & 0x7f) == 0 ? s : (T)(s ^ 0x80);
    } else return s;
}

template <int S>
static __device__ __forceinline__ typename As<S>::Value read_value(const Walk &w, u64 src, u32 last) {
    typename As<S>::Stored s = read_any<typename As<S>::Stored>(src, w.flags & SWAP_SRC);
    if (((w.flags & NEG) != 0) != ((w.flags & CONJ) && (last & 1))) s = negated<S>(s);
    return load_value<S>(s);
}

template <class V>
static __device__ __forceinline__ void write_value(const Walk &w, u64 dst, V v, bool &lost) {
    const bool saturate = w.flags & SATURATE;
    const int source = (int)w.src_kind;
    switch (w.dst_kind) {
#define TO(D) case D: write_any(dst, encode<D>(v, source, saturate, lost)); break;
        TO(BOOL) TO(I8) TO(I16) TO(I32) TO(I64) TO(U8) TO(U16) TO(U32) TO(U64) TO(F16) TO(BF16) TO(F32) TO(F64)
        TO(E3M4) TO(E4M3) TO(E4M3B11FNUZ) TO(E4M3FN) TO(E4M3FNUZ) TO(E5M2) TO(E5M2FNUZ) TO(E8M0FNU)
#undef TO
    }
}

// The kinds whose values are of one type on their way have a kernel together.
#define FROM(S) case S: v = read_value<S>(w, w.src + s, last); break;
#define WALK(NAME, TYPE, CASES) \
    extern "C" __global__ void __launch_bounds__(256) fh_walk_##NAME(const __grid_constant__ Walk w) { \
        bool lost = false; \
        walk<1>(w, [&](i64 d, i64 s, u32 last) { \
            TYPE v = 0; \
            switch (w.src_kind) { CASES } \
            write_value<TYPE>(w, w.dst + d, v, lost); \
        }); \
        if (w.lost) report(w, lost); \
    }
WALK(integer, i64, FROM(BOOL) FROM(I8) FROM(I16) FROM(I32) FROM(I64) FROM(U8) FROM(U16) FROM(U32))
WALK(unsigned, u64, FROM(U64))
WALK(float, float, FROM(F16) FROM(BF16) FROM(F32) FROM(E3M4) FROM(E4M3) FROM(E4M3B11FNUZ) FROM(E4M3FN) FROM(E4M3FNUZ)
     FROM(E5M2) FROM(E5M2FNUZ) FROM(E8M0FNU))
WALK(double, double, FROM(F64))

// The bytes as they are, in the other order, or with the sign changed.
template <class T, class Flip>
static __device__ __forceinline__ void resolve(const Walk &w, Flip flip) {
    walk<1>(w, [&](i64 d, i64 s, u32 last) {
        T v = read_any<T>(w.src + s, w.flags & SWAP_SRC);
        if (((w.flags & NEG) != 0) != ((w.flags & CONJ) && (last & 1))) v = flip(v);
        write_any(w.dst + d, v);
    });
}

template <class T>
static __device__ __forceinline__ void resolve_kind(const Walk &w) {
    const u32 kind = w.src_kind;
    const bool fnuz = kind == E4M3B11FNUZ || kind == E4M3FNUZ || kind == E5M2FNUZ;
    const T top = (T)((u64)1 << (8 * sizeof(T) - 1));
    resolve<T>(w, [&](T v) {
        if (kind < F16) return (T)(0 - (u64)v);
        return fnuz && (v & 0x7f) == 0 ? v : (T)(v ^ top);
    });
}

#define RESOLVE(BYTES, TYPE) \
    extern "C" __global__ void __launch_bounds__(256) fh_resolve_##BYTES(const __grid_constant__ Walk w) { resolve_kind<TYPE>(w); }
RESOLVE(1, u8) RESOLVE(2, u16) RESOLVE(4, u32) RESOLVE(8, u64)
