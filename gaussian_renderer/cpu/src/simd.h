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
SPLATPOSE_INLINE F minimum(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
SPLATPOSE_INLINE F maximum(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }
SPLATPOSE_INLINE F square_root(F a) { return (F)_mm512_sqrt_ps((__m512)a); }
SPLATPOSE_INLINE F absolute(F a) { return (F)_mm512_abs_ps((__m512)a); }
SPLATPOSE_INLINE float sum(F a) { return _mm512_reduce_add_ps((__m512)a); }
// 1 / a by the 14-bit estimate and one Newton step: a division would hold up the port for longer.
SPLATPOSE_INLINE F reciprocal(F a) {
  const F r = (F)_mm512_rcp14_ps((__m512)a);
  return fma(r, fnma(a, r, broadcast(1.0f)), r);
}

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
SPLATPOSE_INLINE F reciprocal(F a) {
  const F r = (F)_mm256_rcp_ps((__m256)a);  // 12 bits
  const F s = fma(r, fnma(a, r, broadcast(1.0f)), r);
  return s;
}
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
SPLATPOSE_INLINE F reciprocal(F a) { return 1.0f / a; }
#endif

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

SPLATPOSE_INLINE F clamp(F x, F low, F high) { return minimum(maximum(x, low), high); }

template <class T>
SPLATPOSE_INLINE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
SPLATPOSE_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

// 2^x to about 2e-7 relative, for -126 < x < 127, of U vectors in step. The fraction comes from
// adding and taking away 1.5 * 2^23, which rounds to the nearest integer and leaves it in the low
// bits; -ffast-math would fold that away. In step, because a processor looks only so far ahead: one
// long chain of dependent operations after the other leaves it half idle.
template <int U>
SPLATPOSE_INLINE void exp2_of(F* x) {
  constexpr float polynomial[5] = {0.009675541f, 0.05550713f, 0.2402212f, 0.69314694f, 1.0000001f};
  const F magic = broadcast(12582912.0f);
  F shifted[U], y[U];
  for (int j = 0; j < U; ++j) shifted[j] = x[j] + magic;
  for (int j = 0; j < U; ++j) y[j] = shifted[j] - magic;
  for (int j = 0; j < U; ++j) x[j] -= y[j];
  for (int j = 0; j < U; ++j) y[j] = broadcast(0.0013276472f);
  for (int k = 0; k < 5; ++k) {
    for (int j = 0; j < U; ++j) y[j] = fma(x[j], y[j], broadcast(polynomial[k]));
  }
  for (int j = 0; j < U; ++j) x[j] = (F)((I)y[j] + ((I)shifted[j] << 23));
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
  const F m = (F)(bits - (exponent << 23));
  const F s = (m - 1.0f) / (m + 1.0f);
  const F s2 = s * s;
  F y = fma(s2, broadcast(0.32059f), broadcast(0.41219858f));
  y = fma(s2, y, broadcast(0.57707802f));
  y = fma(s2, y, broadcast(0.96179669f));
  y = fma(s2, y, broadcast(2.88539008f));
  return fma(s, y, __builtin_convertvector(exponent, F));
}

// Columns of up to LANES rows [rows, K]; missing rows repeat the last one.
template <int K>
SPLATPOSE_INLINE void load_columns(const float* rows, int stride, int count, F* columns) {
  alignas(64) float buffer[K][LANES];
  for (int lane = 0; lane < LANES; ++lane) {
    const float* row = rows + static_cast<int64_t>(smaller(lane, count - 1)) * stride;
    for (int k = 0; k < K; ++k) buffer[k][lane] = row[k];
  }
  for (int k = 0; k < K; ++k) columns[k] = load(buffer[k]);
}

template <int K>
SPLATPOSE_INLINE void store_columns(const F* columns, int stride, int count, float* rows) {
  alignas(64) float buffer[K][LANES];
  for (int k = 0; k < K; ++k) store(buffer[k], columns[k]);
  for (int lane = 0; lane < count; ++lane) {
    float* row = rows + static_cast<int64_t>(lane) * stride;
    for (int k = 0; k < K; ++k) row[k] = buffer[k][lane];
  }
}

// Lane sums of K <= 16 vectors into K floats. One by one each would take ten operations; summed
// while they are transposed, sixteen take 45.
template <int K>
SPLATPOSE_INLINE void sums(const F* vectors, float* out) {
#if defined(SPLATPOSE_AVX512)
  __m512 group[4];
  for (int j = 0; j < 4; ++j) {
    __m512 v[4];
    for (int k = 0; k < 4; ++k) v[k] = 4 * k + j < K ? (__m512)vectors[4 * k + j] : (__m512)F{};
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44),
                                    _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44),
                                    _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    group[j] = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  }
  const __m512 low = _mm512_add_ps(_mm512_unpacklo_ps(group[0], group[1]),
                                   _mm512_unpackhi_ps(group[0], group[1]));
  const __m512 high = _mm512_add_ps(_mm512_unpacklo_ps(group[2], group[3]),
                                    _mm512_unpackhi_ps(group[2], group[3]));
  const __m512 total = _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44),
                                     _mm512_shuffle_ps(low, high, 0xee));
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << K) - 1), total);
#elif defined(SPLATPOSE_AVX2)
  for (int k = 0; k < K; k += 4) {
    __m256 v[4];
    for (int j = 0; j < 4; ++j) v[j] = k + j < K ? (__m256)vectors[k + j] : (__m256)F{};
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    alignas(16) float four[4];
    _mm_store_ps(four, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
    for (int j = 0; j < 4 && k + j < K; ++j) out[k + j] = four[j];
  }
#else
  for (int k = 0; k < K; ++k) out[k] = sum(vectors[k]);
#endif
}

}  // namespace splatpose::SPLATPOSE_ISA
