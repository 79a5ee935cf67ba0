#pragma once
// A tile of 32 x 32 pixels as 8 x 8 blocks of 4 x 4: where blocks lie, and moving pixels between
// block order (one register a block, or a few) and channel-first images.
#include "kernel.h"
#include "simd.h"

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
  return local;
}

// Blocks under the rectangle of a splat that is relative to the tile.
SPLATPOSE_INLINE uint64_t covered_blocks(const Splat& s) {
  const float limit = TILE - 1;
  const int x0 = static_cast<int>(__builtin_ceilf(larger(s.u - s.half_u, 0.0f)));
  const int x1 = static_cast<int>(smaller(s.u + s.half_u, limit));
  const int y0 = static_cast<int>(__builtin_ceilf(larger(s.v - s.half_v, 0.0f)));
  const int y1 = static_cast<int>(smaller(s.v + s.half_v, limit));
  if (x0 > x1 || y0 > y1) return 0;
  const uint64_t row = (2u << x1 / BLOCK) - (1u << x0 / BLOCK);
  const uint64_t rows = (~0ull >> (56 - 8 * (y1 / BLOCK))) & (~0ull << 8 * (y0 / BLOCK));
  return row * 0x0101010101010101ull & rows;
}

// Transmittance before anything is drawn: 1 inside of the image, 0 (closed) outside.
inline void clear_transmittance(const TilePlace& place, float* t) {
  for (int b = 0; b < BLOCKS; ++b) {
    for (int i = 0; i < BLOCK_PIXELS; ++i) {
      const int x = b % 8 * BLOCK + i % BLOCK, y = b / 8 * BLOCK + i / BLOCK;
      t[b * BLOCK_PIXELS + i] = x < place.width && y < place.height ? 1.0f : 0.0f;
    }
  }
}

// Copies a tile out of an image plane into block order; zero outside of the image.
inline void gather_tile(const Frame& frame, const TilePlace& place, const float* plane, float* out) {
  const float* origin = plane + static_cast<int64_t>(place.top) * frame.camera.width + place.left;
  if (place.width < TILE || place.height < TILE) {
    std::memset(out, 0, sizeof(float) * TILE * TILE);
  }
  for (int y = 0; y < place.height; ++y) {
    const float* row = origin + static_cast<int64_t>(y) * frame.camera.width;
    float* to = out + y / BLOCK * 8 * BLOCK_PIXELS + y % BLOCK * BLOCK;
    for (int x = 0; x < place.width; x += BLOCK, to += BLOCK_PIXELS) {
      if (x + BLOCK <= place.width) {
        std::memcpy(to, row + x, sizeof(float) * BLOCK);
      } else {
        for (int k = x; k < place.width; ++k) to[k - x] = row[k];
      }
    }
  }
}

// Copies a tile in block order into an image plane.
inline void scatter_tile(const Frame& frame, const TilePlace& place, const float* in, float* plane) {
  float* origin = plane + static_cast<int64_t>(place.top) * frame.camera.width + place.left;
  for (int y = 0; y < place.height; ++y) {
    float* row = origin + static_cast<int64_t>(y) * frame.camera.width;
    const float* from = in + y / BLOCK * 8 * BLOCK_PIXELS + y % BLOCK * BLOCK;
    for (int x = 0; x < place.width; x += BLOCK, from += BLOCK_PIXELS) {
      if (x + BLOCK <= place.width) {
        std::memcpy(row + x, from, sizeof(float) * BLOCK);
      } else {
        for (int k = x; k < place.width; ++k) row[k] = from[k - x];
      }
    }
  }
}

// log2(alpha) at the lanes' distances from the mean. Forward and backward must round alike, so both
// go through here: `across` and `down` depend on the row only.
SPLATPOSE_INLINE F row_across(const Splat& s, F dy) { return s.ab * dy; }
SPLATPOSE_INLINE F row_down(const Splat& s, F dy) {
  return fma(s.bb * dy, dy, broadcast(s.log2_opacity));
}
SPLATPOSE_INLINE F log2_alpha(const Splat& s, F dx, F across, F down) {
  return fma(fma(broadcast(s.aa), dx, across), dx, down);
}

// The same for U splats in step.
template <int U>
SPLATPOSE_INLINE void log2_alphas(const Splat* const* g, F column, F row, F* power) {
  F dx[U], dy[U], across[U];
  for (int j = 0; j < U; ++j) dy[j] = g[j]->v - row;
  for (int j = 0; j < U; ++j) dx[j] = g[j]->u - column;
  for (int j = 0; j < U; ++j) across[j] = row_across(*g[j], dy[j]);
  for (int j = 0; j < U; ++j) power[j] = g[j]->bb * dy[j];
  for (int j = 0; j < U; ++j) power[j] = fma(power[j], dy[j], broadcast(g[j]->log2_opacity));
  for (int j = 0; j < U; ++j) across[j] = fma(broadcast(g[j]->aa), dx[j], across[j]);
  for (int j = 0; j < U; ++j) power[j] = fma(across[j], dx[j], power[j]);
}

}  // namespace splatpose::SPLATPOSE_ISA
