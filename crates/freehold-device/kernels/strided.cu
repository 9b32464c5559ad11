// Copies between any two layouts, with a cast of any pair, and byte order, sign and conjugation resolved on the way.
#include "walk.cuh"

template <class T> struct alignas(16) Pair { T low, high; };
typedef Pair<u64> u128;

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
        stroll<TYPE>( \
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
    stroll<T>(
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
