#pragma once
// (1 - l) L1 + l (1 - SSIM) and its gradient in one pass over the rows (Wang et al. 2004; 11 x 11
// Gaussian window, sigma 1.5, zero padding). The window is separable: rows are filtered along x as
// they come, the last eleven are kept in a ring, and are filtered along y from there.
#include "kernel.h"
#include "run.h"
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int RADIUS = 5, WINDOW = 2 * RADIUS + 1;
constexpr int PAD = 16;       // zeros before and after a row: whole registers, RADIUS at least
constexpr int INPUTS = 4;     // filtered maps: x, y, x^2 + y^2, x y
constexpr int GRADIENTS = 3;  // of SSIM by the filtered x, x^2 + y^2 and x y
constexpr float SSIM_C1 = 0.01f * 0.01f, SSIM_C2 = 0.03f * 0.03f;

struct SsimRows {
  int stride;      // floats of a row: the width rounded up to whole registers
  float* padded;   // [INPUTS] rows with PAD zeros on both sides
  float* zeros;    // [INPUTS, stride], in place of rows off the image
  float* inputs;   // ring [WINDOW, INPUTS, stride]
  float* slopes;   // ring [WINDOW, GRADIENTS, stride]
};

SPLATPOSE_INLINE int padded_stride(int stride) { return stride + 2 * PAD; }

inline int64_t ssim_floats(int stride) {
  return INPUTS * (padded_stride(stride) + stride) + WINDOW * (INPUTS + GRADIENTS) * stride;
}

inline void window(float* weights) {
  float total = 0.0f;
  for (int i = 0; i < WINDOW; ++i) {
    const float x = static_cast<float>(i - RADIUS) / 1.5f;
    weights[i] = __builtin_expf(-0.5f * x * x);
    total += weights[i];
  }
  for (int i = 0; i < WINDOW; ++i) weights[i] /= total;
}

// Filters MAPS padded rows along x.
template <int MAPS>
inline void filter_x(const SsimRows& rows, const float* weights, float* out) {
  for (int m = 0; m < MAPS; ++m) {
    const float* in = rows.padded + m * padded_stride(rows.stride) + PAD - RADIUS;
    for (int x = 0; x < rows.stride; x += LANES) {
      F total = weights[0] * load(in + x);
      for (int k = 1; k < WINDOW; ++k) {
        total = fma(load(in + x + k), broadcast(weights[k]), total);
      }
      store(out + m * rows.stride + x, total);
    }
  }
}

// The rows of a ring under the window about `row`.
template <int MAPS>
struct Taps {
  const float* rows[WINDOW];  // [MAPS, stride] each
  int stride;

  SPLATPOSE_INLINE Taps(const SsimRows& r, const float* ring, int row, int height)
      : stride(r.stride) {
    for (int k = 0; k < WINDOW; ++k) {
      const int at = row + k - RADIUS;
      const bool inside = at >= 0 && at < height;
      rows[k] = inside ? ring + at % WINDOW * MAPS * r.stride : r.zeros;
    }
  }

  // Map m filtered along y at column x.
  SPLATPOSE_INLINE F filter(const float* weights, int m, int x) const {
    const int at = m * stride + x;
    F total = weights[0] * load(rows[0] + at);
    for (int k = 1; k < WINDOW; ++k) {
      total = fma(load(rows[k] + at), broadcast(weights[k]), total);
    }
    return total;
  }
};

// The four maps of an image row, filtered along x, into the ring.
inline void take_row(const SsimRows& rows, const float* weights, const float* image,
                     const float* target, int row, int width) {
  float* padded[INPUTS];
  for (int m = 0; m < INPUTS; ++m) padded[m] = rows.padded + m * padded_stride(rows.stride) + PAD;
  const float* x = image + static_cast<int64_t>(row) * width;
  const float* y = target + static_cast<int64_t>(row) * width;
  int i = 0;
  for (; i + LANES <= width; i += LANES) {
    const F a = load(x + i), b = load(y + i);
    store(padded[0] + i, a);
    store(padded[1] + i, b);
    store(padded[2] + i, fma(a, a, b * b));
    store(padded[3] + i, a * b);
  }
  for (; i < width; ++i) {
    padded[0][i] = x[i];
    padded[1][i] = y[i];
    padded[2][i] = x[i] * x[i] + y[i] * y[i];
    padded[3][i] = x[i] * y[i];
  }
  for (int m = 0; m < INPUTS; ++m) {
    for (int k = width; k < rows.stride + RADIUS; ++k) padded[m][k] = 0.0f;
  }
  filter_x<INPUTS>(rows, weights, rows.inputs + row % WINDOW * INPUTS * rows.stride);
}

