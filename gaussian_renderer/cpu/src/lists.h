#pragma once
// Which splats of a batch may reach which block. A block is a column and a row of blocks; for each
// of the eight columns and rows a set of splats is kept, and a block's set is where two meet.
#include "tile.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int BATCH = 256;     // splats of a tile that are blended together
constexpr int NOTHING = 256;   // place of a splat that is seen nowhere; fills up the lists
constexpr int TOGETHER = 4;    // splats whose alphas are computed in step
constexpr int WORDS = BATCH / 64;

struct BlockSets {
  alignas(64) float low[2][BATCH], high[2][BATCH];  // rectangles in pixels of the tile
  uint64_t column[8][WORDS], row[8][WORDS];
};

// Sets of one axis, from the rectangles of `count` splats.
inline void find_sets(const float* low, const float* high, int count, uint64_t (*sets)[WORDS]) {
  for (int k = 0; k < 8; ++k) {
    const F first = broadcast(static_cast<float>(BLOCK * k));
    const F last = broadcast(static_cast<float>(BLOCK * k + BLOCK - 1));
    for (int w = 0; w < WORDS && 64 * w < count; ++w) {
      uint64_t set = 0;
      for (int i = 0; i < 64; i += LANES) {
        const Mask reaches = both(at_least(last, load(low + 64 * w + i)),
                                  at_least(load(high + 64 * w + i), first));
        set |= static_cast<uint64_t>(bits(reaches)) << i;
      }
      sets[k][w] = set;
    }
  }
}

inline void find_block_sets(int count, BlockSets& s) {
  for (int i = count; i % 64; ++i) s.low[0][i] = 2.0f * TILE;  // reaches no column
  find_sets(s.low[0], s.high[0], count, s.column);
  find_sets(s.low[1], s.high[1], count, s.row);
}

// Writes the places of the splats that may reach a block, in order and filled up to a multiple of
// TOGETHER, as offsets in bytes into an array of splats; returns how many.
inline int list_block(const BlockSets& s, int block, int count, uint32_t* list) {
  int length = 0;
  for (int w = 0; 64 * w < count; ++w) {
    uint64_t set = s.column[block % 8][w] & s.row[block / 8][w];
#if defined(SPLATPOSE_AVX512)
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int i = 64 * w; set; set >>= 16, i += 16) {
      const __m512i at = _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(i)), 6);
      const auto some = static_cast<__mmask16>(set);
      _mm512_storeu_si512(list + length, _mm512_maskz_compress_epi32(some, at));
      length += __builtin_popcount(some);
    }
#else
    for (; set; set &= set - 1) {
      list[length++] = static_cast<uint32_t>((64 * w + __builtin_ctzll(set)) * sizeof(Splat));
    }
#endif
  }
  while (length % TOGETHER) list[length++] = NOTHING * sizeof(Splat);
  return length;
}

}  // namespace splatpose::SPLATPOSE_ISA
