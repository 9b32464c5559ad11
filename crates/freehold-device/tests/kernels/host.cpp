// The device's kernels, compiled for the processor: the same source, with the words of CUDA made into those of C++, so that
// tests run what a GPU would run, a thread at a time. Compiled once for each file, with -DKERNELS="\"contiguous.cu\"".
//
// What a GPU refuses is refused here too: -fsanitize=alignment calls us for every access that is not aligned to its type.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <ucontext.h>
#include <vector>

#define FREEHOLD_HOST
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static thread_local

struct Place3 { unsigned x, y, z; };
static thread_local Place3 blockIdx, gridDim, threadIdx, blockDim = {256, 1, 1};

template <class To, class From> static To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From), "");
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

static unsigned __float_as_uint(float x) { return bits_of<unsigned>(x); }
static float __uint_as_float(unsigned x) { return bits_of<float>(x); }
static long long __double_as_longlong(double x) { return bits_of<long long>(x); }
static double __longlong_as_double(long long x) { return bits_of<double>(x); }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }

// PTX: cvt.rzi saturates; NaN is 0 for 32 bits, and the least or largest value for 64, which nothing may rely on.
template <class I, class F> static I to_int(F x) {
    if (x != x) return sizeof(I) == 8 ? (I)0x8000000000000000ull : 0;
    if (x >= std::ldexp((F)1, std::numeric_limits<I>::digits)) return std::numeric_limits<I>::max();
    if (x <= (F)std::numeric_limits<I>::min()) return std::numeric_limits<I>::min();
    return (I)x;
}
static int __float2int_rz(float x) { return to_int<int>(x); }
static unsigned __float2uint_rz(float x) { return to_int<unsigned>(x); }
static long long __float2ll_rz(float x) { return to_int<long long>(x); }
static unsigned long long __float2ull_rz(float x) { return to_int<unsigned long long>(x); }
static int __double2int_rz(double x) { return to_int<int>(x); }
static unsigned __double2uint_rz(double x) { return to_int<unsigned>(x); }
static long long __double2ll_rz(double x) { return to_int<long long>(x); }
static unsigned long long __double2ull_rz(double x) { return to_int<unsigned long long>(x); }
static float __int2float_rn(int x) { return (float)x; }
static float __uint2float_rn(unsigned x) { return (float)x; }
static float __ll2float_rn(long long x) { return (float)x; }
static float __ull2float_rn(unsigned long long x) { return (float)x; }
static double __int2double_rn(int x) { return x; }
static double __uint2double_rn(unsigned x) { return x; }
static double __ll2double_rn(long long x) { return (double)x; }
static double __ull2double_rn(unsigned long long x) { return (double)x; }
// A NaN of a GPU is always this one, whatever it was made of.
static float __double2float_rn(double x) { return x != x ? bits_of<float>(0x7fffffffu) : (float)x; }
static float __double2float_rz(double x) {
    if (x != x) return bits_of<float>(0x7fffffffu);
    const float y = (float)x;
    return std::isfinite(x) && std::fabs((double)y) > std::fabs(x) ? std::nextafter(y, 0.0f) : y;
}

// cvt.f32.f16, of what is no NaN.
static float half_bits_to_float(unsigned short h) {
    const int exp = h >> 10 & 31, man = h & 1023;
    const float a = exp == 31 ? (man ? bits_of<float>(0x7fffffffu) : INFINITY) : exp ? std::ldexp((float)(1024 + man), exp - 25)
                                                                             : std::ldexp((float)man, -24);
    return h & 0x8000 ? -a : a;
}
// cvt.rn.f16.f32: the neighbour that is nearest, found among all.
static unsigned short float_to_half_bits(float x) {
    const unsigned short sign = bits_of<unsigned>(x) >> 31 ? 0x8000 : 0;
    if (x != x) return 0x7fff;
    const float a = std::fabs(x);
    if (a >= 65520.0f) return sign | 0x7c00;
    int exp = 0;
    std::frexp(a, &exp);
    const int quantum = exp < -13 ? -24 : exp - 11;
    // Ties to even, which is the processor's way to round.
    const float rounded = std::nearbyint(std::ldexp(a, -quantum));
    const float y = std::ldexp(rounded, quantum);
    int e = 0;
    std::frexp(y, &e);
    if (y == 0) return sign;
    if (e < -13) return sign | (unsigned short)std::ldexp(y, 24);
    return sign | (unsigned short)((e + 14) << 10 | ((int)std::ldexp(y, 11 - e) - 1024));
}

static void __syncthreads();

#include KERNELS

struct Error { const char *file; unsigned line; unsigned long long address; };
static thread_local Error first_error;
static thread_local unsigned long long errors;

// What -fsanitize=alignment calls. Its first argument begins with the place in the source.
extern "C" void __ubsan_handle_type_mismatch_v1(void *data, uintptr_t address) {
    struct Data { const char *file; unsigned line, column; };
    if (errors++ == 0) first_error = {((Data *)data)->file, ((Data *)data)->line, address};
}
extern "C" void __ubsan_handle_type_mismatch_v1_abort(void *data, uintptr_t address) {
    __ubsan_handle_type_mismatch_v1(data, address);
}

// Threads of a block that has a barrier: each has a stack, and gives way at the barrier.
static thread_local ucontext_t scheduler, fibers[256];
static thread_local bool ended[256];
static thread_local void (*kernel)(const Walk);
static thread_local const Walk *parameter;

static void __syncthreads() { swapcontext(&fibers[threadIdx.x], &scheduler); }

static void fiber() {
    const unsigned thread = threadIdx.x;
    kernel(*parameter);
    ended[thread] = true;
    swapcontext(&fibers[thread], &scheduler);
}

// Runs a kernel: threads one after the other, or together where it has barriers. `backwards` runs the last thread first.
// Returns how many accesses were not aligned, and where the first one was.
extern "C" unsigned long long host_launch(void (*function)(const Walk), const Walk *walk, unsigned blocks, int barriers,
                                          int backwards, Error *error) {
    constexpr size_t stack = 64 * 1024;
    static thread_local std::vector<char> stacks;
    kernel = function;
    parameter = walk;
    errors = 0;
    gridDim = {blocks, 1, 1};
    if (barriers) stacks.resize(256 * stack);
    for (unsigned b = 0; b < blocks; b++) {
        blockIdx = {backwards ? blocks - 1 - b : b, 0, 0};
        for (unsigned i = 0; i < 256 && barriers; i++) {
            ended[i] = false;
            getcontext(&fibers[i]);
            fibers[i].uc_stack.ss_sp = &stacks[i * stack];
            fibers[i].uc_stack.ss_size = stack;
            fibers[i].uc_link = nullptr;
            makecontext(&fibers[i], fiber, 0);
        }
        for (bool more = true; more;) {
            more = false;
            for (unsigned t = 0; t < 256; t++) {
                const unsigned i = backwards ? 255 - t : t;
                threadIdx = {i, 0, 0};
                if (!barriers) function(*walk);
                else if (!ended[i]) {
                    swapcontext(&scheduler, &fibers[i]);
                    more = more || !ended[i];
                }
            }
        }
    }
    *error = first_error;
    return errors;
}
