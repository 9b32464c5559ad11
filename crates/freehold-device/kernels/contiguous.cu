// Casts between compact runs. One kernel for each pair that is asked for often, with accesses of 16 bytes; one for the rest.
#include "walk.cuh"

struct alignas(16) Bytes16 { u32 word[4]; };

// Elements that a thread casts: 16 bytes of the wider side, at least 4, at most 16.
template <int S, int D> struct Lanes {
    static constexpr int s = sizeof(typename As<S>::Stored), d = sizeof(typename As<D>::Stored);
    static constexpr int wide = s > d ? s : d, narrow = s > d ? d : s;
    static constexpr int n = 16 / narrow > 8 ? 8 : 16 / narrow;
};

template <int N, class T>
static __device__ __forceinline__ void load(T (&to)[N], const T *from) {
    constexpr int bytes = N * sizeof(T);
    if constexpr (bytes % 16 == 0) {
#pragma unroll
        for (int i = 0; i < bytes / 16; i++) ((Bytes16 *)to)[i] = ((const Bytes16 *)from)[i];
    } else if constexpr (bytes == 8) {
        *(u64 *)to = *(const u64 *)from;
    } else {
        *(u32 *)to = *(const u32 *)from;
    }
}

template <int S, int D>
static __device__ __forceinline__ void run(const Walk &w) {
    typedef typename As<S>::Stored From;
    typedef typename As<D>::Stored To;
    constexpr int n = Lanes<S, D>::n;
    const From *src = (const From *)w.src;
    To *dst = (To *)w.dst;
    const bool saturate = w.flags & SATURATE, asked = w.lost != 0;
    bool lost = false;
    const u64 step = (u64)gridDim.x * blockDim.x;
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    const u64 whole = w.count / n;
    for (; i < whole; i += step) {
        alignas(16) From from[n];
        alignas(16) To to[n];
        load<n>(from, src + i * n);
#pragma unroll
        for (int j = 0; j < n; j++) to[j] = cast<S, D>(from[j], saturate, lost);
        load<n>(*(To(*)[n])(dst + i * n), (const To *)to);
    }
    // The tail, an element a thread.
    const u64 rest = whole * n + (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (rest < w.count) dst[rest] = cast<S, D>(src[rest], saturate, lost);
    if (asked) report(w, lost);
}

#define PAIR(S, D) \
    extern "C" __global__ void __launch_bounds__(256) fh_cast_##S##_##D(const __grid_constant__ Walk w) { run<S, D>(w); }
#define BOTH(A, B) PAIR(A, B) PAIR(B, A)
BOTH(F32, F16) BOTH(F32, BF16) BOTH(F32, F64) BOTH(F32, I32) BOTH(F32, I64) BOTH(F32, U8) BOTH(F32, I8)
BOTH(F32, E4M3FN) BOTH(F32, E5M2) BOTH(F16, BF16) BOTH(F64, F16) BOTH(F64, BF16) BOTH(F64, I32) BOTH(F64, I64)
BOTH(I32, I64) BOTH(I32, U8) BOTH(I64, U8) BOTH(F16, U8) BOTH(BF16, U8) BOTH(F16, E4M3FN) BOTH(BF16, E4M3FN)
BOTH(F16, E5M2) BOTH(BF16, E5M2) BOTH(BOOL, F32) BOTH(BOOL, U8) BOTH(BOOL, I32) BOTH(BOOL, I64) BOTH(F64, U8)
