// Values of every dtype and the casts between them, as freehold-tensor's copy engine defines them (copy/format.rs says what
// NumPy and ml_dtypes do): bit for bit the same, NaN payloads too. No include: NVRTC's wheel has no cuda_fp16.h.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// The numbers of freehold_device::cuda::walk::Kind.
enum Kind {
    BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF16, F32, F64,
    E3M4, E4M3, E4M3B11FNUZ, E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ, E8M0FNU,
    KINDS
};

enum Specials { IEEE, FN, FNUZ, EXPONENT };

template <int E, int M, int B, int S>
struct Format {
    static constexpr u32 sign_bit = S == EXPONENT ? 0u : 1u << (E + M);
    static constexpr u32 all = (1u << (E + M)) - 1;
    static constexpr u32 max_code = S == IEEE ? all - (1u << M) : S == FNUZ ? all : all - 1;
    static constexpr u32 nan_code =
        S == IEEE ? ((((1u << E) - 1) << M) | (M > 0 ? 1u << (M - 1) : 0u)) : S == FN ? all : S == FNUZ ? 1u << (E + M) : 0xffu;
    // The exponent of the least bit of a subnormal value.
    static constexpr int quantum = 1 - B - M;

    static __device__ __forceinline__ u32 encode(float x, bool saturate) {
        const u32 bits = __float_as_uint(x), a = bits & 0x7fffffffu;
        const bool nan = a > 0x7f800000u;
        if constexpr (S == EXPONENT) {
            u32 r = a < 0x00800000u ? (a > 0x00400000u) : (a + 0x00400000u) >> 23;
            if (saturate && !nan && r > 0xfe) r = 0xfe;
            return (bits >> 31) || a == 0 || nan || r > 0xfe ? 0xffu : r;
        } else {
            constexpr int drop = 23 - M;
            u32 normal = (a + ((1u << (drop - 1)) - 1) + ((a >> drop) & 1)) >> drop;
            normal -= (u32)(127 - B) << M;
            u32 code = normal;
            if constexpr (B != 127) {
                // Adding a power of two whose ulp is the format's quantum makes the processor round to it.
                constexpr u32 magic = (u32)(quantum + 23 + 127) << 23;
                const u32 subnormal = __float_as_uint(__fadd_rn(__uint_as_float(a), __uint_as_float(magic))) - magic;
                code = a < ((u32)(127 - B + 1) << 23) ? subnormal : normal;
            }
            constexpr u32 beyond = S == IEEE ? max_code + 1 : nan_code;
            if (code > max_code) code = saturate ? max_code : beyond;
            const u32 sign = (bits >> 31) ? sign_bit : 0u;
            if constexpr (S == FNUZ) return nan ? sign_bit : code == 0 ? 0u : code | sign;
            return nan ? nan_code | sign : code | sign;
        }
    }

    static __device__ __forceinline__ float decode(u32 code) {
        if constexpr (S == EXPONENT) {
            return __uint_as_float(code == 0xff ? 0x7fc00000u : code == 0 ? 0x00400000u : code << 23);
        } else {
            const u32 sign = code & sign_bit ? 0x80000000u : 0u, m = code & all;
            constexpr u32 top = ((1u << E) - 1) << M;
            if (S == IEEE && m == top) return __uint_as_float(sign | 0x7f800000u);
            if (S == IEEE && m > top) return __uint_as_float(sign | 0x7fc00000u);
            if (S == FN && m == all) return __uint_as_float(sign | 0x7fc00000u);
            if (S == FNUZ && code == sign_bit) return __uint_as_float(0xffc00000u);
            const u32 exp = m >> M, man = m & ((1u << M) - 1);
            constexpr u32 step = (u32)(quantum + 127) << 23;
            const u32 subnormal = __float_as_uint(__fmul_rn((float)man, __uint_as_float(step)));
            const u32 normal = ((exp - B + 127) << 23) | (man << (23 - M));
            return __uint_as_float(sign | (exp == 0 ? subnormal : normal));
        }
    }
};