struct Similarity {
  F value, by_mean, by_squares, by_product;
};

SPLATPOSE_INLINE Similarity similarity(F mean_x, F mean_y, F squares, F product) {
  const F cross = mean_x * mean_y, own = fma(mean_x, mean_x, mean_y * mean_y);
  const F a1 = fma(broadcast(2.0f), cross, broadcast(SSIM_C1));
  const F a2 = fma(broadcast(2.0f), product - cross, broadcast(SSIM_C2));
  const F b1 = own + SSIM_C1, b2 = squares - own + SSIM_C2;
  const F inverse = 1.0f / (b1 * b2);
  Similarity s;
  s.value = a1 * a2 * inverse;
  const F by_b2 = s.value * b1 * inverse;  // value / b2
  const F by_b1 = s.value * b2 * inverse;
  s.by_mean = 2.0f * (mean_y * (a2 - a1) * inverse + mean_x * (by_b2 - by_b1));
  s.by_squares = -by_b2;
  s.by_product = 2.0f * a1 * inverse;
  return s;
}

// SSIM of one row: adds up its values and leaves its slopes, filtered along x, in their ring.
inline double compare_row(const SsimRows& rows, const float* weights, int row, int height,
                          int width) {
  const Taps<INPUTS> taps(rows, rows.inputs, row, height);
  float* padded[GRADIENTS];
  for (int m = 0; m < GRADIENTS; ++m) {
    padded[m] = rows.padded + m * padded_stride(rows.stride) + PAD;
  }
  F total{};
  const F columns = [] {
    F c;
    for (int i = 0; i < LANES; ++i) c[i] = static_cast<float>(i);
    return c;
  }();
  for (int x = 0; x < rows.stride; x += LANES) {
    F maps[INPUTS];
    for (int m = 0; m < INPUTS; ++m) maps[m] = taps.filter(weights, m, x);
    const Similarity s = similarity(maps[0], maps[1], maps[2], maps[3]);
    const Mask inside = above(broadcast(static_cast<float>(width - x)), columns);
    total += keep(inside, s.value);
    store(padded[0] + x, keep(inside, s.by_mean));
    store(padded[1] + x, keep(inside, s.by_squares));
    store(padded[2] + x, keep(inside, s.by_product));
  }
  for (int m = 0; m < GRADIENTS; ++m) std::memset(padded[m] + rows.stride, 0, sizeof(float) * RADIUS);
  filter_x<GRADIENTS>(rows, weights, rows.slopes + row % WINDOW * GRADIENTS * rows.stride);
  return sum(total);
}

struct LossScale {
  float l1, ssim;  // weight of each term divided by the number of values
};

// Gradient of one row, and the sum of its absolute differences.
inline double finish_row(const SsimRows& rows, const float* weights, const float* image,
                         const float* target, float* gradient, int row, int height, int width,
                         LossScale scale) {
  const Taps<GRADIENTS> taps(rows, rows.slopes, row, height);
  const int64_t at = static_cast<int64_t>(row) * width;
  F total{};
  for (int x = 0; x < rows.stride; x += LANES) {
    F maps[GRADIENTS];
    for (int m = 0; m < GRADIENTS; ++m) maps[m] = taps.filter(weights, m, x);
    const int count = smaller(LANES, width - x);
    F a{}, b{};
    if (count == LANES) {
      a = load(image + at + x);
      b = load(target + at + x);
    } else {
      for (int i = 0; i < count; ++i) a[i] = image[at + x + i], b[i] = target[at + x + i];
    }
    const F difference = a - b;
    total += absolute(difference);
    const F sign = keep(above(difference, F{}), broadcast(scale.l1)) -
                   keep(above(F{}, difference), broadcast(scale.l1));
    const F slope = fma(2.0f * a, maps[1], fma(b, maps[2], maps[0]));
    const F d = fnma(broadcast(scale.ssim), slope, sign);
    if (count == LANES) {
      store(gradient + at + x, d);
    } else {
      for (int i = 0; i < count; ++i) gradient[at + x + i] = d[i];
    }
  }
  return sum(total);
}

