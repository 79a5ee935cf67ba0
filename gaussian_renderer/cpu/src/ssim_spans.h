#pragma once
// Where the loss has to be worked out at all. Far from any pixel in which image and target differ,
// SSIM is 1 and the gradient 0: with an object in front of a plain background that is most of it.
#include "kernel.h"
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int RADIUS = 5, WINDOW = 2 * RADIUS + 1;
// Rows that are filtered along y together (as registers allow); their first is a multiple of it.
constexpr int ABREAST_ROWS = LANES == 4 ? 2 : 4;
constexpr int REACH = (RADIUS + LANES - 1) / LANES;  // registers that the window reaches sideways

struct Span {  // registers from ... to - 1 of a row; empty where from >= to
  int from, to;
};

SPLATPOSE_INLINE Span joined(Span a, Span b) {
  if (a.from >= a.to) return b;
  if (b.from >= b.to) return a;
  return {smaller(a.from, b.from), larger(a.to, b.to)};
}

// What each step covers in each row of an image.
struct SpanTable {
  Span* differ;   // image and target differ
  Span* compare;  // SSIM may be other than 1, or have a slope that matters; equal in a row group
  Span* take;     // inputs, filtered along x, that `compare` reads
  Span* finish;   // the gradient may be other than 0; equal in a row group
  Span* slopes;   // slopes of SSIM, filtered along x, that `finish` reads
};
constexpr int SPAN_ARRAYS = 5;

// Registers in which a row differs from the target's; it stops looking where it finds something.
inline Span difference(const float* x, const float* y, int width) {
  const int whole = width / LANES;
  const auto equal = [&](int k) {  // NaN equals nothing
    const F a = load(x + k * LANES), b = load(y + k * LANES);
    return bits(both(at_least(a, b), at_least(b, a))) == (1u << LANES) - 1;
  };
  int from = 0, to = whole;
  bool tail = false;
  for (int i = whole * LANES; i < width; ++i) tail |= !(x[i] == y[i]);
  while (from < whole && equal(from)) ++from;
  if (tail) return {from, whole + 1};
  while (to > from && equal(to - 1)) --to;
  return {from, to};
}

// Joins the spans of rows within RADIUS, widened by `reach`, into `out`, for rows first ... last - 1.
inline void spread(const Span* in, Span* out, int first, int last, int height, int registers,
                   int reach) {
  for (int row = first; row < last; ++row) {
    Span s{0, 0};
    for (int k = larger(row - RADIUS, 0); k <= smaller(row + RADIUS, height - 1); ++k) {
      s = joined(s, in[k]);
    }
    if (s.from < s.to) s = {larger(s.from - reach, 0), smaller(s.to + reach, registers)};
    out[row] = s;
  }
}

// Gives all rows of a group the span that covers theirs.
inline void level(Span* spans, int first, int last, int height) {
  for (int row = first / ABREAST_ROWS * ABREAST_ROWS; row < last; row += ABREAST_ROWS) {
    const int end = smaller(row + ABREAST_ROWS, height);
    Span s{0, 0};
    for (int k = row; k < end; ++k) s = joined(s, spans[k]);
    for (int k = row; k < end; ++k) spans[k] = s;
  }
}

}  // namespace splatpose::SPLATPOSE_ISA