// How a kind is stored, and the type that its values are in between: int for integers that fit, float for narrow floats.
template <int K> struct As;
template <> struct As<BOOL> { typedef u8 Stored; typedef int Value; };
template <> struct As<I8> { typedef signed char Stored; typedef int Value; };
template <> struct As<I16> { typedef short Stored; typedef int Value; };
template <> struct As<I32> { typedef int Stored; typedef int Value; };
template <> struct As<I64> { typedef i64 Stored; typedef i64 Value; };
template <> struct As<U8> { typedef u8 Stored; typedef int Value; };
template <> struct As<U16> { typedef u16 Stored; typedef int Value; };
template <> struct As<U32> { typedef u32 Stored; typedef u32 Value; };
template <> struct As<U64> { typedef u64 Stored; typedef u64 Value; };
template <> struct As<F16> { typedef u16 Stored; typedef float Value; };
template <> struct As<BF16> { typedef u16 Stored; typedef float Value; };
template <> struct As<F32> { typedef u32 Stored; typedef float Value; };
template <> struct As<F64> { typedef u64 Stored; typedef double Value; };
template <int E, int M, int B, int S> struct Mini : Format<E, M, B, S> { typedef u8 Stored; typedef float Value; };
template <> struct As<E3M4> : Mini<3, 4, 3, IEEE> {};
template <> struct As<E4M3> : Mini<4, 3, 7, IEEE> {};
template <> struct As<E4M3B11FNUZ> : Mini<4, 3, 11, FNUZ> {};
template <> struct As<E4M3FN> : Mini<4, 3, 7, FN> {};
template <> struct As<E4M3FNUZ> : Mini<4, 3, 8, FNUZ> {};
template <> struct As<E5M2> : Mini<5, 2, 15, IEEE> {};
template <> struct As<E5M2FNUZ> : Mini<5, 2, 16, FNUZ> {};
template <> struct As<E8M0FNU> : Mini<8, 0, 127, EXPONENT> {};

// What the language has no word for. Tests compile these files for the processor, and bring their own.
#ifndef FREEHOLD_HOST
static __device__ __forceinline__ float half_bits_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

static __device__ __forceinline__ u16 float_to_half_bits(float x) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
#endif

template <class A, class B> struct Same { static constexpr bool value = false; };
template <class A> struct Same<A, A> { static constexpr bool value = true; };

static __device__ __forceinline__ float half_to_float(u16 h) {
    const float f = half_bits_to_float(h);
    // The processor would make every NaN the same.
    const u32 special = ((u32)(h & 0x8000) << 16) | 0x7f800000u | ((u32)(h & 0x03ff) << 13);
    return (h & 0x7c00) == 0x7c00 ? __uint_as_float(special) : f;
}

static __device__ __forceinline__ u16 saturated_half(u16 h, bool saturate) {
    return saturate && (h & 0x7fff) == 0x7c00 ? (u16)(h - 1) : h;
}

// NaN keeps the top of its payload, as NumPy has it.
static __device__ __forceinline__ u16 float_to_half(float x, bool saturate) {
    const u32 bits = __float_as_uint(x), payload = (bits >> 13) & 0x3ff;
    const u16 nan = (u16)(((bits >> 16) & 0x8000) | 0x7c00 | (payload ? payload : 1));
    const u16 h = saturated_half(float_to_half_bits(x), saturate);
    return (bits & 0x7fffffffu) > 0x7f800000u ? nan : h;
}

// Rounded once: first to a float with the last bit odd where something was cut off, which no second rounding mistakes.
static __device__ __forceinline__ u16 double_to_half(double x, bool saturate) {
    const u64 bits = (u64)__double_as_longlong(x), a = bits & 0x7fffffffffffffffull;
    if (a > 0x7ff0000000000000ull) {
        const u32 payload = (u32)(a >> 42) & 0x3ff;
        return (u16)((u32)(bits >> 48 & 0x8000) | 0x7c00 | (payload ? payload : 1));
    }
    float f = __double2float_rz(x);
    if ((double)f != x) f = __uint_as_float(__float_as_uint(f) | 1u);
    return saturated_half(float_to_half_bits(f), saturate);
}

