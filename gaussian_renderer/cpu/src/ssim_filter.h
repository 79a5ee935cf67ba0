#pragma once
// The separable Gaussian window of SSIM, along x and along y.
#include "ssim_spans.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int PAD = 16;  // zeros before and after a row: whole registers, RADIUS at least
constexpr int RING = 2 * ABREAST_ROWS + 2 * RADIUS;  // rows of a ring; more than one step reads

struct Window {
  F side[RADIUS + 1];  // weights of the pixels 0 ... RADIUS; the other side is the same

  Window() {
    float weights[WINDOW], total = 0.0f;
    for (int i = 0; i < WINDOW; ++i) {
      const float x = static_cast<float>(i - RADIUS) / 1.5f;
      weights[i] = __builtin_expf(-0.5f * x * x);
      total += weights[i];
    }
    for (int i = 0; i <= RADIUS; ++i) side[i] = broadcast(weights[i] / total);
  }
  SPLATPOSE_INLINE F operator[](int i) const { return side[i <= RADIUS ? i : WINDOW - 1 - i]; }
};

SPLATPOSE_INLINE int padded_stride(int stride) { return stride + 2 * PAD; }

// The pixels about `in`, weighted. Reading across cache lines costs a processor with registers of a
// whole line two accesses each, so some of the neighbours are shifted out of registers there.
SPLATPOSE_INLINE F filtered(const Window& w, const float* in) {
  F total = w[RADIUS] * load(in);
  for (int k = 1; k <= RADIUS; ++k) {
#if defined(SPLATPOSE_AVX512)
    if (k <= 2) continue;
#endif
    total = fma(load(in - k), w[RADIUS - k], total);
    total = fma(load(in + k), w[RADIUS + k], total);
  }
#if defined(SPLATPOSE_AVX512)
  const __m512i before = (__m512i)load(in - LANES), here = (__m512i)load(in);
  const __m512i after = (__m512i)load(in + LANES);
  total = fma((F)_mm512_alignr_epi32(here, before, LANES - 1), w[RADIUS - 1], total);
  total = fma((F)_mm512_alignr_epi32(after, here, 1), w[RADIUS + 1], total);
  total = fma((F)_mm512_alignr_epi32(here, before, LANES - 2), w[RADIUS - 2], total);
  total = fma((F)_mm512_alignr_epi32(after, here, 2), w[RADIUS + 2], total);
#endif
  return total;
}

// Filters MAPS padded rows along x where `span` says.
template <int MAPS>
inline void filter_x(const Window& window, const float* padded, int stride, Span span, float* out) {
  const Window w = window;
  for (int m = 0; m < MAPS; ++m) {
    const float* in = padded + m * padded_stride(stride) + PAD;
    for (int x = span.from * LANES; x < span.to * LANES; x += LANES) {
      store(out + m * stride + x, filtered(w, in + x));
    }
  }
}

// The rows of a ring under the windows about ABREAST_ROWS rows from `first`.
template <int MAPS>
struct Taps {
  static constexpr int COUNT = WINDOW + ABREAST_ROWS - 1;
  const float* rows[COUNT];  // [MAPS, stride] each
  int stride;

  SPLATPOSE_INLINE Taps(const float* ring, const float* zeros, int stride, int first, int height)
      : stride(stride) {
    for (int k = 0; k < COUNT; ++k) {
      const int at = first + k - RADIUS;
      const bool inside = at >= 0 && at < height;
      rows[k] = inside ? ring + static_cast<int64_t>(at % RING) * MAPS * stride : zeros;
    }
  }

  // Map m filtered along y at column x, of every row: each number is read once for all.
  SPLATPOSE_INLINE void filter(const Window& w, int m, int x, F* out) const {
    const int at = m * stride + x;
    for (int j = 0; j < ABREAST_ROWS; ++j) out[j] = F{};
    for (int k = 0; k < COUNT; ++k) {
      const F value = load(rows[k] + at);
      for (int j = 0; j < ABREAST_ROWS; ++j) {
        if (k >= j && k - j < WINDOW) out[j] = fma(value, w[k - j], out[j]);
      }
    }
  }
};

}  // namespace splatpose::SPLATPOSE_ISA
