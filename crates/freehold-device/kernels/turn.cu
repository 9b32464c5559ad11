// Transposes: the fastest axis of the source is not that of the destination. A tile goes through shared memory, so that both
// sides are read and written in whole words. The last axis of the walk is the fastest of the destination, the one before it
// the fastest of the source; those before are batches.
//
// A thread reads words of several lines, turns the elements in them in registers, and puts words of the destination into the
// tile: shared memory never sees an element that is narrower than a word.
#include "walk.cuh"

// Casts on the way where the kinds differ.
template <int S, int D> struct Turn {
    typedef typename As<S>::Stored From;
    typedef typename As<D>::Stored To;
    static __device__ __forceinline__ To value(From v, bool saturate, bool &lost) { return cast<S, D>(v, saturate, lost); }
};
// The same bytes.
template <class T> struct Moved {
    typedef T From;
    typedef T To;
    static __device__ __forceinline__ T value(T v, bool, bool &) { return v; }
};
struct alignas(16) Wide { u64 low, high; };

// The words of a side: 8 bytes, 4 for bytes (a tile of 8 would not fit), the element itself if it is wider.
template <int SIZE> struct WordOf { typedef u64 Type; };
template <> struct WordOf<1> { typedef u32 Type; };
template <> struct WordOf<16> { typedef Wide Type; };

template <class Op>
static __device__ __forceinline__ void turn(const Walk &w) {
    typedef typename Op::From From;
    typedef typename Op::To To;
    typedef typename WordOf<sizeof(From)>::Type In;
    typedef typename WordOf<sizeof(To)>::Type Out;
    // A tile: `rows` along the destination's fastest axis, `cols` along the source's.
    constexpr int q = sizeof(In) / sizeof(From), p = sizeof(Out) / sizeof(To);
    constexpr int cols = 32 * q, rows = 32 * p;
    __shared__ Out tile[cols][33];
    const int d = (int)w.axes - 1, s = d - 1;
    const u64 n = (u64)w.shape[d], m = (u64)w.shape[s];
    const u64 across = (m + cols - 1) / cols, down = (n + rows - 1) / rows, tiles = across * down;
    u64 batches = 1;
#pragma unroll 1
    for (int axis = 0; axis < s; axis++) batches *= (u64)w.shape[axis];
    const bool saturate = w.flags & SATURATE;
    // Whether every line begins on a word, on each side.
    bool words_in = w.src % sizeof(In) == 0 && w.src_step[d] % (i64)sizeof(In) == 0;
    bool words_out = w.dst % sizeof(Out) == 0 && w.dst_step[s] % (i64)sizeof(Out) == 0;
#pragma unroll 1
    for (int axis = 0; axis < s; axis++) {
        words_in = words_in && w.src_step[axis] % (i64)sizeof(In) == 0;
        words_out = words_out && w.dst_step[axis] % (i64)sizeof(Out) == 0;
    }
    bool lost = false;
    const int x = threadIdx.x & 31, y = threadIdx.x >> 5;
    for (u64 t = blockIdx.x; t < tiles * batches; t += gridDim.x) {
        u64 batch = t / tiles, in = t - batch * tiles;
        const u64 row0 = in / across * rows, col0 = in % across * cols;
        i64 dst = 0, src = 0;
#pragma unroll 1
        for (int axis = s - 1; axis >= 0; axis--) {
            const u64 k = batch % (u64)w.shape[axis];
            batch /= (u64)w.shape[axis];
            dst += (i64)k * w.dst_step[axis];
            src += (i64)k * w.src_step[axis];
        }
        const u64 from = w.src + src, to = w.dst + dst;
        const bool full = row0 + rows <= n && col0 + cols <= m;
        if (full && words_in) {
            // Four groups of `p` lines for each warp: all are asked for before the first is used.
            In word[4][p];
            const u64 first = from + (i64)(row0 + (u64)y * p) * w.src_step[d] + (col0 + (u64)x * q) * sizeof(From);
#pragma unroll
            for (int g = 0; g < 4; g++) {
#pragma unroll
                for (int i = 0; i < p; i++) word[g][i] = *(const In *)(first + (i64)(g * 8 * p + i) * w.src_step[d]);
            }
#pragma unroll
            for (int g = 0; g < 4; g++) {
#pragma unroll
                for (int j = 0; j < q; j++) {
                    To out[p];
#pragma unroll
                    for (int i = 0; i < p; i++) {
                        if constexpr (q == 1) out[i] = Op::value(*(const From *)&word[g][i], saturate, lost);
                        else out[i] = Op::value((From)(word[g][i] >> (8 * sizeof(From) * j)), saturate, lost);
                    }
                    if constexpr (p == 1) {
                        tile[x * q + j][y + 8 * g] = *(const Out *)&out[0];
                    } else {
                        Out packed = 0;
#pragma unroll
                        for (int i = 0; i < p; i++) {
                            // Without its sign, which would go over those before it.
                            packed |= ((Out)out[i] & (~(Out)0 >> (8 * (sizeof(Out) - sizeof(To))))) << (8 * sizeof(To) * i);
                        }
                        tile[x * q + j][y + 8 * g] = packed;
                    }
                }
            }
        } else {
#pragma unroll 1
            for (int r = y; r < rows && row0 + r < n; r += 8) {
                const u64 line = from + (i64)(row0 + r) * w.src_step[d];
#pragma unroll 1
                for (int c = x; c < cols && col0 + c < m; c += 32) {
                    ((To *)&tile[c][0])[r] = Op::value(*(const From *)(line + (col0 + c) * sizeof(From)), saturate, lost);
                }
            }
        }
        __syncthreads();
        if (full && words_out) {
            const u64 first = to + (i64)(col0 + y) * w.dst_step[s] + (row0 + (u64)x * p) * sizeof(To);
#pragma unroll
            for (int c = 0; c < cols; c += 8) *(Out *)(first + (i64)c * w.dst_step[s]) = tile[c + y][x];
        } else {
#pragma unroll 1
            for (int c = y; c < cols && col0 + c < m; c += 8) {
                const u64 line = to + (i64)(col0 + c) * w.dst_step[s];
#pragma unroll 1
                for (int r = x; r < rows && row0 + r < n; r += 32) *(To *)(line + (row0 + r) * sizeof(To)) = ((const To *)&tile[c][0])[r];
            }
        }
        __syncthreads();
    }
    if (w.lost) report(w, lost);
}

#define MOVED(BYTES, TYPE) \
    extern "C" __global__ void __launch_bounds__(256) fh_turn_##BYTES(const __grid_constant__ Walk w) { turn<Moved<TYPE>>(w); }
MOVED(1, u8) MOVED(2, u16) MOVED(4, u32) MOVED(8, u64) MOVED(16, Wide)
#define TURN(S, D) \
    extern "C" __global__ void __launch_bounds__(256) fh_turn_##S##_##D(const __grid_constant__ Walk w) { turn<Turn<S, D>>(w); }
#define BOTH(A, B) TURN(A, B) TURN(B, A)
BOTH(F32, F16) BOTH(F32, BF16) BOTH(F32, F64) BOTH(F32, U8) TURN(F32, E4M3FN) TURN(I64, I32)
