#pragma once
// Projects all Gaussians and writes one Splat each, with the tiles that it touches.
#include "project.h"
#include "run.h"
#include "spherical.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr float LOG2E = 1.44269504f;

// Writes the channels of the lanes into splats and features; returns where all were finite.
SPLATPOSE_INLINE Mask write_channels(Frame& frame, const Cloud& cloud, int64_t first, int count,
                                     const Projected& g) {
  Splat* splats = static_cast<Splat*>(frame.splats.data()) + first;
  const int extra = (frame.channels - 1) / GROUP * GROUP;  // floats a Gaussian in `features`
  float* features = static_cast<float*>(frame.features.data()) + first * extra;
  F colour[3], worst = F{};
  if (cloud.sh) {
    F basis[SH_TERMS];
    const ViewDirection direction = view_direction(frame.camera.view, g.point);
    sh_basis(cloud.sh_terms, direction.unit, basis, nullptr);
    sh_colours(cloud, first, count, basis, colour);
    for (int c = 0; c < 3; ++c) {
      worst += colour[c] - colour[c];
      colour[c] = maximum(colour[c], F{});
    }
  }
  alignas(64) float lanes[4][LANES];
  for (int c = 0; c < 3; ++c) store(lanes[c], cloud.sh ? colour[c] : F{});
  store(lanes[3], g.point[2]);
  float bad[LANES];
  store(bad, worst);
  for (int lane = 0; lane < count; ++lane) {
    float* own = splats[lane].channel;
    for (int k = frame.channels; k < GROUP; ++k) own[k] = 0.0f;
    for (int k = 0; k < frame.channels; ++k) {
      const bool is_depth = frame.depth && k == frame.channels - 1;
      const float value = is_depth   ? lanes[3][lane]
                          : cloud.sh ? lanes[k][lane]
                                     : cloud.colours[(first + lane) * cloud.channels + k];
      if (!is_depth) bad[lane] += value - value;
      (k < GROUP ? own[k] : features[lane * extra + k - GROUP]) = value;
    }
    for (int k = frame.channels; k < extra + GROUP; ++k) {
      if (k >= GROUP) features[lane * extra + k - GROUP] = 0.0f;
    }
  }
  return at_least(load(bad), F{});
}

// Tiles under the rectangle of pixel centres within `half` of the mean; empty when off the image.
inline void cover(const Frame& frame, const Splat& s, uint16_t* tiles) {
  const float low[2] = {s.u - s.half_u - 0.5f, s.v - s.half_v - 0.5f};
  const float high[2] = {s.u + s.half_u - 0.5f, s.v + s.half_v - 0.5f};
  const int size[2] = {frame.camera.width, frame.camera.height};
  for (int k = 0; k < 2; ++k) {
    const float from = __builtin_ceilf(larger(low[k], 0.0f));
    const float to = __builtin_floorf(smaller(high[k], static_cast<float>(size[k] - 1)));
    const bool hit = from <= to;
    tiles[2 * k] = hit ? static_cast<uint16_t>(static_cast<int>(from) / TILE) : 0;
    tiles[2 * k + 1] = hit ? static_cast<uint16_t>(static_cast<int>(to) / TILE + 1) : 0;
  }
}

inline void project_chunk(Frame& frame, const Cloud& cloud, int64_t first, int64_t last,
                          int32_t* radii) {
  Splat* splats = static_cast<Splat*>(frame.splats.data());
  uint16_t* rectangles = static_cast<uint16_t*>(frame.rectangles.data());
  uint32_t* counts = static_cast<uint32_t*>(frame.slot_start.data());
  uint32_t* depths = static_cast<uint32_t*>(frame.keys_swap.data());
  for (int64_t i = first; i < last; i += LANES) {
    const int count = static_cast<int>(smaller<int64_t>(LANES, last - i));
    Projected g;
    project_lanes(frame.camera, cloud, i, count, g);
    g.drawn = both(g.drawn, write_channels(frame, cloud, i, count, g));
    if (cloud.screen) {
      F offset[2];
      load_columns<2>(cloud.screen + 2 * i, 2, count, offset);
      for (int k = 0; k < 2; ++k) g.pixel[k] += offset[k];
      g.drawn = both(g.drawn, at_least(g.pixel[0] - g.pixel[0] + g.pixel[1] - g.pixel[1], F{}));
    }
    const F reach = maximum(1.38629436f * (g.log2_opacity + LOG2_255), F{});  // 2 ln(255 opacity)
    const F half_u = square_root(reach * g.covariance[0]);
    const F half_v = square_root(reach * g.covariance[2]);
    g.drawn = both(g.drawn, at_least(broadcast(1e30f), half_u + half_v));
    const F columns[8] = {g.pixel[0], g.pixel[1], -0.5f * LOG2E * g.conic[0], -LOG2E * g.conic[1],
                          -0.5f * LOG2E * g.conic[2], g.log2_opacity, half_u, half_v};
    store_columns<8>(columns, sizeof(Splat) / sizeof(float), count, &splats[i].u);
    float drawn[LANES];
    store(drawn, keep(g.drawn, broadcast(1.0f)));
    alignas(64) float z[LANES];
    store(z, g.point[2]);
    for (int lane = 0; lane < count; ++lane) {
      const Splat& s = splats[i + lane];
      uint16_t* tiles = rectangles + 4 * (i + lane);
      for (int k = 0; k < 4; ++k) tiles[k] = 0;
      if (drawn[lane] != 0.0f) cover(frame, s, tiles);
      counts[i + lane] = (tiles[1] - tiles[0]) * (tiles[3] - tiles[2]);
      std::memcpy(&depths[i + lane], &z[lane], sizeof(uint32_t));
      const float radius = smaller(__builtin_ceilf(larger(s.half_u, s.half_v)), 1e9f);
      radii[i + lane] = counts[i + lane] ? larger(static_cast<int32_t>(radius), 1) : 0;
    }
  }
}

inline void project(Frame& frame, const Cloud& cloud, int32_t* radii, int threads) {
  const int64_t n = cloud.count;
  const int extra = (frame.channels - 1) / GROUP * GROUP;
  frame.splats.reserve(sizeof(Splat) * n);
  frame.features.reserve(sizeof(float) * n * extra);
  frame.rectangles.reserve(sizeof(uint16_t) * 4 * n);
  frame.slot_start.reserve(sizeof(uint32_t) * (n + 1));
  frame.keys_swap.reserve(sizeof(uint32_t) * n);
  for_each(threads, (n + CHUNK - 1) / CHUNK, [&](int64_t chunk, int) {
    project_chunk(frame, cloud, chunk * CHUNK, smaller<int64_t>(n, (chunk + 1) * CHUNK), radii);
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
