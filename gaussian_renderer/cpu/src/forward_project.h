#pragma once
// Projects all Gaussians and writes one Splat each, with the tiles that it touches.
#include "project.h"
#include "run.h"
#include "spherical.h"

namespace splatpose::SPLATPOSE_ISA {

// The channels of one group of the lanes; `fine` keeps those whose colours are in range.
inline void channel_group(const Frame& frame, const Cloud& cloud, int64_t first, int count,
                          int group, const Projected& g, F* out, Mask& fine) {
  for (int k = 0; k < GROUP; ++k) out[k] = F{};
  const int some = smaller(GROUP, cloud.channels - group * GROUP);
  if (cloud.sh && group == 0) {
    F basis[SH_TERMS], coefficients[SH_TERMS][3];
    const ViewDirection direction = view_direction(frame.camera.view, g.point);
    sh_basis(cloud.sh_terms, direction.unit, basis, nullptr);
    load_coefficients(cloud, first, count, coefficients);
    sh_colours(cloud.sh_terms, basis, coefficients, out);
  } else if (some > 0) {
    load_table(cloud.colours + first * cloud.channels + group * GROUP, some, cloud.channels, count,
               out);
  }
  for (int k = 0; k < some; ++k) {
    fine = both(fine, at_least(broadcast(LARGEST), absolute(out[k])));
    if (cloud.sh) out[k] = maximum(out[k], F{});
  }
  const int depth = frame.channels - 1 - group * GROUP;
  if (frame.depth && depth >= 0 && depth < GROUP) out[depth] = g.point[2];
}

// Splats and features of the lanes; returns where all colours were in range.
SPLATPOSE_INLINE Mask write_splats(Frame& frame, const Cloud& cloud, int64_t first, int count,
                                   const Projected& g, const F* half) {
  Mask fine = at_least(F{}, F{});
  F columns[16] = {g.pixel[0],  g.pixel[1],     g.factor[0], g.factor[1],
                            g.factor[2], g.log2_opacity, half[0],     half[1]};
  channel_group(frame, cloud, first, count, 0, g, columns + 8, fine);
  Splat* splats = static_cast<Splat*>(frame.splats.data()) + first;
  store_columns<16>(columns, sizeof(Splat) / sizeof(float), count, &splats->u);
  const int extra = (frame.channels - 1) / GROUP * GROUP;  // floats a Gaussian in `features`
  for (int group = 1; group * GROUP < frame.channels; ++group) {
    F more[GROUP];
    channel_group(frame, cloud, first, count, group, g, more, fine);
    float* features = static_cast<float*>(frame.features.data()) + first * extra;
    store_columns<GROUP>(more, extra, count, features + (group - 1) * GROUP);
  }
  return fine;
}

// The first tile with pixel centres within `half` of the mean along one axis; `length` becomes how
// many there are.
SPLATPOSE_INLINE I tile_range(F mean, F half, int size, I& length) {
  // Held beside the image before they become integers: a mean may lie anywhere.
  const F most = broadcast(static_cast<float>(size - 1));
  const F low = minimum(maximum(mean - half - 0.5f, F{}), most + 1.0f);
  const F high = maximum(minimum(mean + half - 0.5f, most), broadcast(-1.0f));
  const I floor = __builtin_convertvector(low, I);
  const I from = floor - (I)(__builtin_convertvector(floor, F) < low);  // rounded up
  const I to = __builtin_convertvector(high, I);
  const I hit = (from <= to) & (high >= 0.0f);
  const I first = from >> TILE_BITS;
  length = ((to >> TILE_BITS) + 1 - first) & hit;
  return first;
}

inline void project_lanes_forward(Frame& frame, const Cloud& cloud, int64_t first, int count,
                                  int32_t* radii) {
  Projected g;
  project_lanes(frame.camera, cloud, first, count, g);
  F offset[2];
  load_columns<2>(cloud.screen + 2 * first, 2, count, offset);
  for (int k = 0; k < 2; ++k) {
    g.pixel[k] += offset[k];
    g.drawn = both(g.drawn, at_least(broadcast(LARGEST), absolute(g.pixel[k])));
  }
  const F reach = maximum(1.38629436f * (g.log2_opacity + LOG2_255), F{});  // 2 ln(255 opacity)
  const F half[2] = {square_root(reach * g.covariance[0]), square_root(reach * g.covariance[2])};
  g.drawn = both(g.drawn, at_least(broadcast(LARGEST), half[0] + half[1]));
  g.drawn = both(g.drawn, write_splats(frame, cloud, first, count, g, half));
  // Numbers that are not drawn may be anything; integers are made of finite ones only.
  const F clean[4] = {keep(g.drawn, g.pixel[0]), keep(g.drawn, g.pixel[1]), keep(g.drawn, half[0]),
                      keep(g.drawn, half[1])};
  I columns, rows;
  const I across = tile_range(clean[0], clean[2], frame.camera.width, columns);
  const I down = tile_range(clean[1], clean[3], frame.camera.height, rows);
  const I hit = (columns > 0) & (rows > 0) & (I)keep(g.drawn, (F)(I{} - 1));
  const I tiles = columns * rows & hit, corner = (down * frame.tiles_x + across) & hit;
  const F size = minimum(maximum(clean[2], clean[3]), broadcast(1e9f));
  const I floor = __builtin_convertvector(size, I);
  const I radius = floor - (I)(__builtin_convertvector(floor, F) < size);
  alignas(64) int32_t lanes[5][LANES];
  const I all[5] = {corner, (columns | (I)((Bits)rows << 16)) & hit, tiles, (I)g.point[2],
                    (radius > 1 ? radius : I{} + 1) & (tiles > 0)};
  std::memcpy(lanes, all, sizeof(lanes));
  Cover* covers = static_cast<Cover*>(frame.covers.data()) + first;
  for (int lane = 0; lane < count; ++lane) {
    const auto size = static_cast<uint32_t>(lanes[1][lane]);
    covers[lane] = {static_cast<uint32_t>(lanes[0][lane]), static_cast<uint16_t>(size),
                    static_cast<uint16_t>(size >> 16)};
  }
  const size_t bytes = sizeof(int32_t) * count;
  std::memcpy(static_cast<uint32_t*>(frame.slot_start.data()) + first, lanes[2], bytes);
  std::memcpy(static_cast<uint32_t*>(frame.keys_swap.data()) + first, lanes[3], bytes);
  std::memcpy(radii + first, lanes[4], bytes);
}

inline void project(Frame& frame, const Cloud& cloud, int32_t* radii, int threads) {
  const int64_t n = cloud.count;
  const int extra = (frame.channels - 1) / GROUP * GROUP;
  frame.splats.reserve(sizeof(Splat) * n);
  frame.features.reserve(sizeof(float) * n * extra);
  frame.covers.reserve(sizeof(Cover) * n);
  frame.slot_start.reserve(sizeof(uint32_t) * (n + 1));
  frame.keys_swap.reserve(sizeof(uint32_t) * n);
  for_each(threads, (n + CHUNK - 1) / CHUNK, [&](int64_t chunk, int) {
    const int64_t last = smaller<int64_t>(n, (chunk + 1) * CHUNK);
    for (int64_t i = chunk * CHUNK; i < last; i += LANES) {
      project_lanes_forward(frame, cloud, i, static_cast<int>(smaller<int64_t>(LANES, last - i)),
                            radii);
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