// As x86 and Arm have it: a NaN keeps the top of its payload and becomes quiet.
static __device__ __forceinline__ u32 double_to_float(double x, bool saturate) {
    const u64 bits = (u64)__double_as_longlong(x), a = bits & 0x7fffffffffffffffull;
    if (a > 0x7ff0000000000000ull) return (u32)(bits >> 32 & 0x80000000u) | 0x7fc00000u | ((u32)(bits >> 29) & 0x003fffffu);
    const u32 y = __float_as_uint(__double2float_rn(x));
    return saturate && (y & 0x7fffffffu) == 0x7f800000u ? y - 1 : y;
}

static __device__ __forceinline__ u64 float_to_double(float x) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (u64)(bits & 0x80000000u) << 32 | 0x7ff8000000000000ull | (u64)(bits & 0x003fffffu) << 29;
    }
    return (u64)__double_as_longlong((double)x);
}

template <int K>
static __device__ __forceinline__ typename As<K>::Value load_value(typename As<K>::Stored s) {
    if constexpr (K == BOOL) return s != 0;
    else if constexpr (K == F16) return half_to_float(s);
    else if constexpr (K == BF16) return __uint_as_float((u32)s << 16);
    else if constexpr (K == F32) return __uint_as_float(s);
    else if constexpr (K == F64) return __longlong_as_double((i64)s);
    else if constexpr (K >= E3M4) return As<K>::decode(s);
    else return (typename As<K>::Value)s;
}

// The least and the largest value of an integer kind.
template <int K> struct Range;
template <> struct Range<I8> { static constexpr i64 lo = -128, hi = 127; };
template <> struct Range<I16> { static constexpr i64 lo = -32768, hi = 32767; };
template <> struct Range<I32> { static constexpr i64 lo = -2147483648ll, hi = 2147483647ll; };
template <> struct Range<I64> { static constexpr i64 lo = -9223372036854775807ll - 1, hi = 9223372036854775807ll; };
template <> struct Range<U8> { static constexpr i64 lo = 0, hi = 255; };
template <> struct Range<U16> { static constexpr i64 lo = 0, hi = 65535; };
template <> struct Range<U32> { static constexpr i64 lo = 0, hi = 4294967295ll; };
template <> struct Range<U64> { static constexpr i64 lo = 0, hi = 9223372036854775807ll; };

template <int D, class V>
static __device__ __forceinline__ typename As<D>::Stored to_integer(V v, bool &lost) {
    typedef typename As<D>::Stored R;
    if constexpr (Same<V, float>::value || Same<V, double>::value) {
        constexpr bool f = Same<V, float>::value;
        R r;
        V back;
        if constexpr (D == I64) {
            r = f ? __float2ll_rz((float)v) : __double2ll_rz((double)v);
            back = f ? (V)__ll2float_rn(r) : (V)__ll2double_rn(r);
            // The largest value rounds up to the one above.
            lost = lost || v == (V)9223372036854775808.0;
        } else if constexpr (D == U64) {
            r = f ? __float2ull_rz((float)v) : __double2ull_rz((double)v);
            back = f ? (V)__ull2float_rn(r) : (V)__ull2double_rn(r);
            lost = lost || v == (V)18446744073709551616.0;
        } else if constexpr (D == U32) {
            r = f ? __float2uint_rz((float)v) : __double2uint_rz((double)v);
            back = f ? (V)__uint2float_rn(r) : (V)__uint2double_rn(r);
            lost = lost || (f && v == (V)4294967296.0);
        } else {
            int i = f ? __float2int_rz((float)v) : __double2int_rz((double)v);
            if constexpr (D == I32) lost = lost || (f && v == (V)2147483648.0);
            else i = i < (int)Range<D>::lo ? (int)Range<D>::lo : i > (int)Range<D>::hi ? (int)Range<D>::hi : i;
            r = (R)i;
            back = f ? (V)__int2float_rn(i) : (V)__int2double_rn(i);
        }
        if (v != v) r = 0;
        lost = lost || back != v;
        return r;
    } else {
        if constexpr (Same<V, u64>::value) {
            constexpr u64 hi = D == U64 ? ~0ull : (u64)Range<D>::hi;
            lost = lost || v > hi;
            return (R)(v > hi ? hi : v);
        } else {
            const i64 w = (i64)v;
            const i64 c = w < Range<D>::lo ? Range<D>::lo : w > Range<D>::hi ? Range<D>::hi : w;
            lost = lost || c != w;
            return (R)c;
        }
    }
}

