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

template <class T>
static __device__ __forceinline__ void move(const Walk &w) {
    const u64 dst = w.dst, src = w.src;
    walk<sizeof(T) == 16 ? 4 : 8, T>(w, [&](i64 s, u32) { return *(const T *)(src + s); }, [&](i64 d, T v) { *(T *)(dst + d) = v; });
}

#define MOVE(BYTES, TYPE) \
    extern "C" __global__ void __launch_bounds__(256) fh_move_##BYTES(const __grid_constant__ Walk w) { move<TYPE>(w); }
MOVE(1, u8) MOVE(2, u16) MOVE(4, u32) MOVE(8, u64) MOVE(16, u128)

// Casts of the pairs that are asked for often, of elements that are aligned to their size.
template <int S, int D>
static __device__ __forceinline__ void stride(const Walk &w) {
    typedef typename As<S>::Stored From;
    typedef typename As<D>::Stored To;
    const u64 dst = w.dst, src = w.src;
    const bool saturate = w.flags & SATURATE;
    bool lost = false;
    walk<4, From>(w, [&](i64 s, u32) { return *(const From *)(src + s); },
                  [&](i64 d, From v) { *(To *)(dst + d) = cast<S, D>(v, saturate, lost); });
    if (w.lost) report(w, lost);
}

#define STRIDE(S, D) \
    extern "C" __global__ void __launch_bounds__(256) fh_stride_##S##_##D(const __grid_constant__ Walk w) { stride<S, D>(w); }
STRIDE(U8, F32) STRIDE(U8, F16) STRIDE(U8, BF16) STRIDE(F32, U8) STRIDE(F32, F16) STRIDE(F16, F32) STRIDE(F32, BF16)
STRIDE(BF16, F32) STRIDE(F32, F64) STRIDE(F64, F32) STRIDE(I64, I32) STRIDE(F32, E4M3FN)

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
    typedef typename As<S>::Stored T;
    if ((w.flags & ZERO_IMAG) && (last & 1)) return 0;
    T s = read_any<T>(src, w.flags & SWAP_SRC);
    if constexpr (S == F16 || S == F32 || S == F64) {
        // The truth of a complex value: what is not zero, of its two parts.
        constexpr T top = (T)((T)1 << (8 * sizeof(T) - 1));
        if ((w.flags & ANY_PART) && (T)(s & (T)~top) == 0) s = read_any<T>(src + sizeof(T), w.flags & SWAP_SRC);
    }
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
        walk<1, TYPE>( \
            w, \
            [&](i64 s, u32 last) { \
                TYPE v = 0; \
                switch (w.src_kind) { CASES } \
                return v; \
            }, \
            [&](i64 d, TYPE v) { write_value<TYPE>(w, w.dst + d, v, lost); }); \
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
    walk<1, T>(
        w,
        [&](i64 s, u32 last) {
            if ((w.flags & ZERO_IMAG) && (last & 1)) return (T)0;
            const T v = read_any<T>(w.src + s, w.flags & SWAP_SRC);
            return ((w.flags & NEG) != 0) != ((w.flags & CONJ) && (last & 1)) ? flip(v) : v;
        },
        [&](i64 d, T v) { write_any(w.dst + d, v); });
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