// Rows first ... last - 1 of one channel; `sums` takes |difference| and SSIM of every row.
inline void photometric_band(const SsimRows& rows, const float* weights, const float* image,
                             const float* target, float* gradient, int first, int last, int height,
                             int width, LossScale scale, double* sums) {
  std::memset(rows.padded, 0, sizeof(float) * INPUTS * padded_stride(rows.stride));
  std::memset(rows.zeros, 0, sizeof(float) * INPUTS * rows.stride);
  int taken = larger(first - 2 * RADIUS, 0), compared = larger(first - RADIUS, 0);
  for (int row = first; row < last; ++row) {
    for (; compared <= smaller(row + RADIUS, height - 1); ++compared) {
      for (; taken <= smaller(compared + RADIUS, height - 1); ++taken) {
        take_row(rows, weights, image, target, taken, width);
      }
      const double value = compare_row(rows, weights, compared, height, width);
      if (compared >= first && compared < last) sums[2 * compared + 1] = value;
    }
    sums[2 * row] = finish_row(rows, weights, image, target, gradient, row, height, width, scale);
  }
}

inline double photometric(const float* image, const float* target, float* gradient, int channels,
                          int height, int width, float ssim_weight, Buffer& scratch, int threads) {
  const int stride = (width + LANES - 1) / LANES * LANES;
  const int64_t plane = static_cast<int64_t>(height) * width;
  const int64_t floats = (ssim_floats(stride) + 15) / 16 * 16;
  const int64_t lines = static_cast<int64_t>(channels) * height;
  char* memory = static_cast<char*>(
      scratch.reserve(sizeof(double) * 2 * lines + sizeof(float) * floats * threads + 64));
  float* work = reinterpret_cast<float*>(memory);
  double* sums = reinterpret_cast<double*>(memory + sizeof(float) * floats * threads);
  float weights[WINDOW];
  window(weights);
  const double values = static_cast<double>(channels) * plane;
  const LossScale scale{static_cast<float>((1.0 - ssim_weight) / values),
                        static_cast<float>(ssim_weight / values)};
  // More bands than threads only where needed: each repeats the work on twenty rows.
  const int bands = threads == 1 ? 1 : larger(1, smaller(2 * threads, height / (4 * WINDOW)));
  for_each(threads, static_cast<int64_t>(channels) * bands, [&](int64_t job, int worker) {
    const int c = static_cast<int>(job / bands), band = static_cast<int>(job % bands);
    float* own = work + worker * floats;
    float* zeros = own + INPUTS * padded_stride(stride);
    float* rings = zeros + INPUTS * stride;
    const SsimRows rows{stride, own, zeros, rings, rings + WINDOW * INPUTS * stride};
    photometric_band(rows, weights, image + c * plane, target + c * plane, gradient + c * plane,
                     static_cast<int>(static_cast<int64_t>(height) * band / bands),
                     static_cast<int>(static_cast<int64_t>(height) * (band + 1) / bands), height,
                     width, scale, sums + static_cast<int64_t>(2) * c * height);
  });
  double difference = 0.0, similar = 0.0;
  for (int64_t i = 0; i < lines; ++i) {
    difference += sums[2 * i];
    similar += sums[2 * i + 1];
  }
  return (1.0 - ssim_weight) * difference / values + ssim_weight * (1.0 - similar / values);
}

}  // namespace splatpose::SPLATPOSE_ISA