// An integer as a float, and whether that is another number.
template <class V>
static __device__ __forceinline__ float integer_to_float(V v, bool &lost) {
    float f;
    if constexpr (Same<V, int>::value) {
        f = __int2float_rn(v);
        lost = lost || __float2ll_rz(f) != (i64)v;
    } else if constexpr (Same<V, u32>::value) {
        f = __uint2float_rn(v);
        lost = lost || __float2ll_rz(f) != (i64)v;
    } else if constexpr (Same<V, i64>::value) {
        f = __ll2float_rn(v);
        lost = lost || f == 9223372036854775808.0f || __float2ll_rz(f) != v;
    } else {
        f = __ull2float_rn(v);
        lost = lost || f == 18446744073709551616.0f || __float2ull_rz(f) != v;
    }
    return f;
}

// A value as kind D. `source` is the kind that it came from: two of them have a rule of their own for NaN.
template <int D, class V>
static __device__ __forceinline__ typename As<D>::Stored encode(V v, int source, bool saturate, bool &lost) {
    constexpr bool is_float = Same<V, float>::value || Same<V, double>::value, is_double = Same<V, double>::value;
    if constexpr (D == BOOL) {
        return v != (V)0;
    } else if constexpr (D < F16) {
        return to_integer<D>(v, lost);
    } else if constexpr (D == F64) {
        if constexpr (is_double) {
            return (u64)__double_as_longlong(v);
        } else if constexpr (is_float) {
            const u64 d = float_to_double(v);
            // A half keeps its signalling bit, which a float loses here.
            const u32 f = __float_as_uint(v);
            return source == F16 && v != v ? (d & ~0x0008000000000000ull) | (u64)(f & 0x007fffffu) << 29 : d;
        } else if constexpr (Same<V, i64>::value) {
            const double d = __ll2double_rn(v);
            lost = lost || d == 9223372036854775808.0 || __double2ll_rz(d) != v;
            return (u64)__double_as_longlong(d);
        } else if constexpr (Same<V, u64>::value) {
            const double d = __ull2double_rn(v);
            lost = lost || d == 18446744073709551616.0 || __double2ull_rz(d) != v;
            return (u64)__double_as_longlong(d);
        } else {
            return (u64)__double_as_longlong((double)v);
        }
    } else if constexpr (is_double && D == F16) {
        return double_to_half(v, saturate);
    } else if constexpr (is_double && D == F32) {
        return double_to_float(v, saturate);
    } else {
        float f;
        if constexpr (is_double) f = __uint_as_float(double_to_float(v, false));
        else if constexpr (is_float) f = v;
        else f = integer_to_float(v, lost);
        if constexpr (D == F32) {
            return __float_as_uint(f);
        } else if constexpr (D == F16) {
            // ml_dtypes makes every NaN of bfloat16 the same.
            const u16 canonical = (u16)((__float_as_uint(f) >> 16 & 0x8000) | 0x7e00);
            u16 h;
            if constexpr (!is_float) h = saturated_half(float_to_half_bits(f), saturate);
            else h = source == BF16 && f != f ? canonical : float_to_half(f, saturate);
            if constexpr (!is_float) lost = lost || half_to_float(h) != f;
            return h;
        } else if constexpr (D == BF16) {
            const u16 b = (u16)Format<8, 7, 127, IEEE>::encode(f, saturate);
            if constexpr (!is_float) lost = lost || __uint_as_float((u32)b << 16) != f;
            return b;
        } else {
            const u8 m = (u8)As<D>::encode(f, saturate);
            if constexpr (!is_float) lost = lost || As<D>::decode(m) != f;
            return m;
        }
    }
}

template <int S, int D>
static __device__ __forceinline__ typename As<D>::Stored cast(typename As<S>::Stored stored, bool saturate, bool &lost) {
    if constexpr (S == D) return stored;
    else return encode<D>(load_value<S>(stored), S, saturate, lost);
}
