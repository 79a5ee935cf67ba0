#pragma once
// Vectors of LANES floats: arithmetic by the compiler's vector extensions, the few operations that
// these lack by intrinsics. Everything lives in the namespace of one instruction set.
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace splatpose::SPLATPOSE_ISA {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define SPLATPOSE_AVX512 1
constexpr int LANES = 16;
#elif defined(__AVX2__) && defined(__FMA__)
#define SPLATPOSE_AVX2 1
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));  // wraps around where I overflows
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define SPLATPOSE_INLINE inline __attribute__((always_inline))

SPLATPOSE_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
SPLATPOSE_INLINE void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1); }

SPLATPOSE_INLINE F load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
SPLATPOSE_INLINE void store(float* p, F x) { *reinterpret_cast<Unaligned*>(p) = x; }

#if defined(SPLATPOSE_AVX512)

typedef __mmask16 Mask;
SPLATPOSE_INLINE F broadcast(float x) { return (F)_mm512_set1_ps(x); }
SPLATPOSE_INLINE F fma(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
SPLATPOSE_INLINE F fnma(F a, F b, F c) {
  return (F)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SPLATPOSE_INLINE Mask at_least(F a, F b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
}
SPLATPOSE_INLINE Mask above(F a, F b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
}
SPLATPOSE_INLINE Mask both(Mask a, Mask b) { return a & b; }
SPLATPOSE_INLINE F select(Mask m, F a, F b) {
  return (F)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
}
SPLATPOSE_INLINE F keep(Mask m, F a) { return (F)_mm512_maskz_mov_ps(m, (__m512)a); }
SPLATPOSE_INLINE bool any(Mask m) { return m != 0; }
SPLATPOSE_INLINE bool any_of_both(Mask a, Mask b) { return !_ktestz_mask16_u8(a, b); }
SPLATPOSE_INLINE unsigned bits(Mask m) { return m; }
SPLATPOSE_INLINE F minimum(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
SPLATPOSE_INLINE F maximum(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
SPLATPOSE_INLINE F square_root(F a) { return (F)_mm512_sqrt_ps((__m512)a); }
SPLATPOSE_INLINE F absolute(F a) { return (F)_mm512_abs_ps((__m512)a); }
SPLATPOSE_INLINE float sum(F a) { return _mm512_reduce_add_ps((__m512)a); }
SPLATPOSE_INLINE F reciprocal_estimate(F a) { return (F)_mm512_rcp14_ps((__m512)a); }  // 14 bits

#else

typedef I Mask;
SPLATPOSE_INLINE Mask at_least(F a, F b) { return a >= b; }
SPLATPOSE_INLINE Mask above(F a, F b) { return a > b; }
SPLATPOSE_INLINE Mask both(Mask a, Mask b) { return a & b; }
SPLATPOSE_INLINE F keep(Mask m, F a) { return (F)(m & (I)a); }

#if defined(SPLATPOSE_AVX2)
SPLATPOSE_INLINE F broadcast(float x) { return (F)_mm256_set1_ps(x); }
SPLATPOSE_INLINE F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
SPLATPOSE_INLINE F fnma(F a, F b, F c) {
  return (F)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
SPLATPOSE_INLINE F select(Mask m, F a, F b) {
  return (F)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m);
}
SPLATPOSE_INLINE bool any(Mask m) { return _mm256_movemask_ps((__m256)m) != 0; }
SPLATPOSE_INLINE F minimum(F a, F b) { return (F)_mm256_min_ps((__m256)a, (__m256)b); }
SPLATPOSE_INLINE F maximum(F a, F b) { return (F)_mm256_max_ps((__m256)a, (__m256)b); }
SPLATPOSE_INLINE F square_root(F a) { return (F)_mm256_sqrt_ps((__m256)a); }
SPLATPOSE_INLINE F reciprocal_estimate(F a) { return (F)_mm256_rcp_ps((__m256)a); }  // 12 bits
#else
SPLATPOSE_INLINE F broadcast(float x) { return F{x, x, x, x}; }
SPLATPOSE_INLINE F fma(F a, F b, F c) { return a * b + c; }
SPLATPOSE_INLINE F fnma(F a, F b, F c) { return c - a * b; }
SPLATPOSE_INLINE F select(Mask m, F a, F b) { return (F)((m & (I)a) | (~m & (I)b)); }
SPLATPOSE_INLINE bool any(Mask m) {
#if defined(__SSE2__)
  return _mm_movemask_ps((__m128)m) != 0;
#else
  typedef int64_t Wide __attribute__((vector_size(16)));
  const Wide w = (Wide)m;
  return (w[0] | w[1]) != 0;
#endif
}
SPLATPOSE_INLINE F minimum(F a, F b) { return select(a < b, a, b); }
SPLATPOSE_INLINE F maximum(F a, F b) { return select(a > b, a, b); }
SPLATPOSE_INLINE F square_root(F a) {
  for (int i = 0; i < LANES; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
#endif

SPLATPOSE_INLINE bool any_of_both(Mask a, Mask b) { return any(a & b); }
SPLATPOSE_INLINE unsigned bits(Mask m) {
#if defined(SPLATPOSE_AVX2)
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)m));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps((__m128)m));
#else
  return (m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8);
#endif
}
SPLATPOSE_INLINE F absolute(F a) { return (F)((I)a & (I{} + 0x7fffffff)); }
SPLATPOSE_INLINE float sum(F a) {
  for (int half = LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a[i] += a[i + half];
  }
  return a[0];
}

#endif

// Within its scope, results too small for a normal number become zero: the transmittance of closed
// pixels keeps falling, and arithmetic on subnormal numbers is a hundred times slower.
class FlushSubnormals {
#if defined(__SSE2__)
 public:
  SPLATPOSE_INLINE FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  SPLATPOSE_INLINE ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
 public:
  FlushSubnormals() {}  // other processors do not slow down
#endif
};

// NaN becomes `low`.
SPLATPOSE_INLINE F clamp(F x, F low, F high) { return minimum(maximum(x, low), high); }

// As clamp between -most and most, but NaN stays.
SPLATPOSE_INLINE F limited(F x, float most) {
  return minimum(broadcast(most), maximum(broadcast(-most), x));
}

// As limited, but NaN, which overflows have left undefined, becomes 0.
SPLATPOSE_INLINE F held(F x, float most) { return keep(at_least(x, x), limited(x, most)); }

// Holds K registers; a look at them is all that it costs where nothing has overflowed.
template <int K>
SPLATPOSE_INLINE void hold(F* x, float most) {
  Mask fine = at_least(broadcast(most), absolute(x[0]));
  for (int k = 1; k < K; ++k) fine = both(fine, at_least(broadcast(most), absolute(x[k])));
  if (bits(fine) == (1u << LANES) - 1) return;
  for (int k = 0; k < K; ++k) x[k] = held(x[k], most);
}

template <class T>
SPLATPOSE_INLINE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
SPLATPOSE_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

// a / b by an estimate of 1 / b and one step of Newton: a division holds up its port for longer.
SPLATPOSE_INLINE F divide(F a, F b) {
#if defined(SPLATPOSE_AVX512) || defined(SPLATPOSE_AVX2)
  const F inverse = reciprocal_estimate(b), quotient = a * inverse;
  return fma(quotient, fnma(b, inverse, broadcast(1.0f)), quotient);
#else
  return a / b;
#endif
}

// 2^x to about 2e-7 relative, for -126 < x < 127, of U vectors in step: a processor looks only so
// far ahead, and one long chain of dependent operations after the other leaves it half idle.
// Minimax polynomials of degree 5 on [0, 1] and on [-1/2, 1/2].
template <int U>
SPLATPOSE_INLINE void exp2_of(F* x) {
  F y[U];
#if defined(SPLATPOSE_AVX512)
  constexpr float polynomial[6] = {0.0018775767f, 0.00898934f,  0.055826318f,
                                   0.24015362f,   0.693153073f, 0.99999993f};
  F fraction[U];
  for (int j = 0; j < U; ++j) fraction[j] = (F)_mm512_reduce_ps((__m512)x[j], 0x09);  // x - floor(x)
  for (int j = 0; j < U; ++j) y[j] = broadcast(polynomial[0]);
  for (int k = 1; k < 6; ++k) {
    for (int j = 0; j < U; ++j) y[j] = fma(fraction[j], y[j], broadcast(polynomial[k]));
  }
  for (int j = 0; j < U; ++j) x[j] = (F)_mm512_scalef_ps((__m512)y[j], (__m512)x[j]);
#else
  // The fraction comes from adding and taking away 1.5 * 2^23, which rounds to the nearest integer
  // and leaves it in the low bits; -ffast-math would fold that away.
  constexpr float polynomial[6] = {0.0013276472f, 0.009675541f, 0.05550713f,
                                   0.2402212f,    0.69314694f,  1.0000001f};
  const F magic = broadcast(12582912.0f);
  F shifted[U];
  for (int j = 0; j < U; ++j) shifted[j] = x[j] + magic;
  for (int j = 0; j < U; ++j) y[j] = shifted[j] - magic;
  for (int j = 0; j < U; ++j) x[j] -= y[j];
  for (int j = 0; j < U; ++j) y[j] = broadcast(polynomial[0]);
  for (int k = 1; k < 6; ++k) {
    for (int j = 0; j < U; ++j) y[j] = fma(x[j], y[j], broadcast(polynomial[k]));
  }
  for (int j = 0; j < U; ++j) x[j] = (F)((Bits)y[j] + ((Bits)shifted[j] << 23));
#endif
}

SPLATPOSE_INLINE F exp2(F x) {
  exp2_of<1>(&x);
  return x;
}

SPLATPOSE_INLINE F exponential(F x) {
  return exp2(clamp(x * 1.44269504f, broadcast(-125.0f), broadcast(126.0f)));
}

// log2 of a positive normal number, absolute error about 1e-7.
SPLATPOSE_INLINE F log2(F x) {
  const I bits = (I)x;
  const I exponent = (bits - 0x3f3504f3) >> 23;  // mantissa into [sqrt(1/2), sqrt(2))
  const F m = (F)((Bits)bits - ((Bits)exponent << 23));
  const F s = (m - 1.0f) / (m + 1.0f);
  const F s2 = s * s;
  F y = fma(s2, broadcast(0.32059f), broadcast(0.41219858f));
  y = fma(s2, y, broadcast(0.57707802f));
  y = fma(s2, y, broadcast(0.96179669f));
  y = fma(s2, y, broadcast(2.88539008f));
  return fma(s, y, __builtin_convertvector(exponent, F));
}

}  // namespace splatpose::SPLATPOSE_ISA
