#pragma once
// Between rows of numbers in memory, a Gaussian each, and columns in registers, a lane a Gaussian.
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

// Transposes LANES registers as a matrix.
SPLATPOSE_INLINE void transpose(F* m) {
#if defined(SPLATPOSE_AVX512)
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps((__m512)m[i], (__m512)m[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps((__m512)m[i], (__m512)m[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int k = 0; k < 4; ++k) {  // 4 x 4 of quarters
    const __m512 low = _mm512_shuffle_f32x4(b[k], b[k + 4], 0x88);
    const __m512 high = _mm512_shuffle_f32x4(b[k], b[k + 4], 0xdd);
    const __m512 low2 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0x88);
    const __m512 high2 = _mm512_shuffle_f32x4(b[k + 8], b[k + 12], 0xdd);
    m[k] = (F)_mm512_shuffle_f32x4(low, low2, 0x88);
    m[k + 4] = (F)_mm512_shuffle_f32x4(high, high2, 0x88);
    m[k + 8] = (F)_mm512_shuffle_f32x4(low, low2, 0xdd);
    m[k + 12] = (F)_mm512_shuffle_f32x4(high, high2, 0xdd);
  }
#elif defined(SPLATPOSE_AVX2)
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps((__m256)m[i], (__m256)m[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps((__m256)m[i], (__m256)m[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int k = 0; k < 4; ++k) {
    m[k] = (F)_mm256_permute2f128_ps(b[k], b[k + 4], 0x20);
    m[k + 4] = (F)_mm256_permute2f128_ps(b[k], b[k + 4], 0x31);
  }
#else
  const F a = __builtin_shufflevector(m[0], m[1], 0, 4, 1, 5);
  const F b = __builtin_shufflevector(m[0], m[1], 2, 6, 3, 7);
  const F c = __builtin_shufflevector(m[2], m[3], 0, 4, 1, 5);
  const F d = __builtin_shufflevector(m[2], m[3], 2, 6, 3, 7);
  m[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  m[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  m[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  m[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#endif
}

#if defined(SPLATPOSE_AVX2)
SPLATPOSE_INLINE I first_lanes(int count) { return I{0, 1, 2, 3, 4, 5, 6, 7} < count; }
#endif

// The first `count` numbers of a register.
SPLATPOSE_INLINE F load_some(const float* p, int count) {
#if defined(SPLATPOSE_AVX512)
  return (F)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
#elif defined(SPLATPOSE_AVX2)
  return (F)_mm256_maskload_ps(p, (__m256i)first_lanes(count));
#else
  if (count == LANES) return load(p);
  F x{};
  for (int i = 0; i < count; ++i) x[i] = p[i];
  return x;
#endif
}

SPLATPOSE_INLINE void store_some(float* p, F x, int count) {
#if defined(SPLATPOSE_AVX512)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)x);
#elif defined(SPLATPOSE_AVX2)
  _mm256_maskstore_ps(p, (__m256i)first_lanes(count), (__m256)x);
#else
  if (count == LANES) return store(p, x);
  for (int i = 0; i < count; ++i) p[i] = x[i];
#endif
}

// Columns of up to LANES rows of `width` numbers that lie `stride` apart; missing rows repeat the
// last one.
inline void load_table(const float* rows, int width, int64_t stride, int count, F* columns) {
  int first = 0;
  for (; count == LANES && first + LANES <= width; first += LANES) {
    F m[LANES];
    for (int lane = 0; lane < LANES; ++lane) m[lane] = load(rows + lane * stride + first);
    transpose(m);
    for (int k = 0; k < LANES; ++k) columns[first + k] = m[k];
  }
  for (; first < width; first += LANES) {
    const int some = smaller(LANES, width - first);
    F m[LANES];
    for (int lane = 0; lane < LANES; ++lane) {
      m[lane] = load_some(rows + smaller(lane, count - 1) * stride + first, some);
    }
    transpose(m);
    for (int k = 0; k < some; ++k) columns[first + k] = m[k];
  }
}

inline void store_table(const F* columns, int width, int64_t stride, int count, float* rows) {
  int first = 0;
  for (; count == LANES && first + LANES <= width; first += LANES) {
    F m[LANES];
    for (int k = 0; k < LANES; ++k) m[k] = columns[first + k];
    transpose(m);
    for (int lane = 0; lane < LANES; ++lane) store(rows + lane * stride + first, m[lane]);
  }
  for (; first < width; first += LANES) {
    const int some = smaller(LANES, width - first);
    F m[LANES]{};
    for (int k = 0; k < some; ++k) m[k] = columns[first + k];
    transpose(m);
    for (int lane = 0; lane < count; ++lane) store_some(rows + lane * stride + first, m[lane], some);
  }
}

#if defined(SPLATPOSE_AVX512)
// Where the numbers of LANES rows [LANES, K] that lie side by side are found: lane i of column c is
// number K i + c, in register (K i + c) / LANES; and the other way round.
template <int K>
struct Interleaving {
  alignas(64) int32_t load_lane[K][LANES], store_lane[K][LANES];
  uint16_t load_mask[K][K], store_mask[K][K];  // [target][source]
  constexpr Interleaving() : load_lane(), store_lane(), load_mask(), store_mask() {
    for (int target = 0; target < K; ++target) {
      for (int i = 0; i < LANES; ++i) {
        const int from = K * i + target, to = LANES * target + i;
        load_lane[target][i] = from % LANES;
        load_mask[target][from / LANES] |= static_cast<uint16_t>(1 << i);
        store_lane[target][i] = to / K;
        store_mask[target][to % K] |= static_cast<uint16_t>(1 << i);
      }
    }
  }
};

template <int K>
SPLATPOSE_INLINE F shuffled(const F* sources, const int32_t* lane, const uint16_t* mask) {
  const __m512i at = _mm512_load_si512(lane);
  __m512 x = _mm512_permutexvar_ps(at, (__m512)sources[0]);
  for (int j = 1; j < K; ++j) {
    x = _mm512_mask_permutexvar_ps(x, static_cast<__mmask16>(mask[j]), at, (__m512)sources[j]);
  }
  return (F)x;
}
#endif

// Columns of up to LANES rows [rows, K]; missing rows repeat the last one.
template <int K>
SPLATPOSE_INLINE void load_columns(const float* rows, int stride, int count, F* columns) {
  if constexpr (K >= 4 && K * 2 >= LANES) {
    load_table(rows, K, stride, count, columns);
    return;
  }
#if defined(SPLATPOSE_AVX512)
  if (stride == K && count == LANES) {
    static constexpr Interleaving<K> map;
    F sources[K];
    for (int k = 0; k < K; ++k) sources[k] = load(rows + k * LANES);
    for (int k = 0; k < K; ++k) columns[k] = shuffled<K>(sources, map.load_lane[k], map.load_mask[k]);
    return;
  }
#endif
  alignas(64) float buffer[K][LANES];
  for (int lane = 0; lane < LANES; ++lane) {
    const float* row = rows + static_cast<int64_t>(smaller(lane, count - 1)) * stride;
    for (int k = 0; k < K; ++k) buffer[k][lane] = row[k];
  }
  for (int k = 0; k < K; ++k) columns[k] = load(buffer[k]);
}

template <int K>
SPLATPOSE_INLINE void store_columns(const F* columns, int stride, int count, float* rows) {
  if constexpr (K >= 4 && K * 2 >= LANES) {
    store_table(columns, K, stride, count, rows);
    return;
  }
#if defined(SPLATPOSE_AVX512)
  if (stride == K && count == LANES) {
    static constexpr Interleaving<K> map;
    for (int k = 0; k < K; ++k) {
      store(rows + k * LANES, shuffled<K>(columns, map.store_lane[k], map.store_mask[k]));
    }
    return;
  }
#endif
  alignas(64) float buffer[K][LANES];
  for (int k = 0; k < K; ++k) store(buffer[k], columns[k]);
  for (int lane = 0; lane < count; ++lane) {
    float* row = rows + static_cast<int64_t>(lane) * stride;
    for (int k = 0; k < K; ++k) row[k] = buffer[k][lane];
  }
}

// Lane sums of 16 vectors into 16 floats. One by one each would take ten operations; summed while
// they are transposed, all take 45.
SPLATPOSE_INLINE void lane_sums(const F* vectors, float* out) {
#if defined(SPLATPOSE_AVX512)
  // Each step adds halves, then quarters, pairs and lanes of two vectors side by side. A blend and a
  // shuffle rather than two shuffles, because only one port shuffles.
  const __m512i swap = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
  __m512 v[16];
  for (int i = 0; i < 16; ++i) v[i] = (__m512)vectors[i];
  for (int i = 0; i < 8; ++i) {
    v[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, v[i], v[i + 8]),
                         _mm512_shuffle_f32x4(v[i], v[i + 8], 0x4e));
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xf0f0, v[i], v[i + 4]),
                         _mm512_permutex2var_ps(v[i], swap, v[i + 4]));
  }
  for (int i = 0; i < 4; i += 2) {
    v[i] = _mm512_add_ps(_mm512_mask_blend_ps(0xcccc, v[i], v[i + 1]),
                         _mm512_shuffle_ps(v[i], v[i + 1], 0x4e));
  }
  store(out, (F)_mm512_add_ps(_mm512_shuffle_ps(v[0], v[2], 0x88), _mm512_shuffle_ps(v[0], v[2], 0xdd)));
#elif defined(SPLATPOSE_AVX2)
  for (int k = 0; k < 16; k += 4) {
    __m256 v[4];
    for (int j = 0; j < 4; ++j) v[j] = (__m256)vectors[k + j];
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(out + k,
                  _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
  }
#else
  for (int k = 0; k < 16; ++k) out[k] = sum(vectors[k]);
#endif
}

}  // namespace splatpose::SPLATPOSE_ISA
