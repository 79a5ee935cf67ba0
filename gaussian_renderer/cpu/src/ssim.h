#pragma once
// (1 - l) L1 + l (1 - SSIM) and its gradient in one pass over the rows (Wang et al. 2004; 11 x 11
// Gaussian window, sigma 1.5, zero padding). The window is separable: rows are filtered along x as
// they come and kept in a ring, and are filtered along y from there.
#include "columns.h"
#include "run.h"
#include "ssim_filter.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int INPUTS = 4;     // filtered maps: x, y, x^2 + y^2, x y
constexpr int GRADIENTS = 3;  // of SSIM by the filtered x, x^2 + y^2 and x y
constexpr float SSIM_C1 = 0.01f * 0.01f, SSIM_C2 = 0.03f * 0.03f;
constexpr float VALUE_LARGEST = 1e8f;  // values beyond it count as it: their fourth power fits

struct LossScale {
  float l1, ssim;  // weight of each term divided by the number of values
};

// One channel of the images, and a worker's memory.
struct LossPlane {
  const float* image;
  const float* target;
  float* gradient;
  int height, width;
  int stride;      // floats of a row: the width rounded up to whole registers
  LossScale scale;
  float* padded;   // [INPUTS] rows with PAD zeros on both sides
  float* zeros;    // [INPUTS, stride], in place of rows off the image
  float* inputs;   // ring [RING, INPUTS, stride]
  float* slopes;   // ring [RING, GRADIENTS, stride]
  SpanTable spans;
  Window window;

  SPLATPOSE_INLINE int registers() const { return stride / LANES; }
  SPLATPOSE_INLINE float* row(int map) const { return padded + map * padded_stride(stride) + PAD; }
};

// A worker's memory in floats (spans are two integers).
inline int64_t loss_floats(int stride, int height) {
  const int64_t floats = INPUTS * (padded_stride(stride) + stride) +
                         RING * (INPUTS + GRADIENTS) * static_cast<int64_t>(stride) +
                         2 * SPAN_ARRAYS * static_cast<int64_t>(height);
  return (floats + 15) / 16 * 16;
}

inline void divide_memory(LossPlane& p, float* memory) {
  p.padded = memory;
  p.zeros = p.padded + INPUTS * padded_stride(p.stride);
  p.inputs = p.zeros + INPUTS * p.stride;
  p.slopes = p.inputs + RING * INPUTS * p.stride;
  Span* spans = reinterpret_cast<Span*>(p.slopes + RING * GRADIENTS * p.stride);
  const auto next = [&] { return (spans += p.height) - p.height; };
  p.spans = {next(), next(), next(), next(), next()};
  std::memset(p.padded, 0, sizeof(float) * INPUTS * (padded_stride(p.stride) + p.stride));
}

// Finds out what rows first ... last - 1 of the gradient need. Every step looks RADIUS further than
// the next and at whole groups, so that bands of rows come to the same spans.
inline void find_spans(const LossPlane& p, int first, int last) {
  const SpanTable& s = p.spans;
  const int n = p.registers(), h = p.height;
  const auto low = [&](int reach) { return larger(first - reach * RADIUS, 0) / ABREAST_ROWS * ABREAST_ROWS; };
  const auto high = [&](int reach) {
    return smaller((last + reach * RADIUS + ABREAST_ROWS - 1) / ABREAST_ROWS * ABREAST_ROWS, h);
  };
  for (int row = low(8); row < high(8); ++row) {
    const int64_t at = static_cast<int64_t>(row) * p.width;
    s.differ[row] = difference(p.image + at, p.target + at, p.width);
  }
  spread(s.differ, s.compare, low(6), high(6), h, n, REACH);
  level(s.compare, low(6), high(6), h);
  spread(s.compare, s.take, low(4), high(4), h, n, 0);
  spread(s.compare, s.finish, low(3), high(3), h, n, REACH);
  level(s.finish, low(3), high(3), h);
  spread(s.finish, s.slopes, low(1), high(1), h, n, 0);
}

