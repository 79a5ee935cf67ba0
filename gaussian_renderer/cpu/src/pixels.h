#pragma once
// Moves pixels between channel-first images and block order.
#include "tile.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int ABREAST = LANES / BLOCK;  // blocks that a register covers along an image row

// Transposes ABREAST registers as a matrix of four pixels each: ABREAST rows of as many blocks
// become the blocks (or parts of them), and the other way round.
SPLATPOSE_INLINE void transpose_fours(F* m) {
#if defined(SPLATPOSE_AVX512)
  constexpr int EVEN = 0x88, ODD = 0xdd;  // quarters 0 and 2, or 1 and 3, of both
  const __m512 a = _mm512_shuffle_f32x4((__m512)m[0], (__m512)m[1], EVEN);
  const __m512 b = _mm512_shuffle_f32x4((__m512)m[0], (__m512)m[1], ODD);
  const __m512 c = _mm512_shuffle_f32x4((__m512)m[2], (__m512)m[3], EVEN);
  const __m512 d = _mm512_shuffle_f32x4((__m512)m[2], (__m512)m[3], ODD);
  m[0] = (F)_mm512_shuffle_f32x4(a, c, EVEN);
  m[1] = (F)_mm512_shuffle_f32x4(b, d, EVEN);
  m[2] = (F)_mm512_shuffle_f32x4(a, c, ODD);
  m[3] = (F)_mm512_shuffle_f32x4(b, d, ODD);
#elif defined(SPLATPOSE_AVX2)
  const __m256 a = (__m256)m[0], b = (__m256)m[1];
  m[0] = (F)_mm256_permute2f128_ps(a, b, 0x20);
  m[1] = (F)_mm256_permute2f128_ps(a, b, 0x31);
#else
  (void)m;  // a register is one row of one block
#endif
}

// Transmittance before anything is drawn: 1 inside of the image, 0 (closed) outside.
inline void clear_transmittance(const TilePlace& place, float* t) {
  if (place.width == TILE && place.height == TILE) {
    for (int i = 0; i < BLOCKS * BLOCK_PIXELS; i += LANES) store(t + i, broadcast(1.0f));
    return;
  }
  for (int b = 0; b < BLOCKS; ++b) {
    for (int i = 0; i < BLOCK_PIXELS; ++i) {
      const int x = b % 8 * BLOCK + i % BLOCK, y = b / 8 * BLOCK + i / BLOCK;
      t[b * BLOCK_PIXELS + i] = x < place.width && y < place.height ? 1.0f : 0.0f;
    }
  }
}

// Copies the named blocks, and perhaps their neighbours, out of an image plane; block b goes to
// `out + b * step`. Pixels outside of the image become zero.
inline void gather_tile(const Frame& frame, const TilePlace& place, uint64_t blocks,
                        const float* plane, float* out, int step = BLOCK_PIXELS) {
  int stride = frame.camera.width;
  const float* origin = plane + static_cast<int64_t>(place.top) * stride + place.left;
  alignas(64) float whole[TILE * TILE];
  if (place.width < TILE || place.height < TILE) {
    std::memset(whole, 0, sizeof(whole));
    for (int y = 0; y < place.height; ++y) {
      std::memcpy(whole + y * TILE, origin + static_cast<int64_t>(y) * stride,
                  sizeof(float) * place.width);
    }
    origin = whole;
    stride = TILE;
  }
  for (int block = 0; block < BLOCKS; block += ABREAST) {
    if (!(blocks >> block & ((1u << ABREAST) - 1))) continue;
    const float* corner = origin + static_cast<int64_t>(block / 8 * BLOCK) * stride + block % 8 * BLOCK;
    for (int part = 0; part < PARTS; ++part) {
      F rows[ABREAST];
      for (int j = 0; j < ABREAST; ++j) {
        rows[j] = load(corner + static_cast<int64_t>(part * ABREAST + j) * stride);
      }
      transpose_fours(rows);
      for (int j = 0; j < ABREAST; ++j) store(out + (block + j) * step + part * LANES, rows[j]);
    }
  }
}

// Copies a tile in block order into an image plane.
inline void scatter_tile(const Frame& frame, const TilePlace& place, const float* in, float* plane) {
  const int width = frame.camera.width;
  float* origin = plane + static_cast<int64_t>(place.top) * width + place.left;
  alignas(64) float whole[TILE * TILE];
  const bool partial = place.width < TILE || place.height < TILE;
  float* to = partial ? whole : origin;
  const int stride = partial ? TILE : width;
  for (int block = 0; block < BLOCKS; block += ABREAST) {
    float* corner = to + static_cast<int64_t>(block / 8 * BLOCK) * stride + block % 8 * BLOCK;
    for (int part = 0; part < PARTS; ++part) {
      F rows[ABREAST];
      for (int j = 0; j < ABREAST; ++j) rows[j] = load(in + (block + j) * BLOCK_PIXELS + part * LANES);
      transpose_fours(rows);
      for (int j = 0; j < ABREAST; ++j) {
        store(corner + static_cast<int64_t>(part * ABREAST + j) * stride, rows[j]);
      }
    }
  }
  if (!partial) return;
  for (int y = 0; y < place.height; ++y) {
    std::memcpy(origin + static_cast<int64_t>(y) * width, whole + y * TILE, sizeof(float) * place.width);
  }
}

// Sets all of a tile's pixels in an image plane.
inline void fill_tile(const Frame& frame, const TilePlace& place, float value, float* plane) {
  float* row = plane + static_cast<int64_t>(place.top) * frame.camera.width + place.left;
  for (int y = 0; y < place.height; ++y, row += frame.camera.width) {
    for (int x = 0; x < place.width; ++x) row[x] = value;
  }
}

}  // namespace splatpose::SPLATPOSE_ISA
