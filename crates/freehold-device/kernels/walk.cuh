// What every kernel is given: one struct, by value. freehold_device::cuda::walk::Walk has the same fields at the same
// offsets; a test compares the two.
#pragma once
#include "cast.cuh"

#define MAX_AXES 8

struct Walk {
    u64 dst;          // address of the first element
    u64 src;          // address of the first element
    u64 count;        // elements
    u64 lost;         // address of a u32 that becomes 1 if a value is lost; 0: nobody asks
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