// The four maps of an image row, filtered along x, into the ring.
inline void take_row(const LossPlane& p, int row) {
  const Span span = p.spans.take[row];
  if (span.from >= span.to) return;
  const float* x = p.image + static_cast<int64_t>(row) * p.width;
  const float* y = p.target + static_cast<int64_t>(row) * p.width;
  const int end = smaller(span.to + REACH, p.registers()) * LANES;
  for (int i = larger(span.from - REACH, 0) * LANES; i < end; i += LANES) {
    const int count = smaller(LANES, p.width - i);
    const F a = limited(load_some(x + i, count), VALUE_LARGEST);
    const F b = limited(load_some(y + i, count), VALUE_LARGEST);
    store(p.row(0) + i, a);
    store(p.row(1) + i, b);
    store(p.row(2) + i, fma(a, a, b * b));
    store(p.row(3) + i, a * b);
  }
  filter_x<INPUTS>(p.window, p.padded, p.stride, span,
                   p.inputs + static_cast<int64_t>(row % RING) * INPUTS * p.stride);
}

struct Similarity {
  F value, by_mean, by_squares, by_product;
};

SPLATPOSE_INLINE Similarity similarity(F mean_x, F mean_y, F squares, F product) {
  const F cross = mean_x * mean_y, own = fma(mean_x, mean_x, mean_y * mean_y);
  const F a1 = fma(broadcast(2.0f), cross, broadcast(SSIM_C1));
  const F a2 = fma(broadcast(2.0f), product - cross, broadcast(SSIM_C2));
  // The variance of bright values may come out negative, more than C2 makes up for.
  const F b1 = own + SSIM_C1, b2 = maximum(broadcast(0.5f * SSIM_C2), squares - own + SSIM_C2);
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

// SSIM of a group of rows: the sum of each row into `sums`, the slopes, not filtered yet, into the
// ring.
inline void compare_rows(const LossPlane& p, int first, double* sums) {
  const Span span = p.spans.compare[first];
  const int rows = smaller(ABREAST_ROWS, p.height - first);
  const Taps<INPUTS> taps(p.inputs, p.zeros, p.stride, first, p.height);
  F total[ABREAST_ROWS]{}, lanes;
  for (int i = 0; i < LANES; ++i) lanes[i] = static_cast<float>(i);
  const Window window = p.window;
  for (int x = span.from * LANES; x < span.to * LANES; x += LANES) {
    F maps[INPUTS][ABREAST_ROWS];
    for (int m = 0; m < INPUTS; ++m) taps.filter(window, m, x, maps[m]);
    const Mask inside = above(broadcast(static_cast<float>(p.width - x)), lanes);
    for (int j = 0; j < ABREAST_ROWS; ++j) {
      const Similarity s = similarity(maps[0][j], maps[1][j], maps[2][j], maps[3][j]);
      total[j] += keep(inside, s.value);
      float* out = p.slopes + static_cast<int64_t>((first + j) % RING) * GRADIENTS * p.stride + x;
      store(out, keep(inside, s.by_mean));
      store(out + p.stride, keep(inside, s.by_squares));
      store(out + 2 * p.stride, keep(inside, s.by_product));
    }
  }
  const int skipped = p.width - larger(smaller(span.to * LANES, p.width) - span.from * LANES, 0);
  for (int j = 0; j < rows; ++j) sums[2 * j + 1] = sum(total[j]) + skipped;
}

// Filters the slopes of a row along x, in place; 0 where SSIM was not worked out.
inline void filter_slopes(const LossPlane& p, int row) {
  const Span span = p.spans.slopes[row], known = p.spans.compare[row];
  if (span.from >= span.to) return;
  float* ring = p.slopes + static_cast<int64_t>(row % RING) * GRADIENTS * p.stride;
  for (int m = 0; m < GRADIENTS; ++m) {
    for (int k = larger(span.from - REACH, 0); k < smaller(span.to + REACH, p.registers()); ++k) {
      const bool inside = k >= known.from && k < known.to;
      store(p.row(m) + k * LANES, inside ? load(ring + m * p.stride + k * LANES) : F{});
    }
  }
  filter_x<GRADIENTS>(p.window, p.padded, p.stride, span, ring);
}

// Gradient of a group of rows, and the sums of their absolute differences.
inline void finish_rows(const LossPlane& p, int first, double* sums) {
  const Span span = p.spans.finish[first];
  const int rows = smaller(ABREAST_ROWS, p.height - first);
  const Taps<GRADIENTS> taps(p.slopes, p.zeros, p.stride, first, p.height);
  const Window window = p.window;
  F total[ABREAST_ROWS]{};
  if (span.from > 0 || span.to * LANES < p.width) {
    std::memset(p.gradient + static_cast<int64_t>(first) * p.width, 0,
                sizeof(float) * rows * p.width);
  }
  for (int x = span.from * LANES; x < span.to * LANES; x += LANES) {
    F maps[GRADIENTS][ABREAST_ROWS];
    for (int m = 0; m < GRADIENTS; ++m) taps.filter(window, m, x, maps[m]);
    const int count = smaller(LANES, p.width - x);
    for (int j = 0; j < rows; ++j) {
      const int64_t at = static_cast<int64_t>(first + j) * p.width + x;
      const F a = limited(load_some(p.image + at, count), VALUE_LARGEST);
      const F b = limited(load_some(p.target + at, count), VALUE_LARGEST);
      const F difference = a - b;
      total[j] += absolute(difference);
      const F sign = keep(above(difference, F{}), broadcast(p.scale.l1)) -
                     keep(above(F{}, difference), broadcast(p.scale.l1));
      const F slope = fma(2.0f * a, maps[1][j], fma(b, maps[2][j], maps[0][j]));
      store_some(p.gradient + at, fnma(broadcast(p.scale.ssim), slope, sign), count);
    }
  }
  for (int j = 0; j < rows; ++j) sums[2 * (first + j)] = sum(total[j]);
}

// Rows first ... last - 1 of one channel, both multiples of ABREAST_ROWS or the image's edge; `sums`
// takes |difference| and SSIM of every row.
inline void photometric_band(const LossPlane& p, int first, int last, double* sums) {
  find_spans(p, first, last);
  const auto group = [](int row) { return larger(row, 0) / ABREAST_ROWS * ABREAST_ROWS; };
  int compared = group(first - RADIUS), filtered = larger(first - RADIUS, 0);
  int taken = larger(compared - RADIUS, 0);
  double unused[2 * ABREAST_ROWS];
  for (int row = first; row < last; row += ABREAST_ROWS) {
    const int ahead = smaller(row + ABREAST_ROWS + RADIUS, p.height);  // slopes that are read
    for (; compared < ahead; compared += ABREAST_ROWS) {
      for (; taken < smaller(compared + ABREAST_ROWS + RADIUS, p.height); ++taken) take_row(p, taken);
      const bool own = compared >= first && compared < last;
      compare_rows(p, compared, own ? sums + 2 * compared : unused);
    }
    for (; filtered < ahead; ++filtered) filter_slopes(p, filtered);
    finish_rows(p, row, sums);
  }
}

inline double photometric(const float* image, const float* target, float* gradient, int channels,
                          int height, int width, float ssim_weight, Buffer& scratch, int threads) {
  const int stride = (width + LANES - 1) / LANES * LANES;
  const int64_t plane = static_cast<int64_t>(height) * width, floats = loss_floats(stride, height);
  const int64_t lines = static_cast<int64_t>(channels) * height;
  char* memory = static_cast<char*>(
      scratch.reserve(sizeof(double) * 2 * lines + sizeof(float) * floats * threads + 64));
  double* sums = reinterpret_cast<double*>(memory + sizeof(float) * floats * threads);
  const double values = static_cast<double>(channels) * plane;
  const LossScale scale{static_cast<float>((1.0 - ssim_weight) / values),
                        static_cast<float>(ssim_weight / values)};
  const Window window;
  // More bands than threads only where needed: each repeats the work on twenty rows.
  const int bands = threads == 1 ? 1 : larger(1, smaller(2 * threads, height / (4 * WINDOW)));
  const auto edge = [&](int band) {
    if (band == bands) return height;
    return static_cast<int>(static_cast<int64_t>(height) * band / bands) / ABREAST_ROWS * ABREAST_ROWS;
  };
  for_each(threads, static_cast<int64_t>(channels) * bands, [&](int64_t job, int worker) {
    const int c = static_cast<int>(job / bands), band = static_cast<int>(job % bands);
    LossPlane p{image + c * plane, target + c * plane, gradient + c * plane, height, width, stride,
                scale, nullptr, nullptr, nullptr, nullptr, {}, window};
    divide_memory(p, reinterpret_cast<float*>(memory) + worker * floats);
    photometric_band(p, edge(band), edge(band + 1), sums + static_cast<int64_t>(2) * c * height);
  });
  double difference = 0.0, similar = 0.0;
  for (int64_t i = 0; i < lines; ++i) {
    difference += sums[2 * i];
    similar += sums[2 * i + 1];
  }
  return (1.0 - ssim_weight) * difference / values + ssim_weight * (1.0 - similar / values);
}

}  // namespace splatpose::SPLATPOSE_ISA
