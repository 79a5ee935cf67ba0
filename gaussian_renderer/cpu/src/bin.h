#pragma once
// Which Gaussians touch which tile, nearest first: one radix sort by depth, then a counting sort by
// tile, which keeps the order.
#include "kernel.h"
#include "simd.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int RADIX_BITS = 12;  // at most, of one pass

// One stable pass over `bits` bits of the keys.
inline void radix_pass(int shift, int bits, int64_t n, const uint32_t* keys, const uint32_t* order,
                       uint32_t* keys_out, uint32_t* order_out) {
  uint32_t start[1 << RADIX_BITS];
  const uint32_t digits = (1u << bits) - 1;
  std::memset(start, 0, sizeof(uint32_t) << bits);
  for (int64_t i = 0; i < n; ++i) ++start[keys[i] >> shift & digits];
  uint32_t total = 0;
  for (uint32_t k = 0; k <= digits; ++k) {
    const uint32_t count = start[k];
    start[k] = total;
    total += count;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t at = start[keys[i] >> shift & digits]++;
    keys_out[at] = keys[i];
    order_out[at] = order[i];
  }
}

// Turns counts per Gaussian into starts and lists the drawn ones, nearest first.
inline const uint32_t* sort_by_depth(Frame& frame, int64_t n) {
  uint32_t* starts = static_cast<uint32_t*>(frame.slot_start.data());
  uint32_t* depths = static_cast<uint32_t*>(frame.keys_swap.data());  // left by project()
  uint32_t* keys = static_cast<uint32_t*>(frame.keys.reserve(sizeof(uint32_t) * n));
  uint32_t* order = static_cast<uint32_t*>(frame.order.reserve(sizeof(uint32_t) * n));
  uint32_t* order_swap = static_cast<uint32_t*>(frame.order_swap.reserve(sizeof(uint32_t) * n));
  int64_t drawn = 0;
  uint64_t total = 0;
  uint32_t least = ~0u, most = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t count = starts[i];
    starts[i] = static_cast<uint32_t>(total);
    total += count;
    keys[drawn] = depths[i];  // depths are positive, so their bits sort like integers
    order[drawn] = static_cast<uint32_t>(i);
    if (count) {
      ++drawn;
      least = smaller(least, depths[i]);
      most = larger(most, depths[i]);
    }
  }
  starts[n] = static_cast<uint32_t>(total);
  frame.drawn = drawn;
  frame.pairs = static_cast<int64_t>(total);
  // Only the bits in which the depths differ are sorted by, as many in each pass.
  for (int64_t i = 0; i < drawn; ++i) keys[i] -= least;
  const int width = most > least ? 32 - __builtin_clz(most - least) : 0;
  const int passes = (width + RADIX_BITS - 1) / RADIX_BITS;
  uint32_t* keys_swap = depths;
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = width * pass / passes, bits = width * (pass + 1) / passes - shift;
    radix_pass(shift, bits, drawn, keys, order, keys_swap, order_swap);
    uint32_t* k = keys;
    keys = keys_swap;
    keys_swap = k;
    uint32_t* o = order;
    order = order_swap;
    order_swap = o;
  }
  return order;
}

// Lists the tiles by the number of their splats, from the most to the least (to a factor of two),
// so that no thread begins with a long one when the others are done.
inline void order_tiles(Frame& frame, int tiles) {
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  uint32_t* order = static_cast<uint32_t*>(frame.tile_order.reserve(sizeof(uint32_t) * tiles));
  uint32_t at[34] = {};
  const auto rank = [start](int t) { return __builtin_clz((start[t + 1] - start[t]) << 1 | 1); };
  for (int t = 0; t < tiles; ++t) ++at[rank(t) + 1];
  for (int k = 0; k < 32; ++k) at[k + 1] += at[k];
  for (int t = 0; t < tiles; ++t) order[at[rank(t)]++] = static_cast<uint32_t>(t);
}

// Calls visit(tile, slot, wanted) for the tiles of a rectangle row by row, and, because loops of
// unforeseeable length are slow, four times without a branch for rectangles of up to 2 x 2 tiles:
// some of these calls are not wanted.
template <class Visit>
SPLATPOSE_INLINE void visit_tiles(Cover cover, uint32_t tiles_x, uint32_t slot, Visit&& visit) {
  const uint32_t columns = cover.columns, rows = cover.rows, first = cover.first;
  if (columns <= 2 && rows <= 2) {
    const uint32_t wide = columns >> 1, high = rows >> 1;
    visit(first, slot, columns != 0);
    visit(first + 1, slot + 1, wide);
    visit(first + tiles_x, slot + columns, high);
    visit(first + tiles_x + 1, slot + columns + 1, wide & high);
    return;
  }
  for (uint32_t y = 0; y < rows; ++y) {
    for (uint32_t x = 0; x < columns; ++x) visit(first + y * tiles_x + x, slot++, 1u);
  }
}

// False when there are more pairs than the frame allows.
inline bool bin(Frame& frame, int64_t n) {
  const uint32_t* order = sort_by_depth(frame, n);
  if (frame.pairs > frame.most_pairs) return false;
  const uint32_t tiles_x = static_cast<uint32_t>(frame.tiles_x);
  const int tiles = frame.tiles_x * frame.tiles_y, reach = tiles + frame.tiles_x + 4;
  uint32_t* start = static_cast<uint32_t*>(frame.tile_start.reserve(sizeof(uint32_t) * reach));
  std::memset(start, 0, sizeof(uint32_t) * reach);
  const Cover* covers = static_cast<const Cover*>(frame.covers.data());
  const uint32_t* slots = static_cast<const uint32_t*>(frame.slot_start.data());
  // One more than there are: pairs that are not wanted go to the place after the last.
  Pair* pairs = static_cast<Pair*>(frame.pair_list.reserve(sizeof(Pair) * (frame.pairs + 1)));
  // Counted two places ahead, so that after the writing pass start[t] is where tile t begins.
  for (int64_t i = 0; i < n; ++i) {
    visit_tiles(covers[i], tiles_x, 0,
                [start](uint32_t tile, uint32_t, uint32_t wanted) { start[tile + 2] += wanted; });
  }
  for (int t = 0; t < tiles; ++t) start[t + 2] += start[t + 1];
  const uint32_t nowhere = static_cast<uint32_t>(frame.pairs);
  for (int64_t i = 0; i < frame.drawn; ++i) {
    const uint32_t splat = order[i];
    visit_tiles(covers[splat], tiles_x, slots[splat],
                [=](uint32_t tile, uint32_t slot, uint32_t wanted) {
                  const uint32_t at = start[tile + 1];
                  pairs[wanted ? at : nowhere] = {splat, slot};
                  start[tile + 1] = at + wanted;
                });
  }
  order_tiles(frame, tiles);
  return true;
}

}  // namespace splatpose::SPLATPOSE_ISA
