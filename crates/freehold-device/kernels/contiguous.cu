// Casts between compact runs. One kernel for each pair that is asked for often, with accesses of 16 bytes; one for the rest.
#include "walk.cuh"

// One access of so many bytes.
template <int BYTES> struct Word;
template <> struct Word<16> { struct alignas(16) Type { u32 word[4]; }; };
template <> struct Word<8> { typedef u64 Type; };
template <> struct Word<4> { typedef u32 Type; };
template <> struct Word<2> { typedef u16 Type; };
template <> struct Word<1> { typedef u8 Type; };

// A thread casts 16 bytes of the wider side at once, so that neighbours write whole lines between them, and several times
// over, so that there is enough on the way.
template <int S, int D>
static __device__ __forceinline__ void run(const Walk &w) {
    typedef typename As<S>::Stored From;
    typedef typename As<D>::Stored To;
    constexpr int wide = sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To);
    constexpr int n = 16 / wide, turns = sizeof(To) > sizeof(From) ? (n > 4 ? 16 / n : 4) : n < 8 ? 8 / n : 1;
    typedef typename Word<n * sizeof(From)>::Type In;
    typedef typename Word<n * sizeof(To)>::Type Out;
    const bool saturate = w.flags & SATURATE;
    bool lost = false;
    const u64 whole = w.count / n;
    const In *src = (const In *)w.src;
    Out *dst = (Out *)w.dst;
    for (u64 base = (u64)blockIdx.x * (256 * turns) + threadIdx.x; base < whole; base += (u64)gridDim.x * (256 * turns)) {
        In in[turns];
#pragma unroll
        for (int t = 0; t < turns; t++) {
            if (base + t * 256 < whole) in[t] = src[base + t * 256];
        }
#pragma unroll
        for (int t = 0; t < turns; t++) {
            if (base + t * 256 < whole) {
                Out out;
#pragma unroll
                for (int j = 0; j < n; j++) ((To *)&out)[j] = cast<S, D>(((const From *)&in[t])[j], saturate, lost);
                dst[base + t * 256] = out;
            }
        }
    }
    // The tail, an element a thread.
    const u64 rest = whole * n + (u64)blockIdx.x * 256 + threadIdx.x;
    if (rest < w.count) ((To *)w.dst)[rest] = cast<S, D>(((const From *)w.src)[rest], saturate, lost);
    if (w.lost) report(w, lost);
}

#define PAIR(S, D) \
    extern "C" __global__ void __launch_bounds__(256) fh_cast_##S##_##D(const __grid_constant__ Walk w) { run<S, D>(w); }
#define BOTH(A, B) PAIR(A, B) PAIR(B, A)
BOTH(F32, F16) BOTH(F32, BF16) BOTH(F32, F64) BOTH(F32, I32) BOTH(F32, I64) BOTH(F32, U8) BOTH(F32, I8)
BOTH(F32, E4M3FN) BOTH(F32, E5M2) BOTH(F16, BF16) BOTH(F64, F16) BOTH(F64, I32) BOTH(F64, I64) BOTH(I32, I64)
BOTH(I32, U8) BOTH(I64, U8) BOTH(F16, U8) BOTH(BF16, U8) BOTH(F16, E4M3FN) BOTH(BF16, E4M3FN) BOTH(BOOL, F32)
