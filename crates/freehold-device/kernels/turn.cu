// Transposes: the fastest axis of the source is not that of the destination. A tile goes through shared memory, so that both
// sides are read and written in whole lines. The last axis of the walk is the fastest of the destination, the one before it
// the fastest of the source; those before are batches.
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

template <class T> static constexpr int pack() { return sizeof(T) < 4 ? 4 / sizeof(T) : 1; }

template <class Op>
static __device__ __forceinline__ void turn(const Walk &w) {
    typedef typename Op::From From;
    typedef typename Op::To To;
    // A tile: `rows` along the destination's fastest axis, `cols` along the source's. Narrow elements are read and written
    // several at once, as one word, where rows begin on a word.
    constexpr int pf = pack<From>(), pt = pack<To>();
    constexpr int cols = 32 * pf, rows = 32 * pt;
    __shared__ To tile[rows][cols + (sizeof(To) < 4 ? 4 / sizeof(To) : 1)];
    const int d = (int)w.axes - 1, s = d - 1;
    const u64 n = (u64)w.shape[d], m = (u64)w.shape[s];
    const u64 across = (m + cols - 1) / cols, down = (n + rows - 1) / rows, tiles = across * down;
    u64 batches = 1;
    for (int axis = 0; axis < s; axis++) batches *= (u64)w.shape[axis];
    const bool saturate = w.flags & SATURATE;
    // Whether every line begins on a word, on each side.
    bool words_in = pf > 1 && w.src % 4 == 0 && w.src_step[d] % 4 == 0, words_out = pt > 1 && w.dst % 4 == 0 && w.dst_step[s] % 4 == 0;
    for (int axis = 0; axis < s; axis++) {
        words_in = words_in && w.src_step[axis] % 4 == 0;
        words_out = words_out && w.dst_step[axis] % 4 == 0;
    }
    bool lost = false;
    const int x = threadIdx.x & 31, y = threadIdx.x >> 5;
    for (u64 t = blockIdx.x; t < tiles * batches; t += gridDim.x) {
        u64 batch = t / tiles, in = t - batch * tiles;
        const u64 row0 = in / across * rows, col0 = in % across * cols;
        i64 dst = 0, src = 0;
        for (int axis = s - 1; axis >= 0; axis--) {
            const u64 k = batch % (u64)w.shape[axis];
            batch /= (u64)w.shape[axis];
            dst += (i64)k * w.dst_step[axis];
            src += (i64)k * w.src_step[axis];
        }
        const u64 from = w.src + src, to = w.dst + dst;
#pragma unroll 4
        for (int r = y; r < rows; r += 8) {
            const u64 row = row0 + r;
            if (row >= n) break;
            const u64 line = from + (i64)row * w.src_step[d];
            if (words_in && col0 + cols <= m) {
                const u32 word = *(const u32 *)(line + (col0 + (u64)x * pf) * sizeof(From));
                if constexpr (pf > 1) {
#pragma unroll
                    for (int j = 0; j < pf; j++) {
                        tile[r][x * pf + j] = Op::value((From)(word >> (8 * sizeof(From) * j)), saturate, lost);
                    }
                }
            } else {
#pragma unroll
                for (int j = 0; j < pf; j++) {
                    const u64 col = col0 + x + 32 * j;
                    if (col < m) tile[r][x + 32 * j] = Op::value(*(const From *)(line + col * sizeof(From)), saturate, lost);
                }
            }
        }
        __syncthreads();
#pragma unroll 4
        for (int c = y; c < cols; c += 8) {
            const u64 col = col0 + c;
            if (col >= m) break;
            const u64 line = to + (i64)col * w.dst_step[s];
            if (words_out && row0 + rows <= n) {
                if constexpr (pt > 1) {
                    u32 word = 0;
#pragma unroll
                    for (int j = 0; j < pt; j++) word |= (u32)tile[x * pt + j][c] << (8 * sizeof(To) * j);
                    *(u32 *)(line + (row0 + (u64)x * pt) * sizeof(To)) = word;
                }
            } else {
#pragma unroll
                for (int j = 0; j < pt; j++) {
                    const u64 row = row0 + x + 32 * j;
                    if (row < n) *(To *)(line + row * sizeof(To)) = tile[x + 32 * j][c];
                }
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
BOTH(F32, F16) BOTH(F32, BF16) BOTH(F32, F64) BOTH(F16, BF16) BOTH(F32, U8) TURN(F32, E4M3FN) TURN(F16, E4M3FN)
TURN(BF16, E4M3FN) TURN(F64, F16) TURN(F64, BF16) TURN(I64, I32) TURN(I32, F32) TURN(I64, F32)
