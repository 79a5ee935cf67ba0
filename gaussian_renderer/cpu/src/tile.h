#pragma once
// A tile of 32 x 32 pixels as 8 x 8 blocks of 4 x 4 (one register a block, or a few): where tiles
// and blocks lie, and what a splat does there.
#include "columns.h"
#include "kernel.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int BLOCK = 4;
constexpr int BLOCK_PIXELS = BLOCK * BLOCK;
constexpr int PARTS = BLOCK_PIXELS / LANES;  // registers that make up a block
constexpr int PART_ROWS = LANES / BLOCK;
constexpr int AHEAD = 12;  // splats are fetched so many early: they lie scattered in memory
constexpr float POWER_MIN = -LOG2_255;       // log2 of the least alpha that is drawn

struct TilePlace {
  int left, top;      // pixels
  int width, height;  // pixels of the tile inside the image
};

SPLATPOSE_INLINE TilePlace tile_place(const Frame& frame, int64_t tile) {
  TilePlace place;
  place.left = static_cast<int>(tile % frame.tiles_x) * TILE;
  place.top = static_cast<int>(tile / frame.tiles_x) * TILE;
  place.width = smaller(TILE, frame.camera.width - place.left);
  place.height = smaller(TILE, frame.camera.height - place.top);
  return place;
}

// Pixel column of each lane in its block, and row in its part.
SPLATPOSE_INLINE F lane_column() {
  F x;
  for (int i = 0; i < LANES; ++i) x[i] = static_cast<float>(i % BLOCK);
  return x;
}
SPLATPOSE_INLINE F lane_row() {
  F y;
  for (int i = 0; i < LANES; ++i) y[i] = static_cast<float>(i / BLOCK);
  return y;
}

// Bits of the blocks, row by row, that hold pixels of the image.
inline uint64_t inside_blocks(const TilePlace& place) {
  const int columns = (place.width + BLOCK - 1) / BLOCK, rows = (place.height + BLOCK - 1) / BLOCK;
  const uint64_t row = (1u << columns) - 1;
  const uint64_t all = row * 0x0101010101010101ull;
  return rows == 8 ? all : all & ((1ull << 8 * rows) - 1);
}

// A splat relative to the tile: its mean counted from the centre of the tile's first pixel.
SPLATPOSE_INLINE Splat to_tile(const Splat& s, const TilePlace& place) {
  Splat local = s;
  local.u -= static_cast<float>(place.left) + 0.5f;
  local.v -= static_cast<float>(place.top) + 0.5f;
  local.s_start = local.su * local.u + local.sv * local.v;
  local.t_start = local.tv * local.v;
  local.touched = 0;
  return local;
}

// log2(alpha) of U splats in step at pixels (x, y), counted from the tile's first. Forward and
// backward must round alike, so both go through here.
template <int U>
SPLATPOSE_INLINE void log2_alphas(const Splat* const* g, const F* x, const F* y, F* s, F* t,
                                  F* power) {
  for (int j = 0; j < U; ++j) t[j] = fnma(broadcast(g[j]->tv), y[j], broadcast(g[j]->t_start));
  for (int j = 0; j < U; ++j) s[j] = fnma(broadcast(g[j]->sv), y[j], broadcast(g[j]->s_start));
  for (int j = 0; j < U; ++j) s[j] = fnma(broadcast(g[j]->su), x[j], s[j]);
  for (int j = 0; j < U; ++j) power[j] = fnma(t[j], t[j], broadcast(g[j]->log2_opacity));
  for (int j = 0; j < U; ++j) power[j] = fnma(s[j], s[j], power[j]);
}

}  // namespace splatpose::SPLATPOSE_ISA
