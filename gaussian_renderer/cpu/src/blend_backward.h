#pragma once
// Gradients of one tile, front to back again: what lies behind a splat is the final value minus
// what has been blended so far, so neither a per-pixel counter nor a list of alphas is needed.
#include "run.h"
#include "tile.h"

namespace splatpose::SPLATPOSE_ISA {

struct alignas(64) BackwardScratch {
  float transmittance[BLOCKS * BLOCK_PIXELS];
  float behind[BLOCKS * BLOCK_PIXELS];  // cotangent times all that is still to be blended
  float d_alpha[BLOCKS * BLOCK_PIXELS];
  float d_channel[GROUP][BLOCKS * BLOCK_PIXELS];
  float plane[BLOCKS * BLOCK_PIXELS];
};

// Sums over pixels of h = alpha dL/dalpha times powers of (dx, dy) = mean - pixel.
template <int C>
struct Moments {
  F h{}, x{}, y{}, xx{}, xy{}, yy{}, absolute_u{}, absolute_v{}, channel[C]{};
};

template <int C, bool ABSOLUTE>
SPLATPOSE_INLINE void backward_row(const Splat& g, unsigned bits, int row, int part,
                                   BackwardScratch& s, Moments<C>& sums) {
  const F dy = g.v - (lane_row() + static_cast<float>(row * BLOCK + part * PART_ROWS));
  const F across = row_across(g, dy), down = row_down(g, dy);
  const F offset = g.u - lane_column();
  F h_row{}, x_row{};
  for (; bits; bits &= bits - 1) {
    const int column = __builtin_ctz(bits);
    const int at = (row * 8 + column) * BLOCK_PIXELS + part * LANES;
    const F dx = offset - static_cast<float>(column * BLOCK);
    const F power = log2_alpha(g, dx, across, down);
    const Mask seen = at_least(power, broadcast(POWER_MIN));
    const F raw = exp2(power);
    const F alpha = keep(seen, minimum(raw, broadcast(ALPHA_MAX)));
    const F t = load(s.transmittance + at);
    const F rest = 1.0f - alpha, after = t * rest;
    const Mask free = at_least(after, broadcast(TRANSMITTANCE_MIN));
    const F weight = keep(free, alpha * t);
    F value = load(s.d_alpha + at);
    for (int c = 0; c < C; ++c) {
      const F d = load(s.d_channel[c] + at);
      value = fma(d, broadcast(g.channel[c]), value);
      sums.channel[c] = fma(weight, d, sums.channel[c]);
    }
    const F behind = fnma(weight, value, load(s.behind + at));
    store(s.transmittance + at, after);
    store(s.behind + at, behind);
    // alpha (T value - behind / (1 - alpha)); none where alpha is held at its maximum.
    const Mask moves = both(free, at_least(broadcast(ALPHA_MAX), raw));
    const F gain = fnma(behind, alpha * reciprocal(rest), weight * value);
    const F h = keep(moves, gain);
    h_row += h;
    const F x = h * dx;
    x_row += x;
    sums.xx = fma(x, dx, sums.xx);
    if (ABSOLUTE) {
      sums.absolute_u += absolute(h * fma(broadcast(2.0f * g.aa), dx, across));
      sums.absolute_v += absolute(h * fma(broadcast(g.ab), dx, 2.0f * g.bb * dy));
    }
  }
  sums.h += h_row;
  sums.x += x_row;
  const F y_row = h_row * dy;
  sums.y += y_row;
  sums.yy = fma(y_row, dy, sums.yy);
  sums.xy = fma(x_row, dy, sums.xy);
}

template <int C, bool ABSOLUTE>
inline void backward_splat(const Splat& g, uint64_t blocks, int group, BackwardScratch& s,
                           float* slot) {
  Moments<C> m;
  for (int row = 0; row < 8; ++row) {
    const unsigned bits = blocks >> 8 * row & 255;
    if (!bits) continue;
    for (int part = 0; part < PARTS; ++part) backward_row<C, ABSOLUTE>(g, bits, row, part, s, m);
  }
  const F scale = broadcast(0.69314718f);  // aa, ab, bb are in units of log2
  const F vectors[SLOT_GEOMETRY + GROUP] = {
      m.x, m.y, m.xx, m.xy, m.yy, m.h, scale * m.absolute_u, scale * m.absolute_v,
      m.channel[0], C > 1 ? m.channel[1 % C] : F{}, C > 2 ? m.channel[2 % C] : F{},
      C > 3 ? m.channel[3 % C] : F{}};
  if (group == 0) {
    sums<SLOT_GEOMETRY + GROUP>(vectors, slot);
    return;
  }
  float total[SLOT_GEOMETRY + GROUP];
  sums<SLOT_GEOMETRY + GROUP>(vectors, total);
  for (int k = 0; k < SLOT_GEOMETRY; ++k) slot[k] += total[k];
  std::memcpy(slot + SLOT_GEOMETRY + group * GROUP, total + SLOT_GEOMETRY, sizeof(float) * GROUP);
}

inline int64_t slot_size(const Frame& frame) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  return groups == 1 ? 16 : SLOT_GEOMETRY + groups * GROUP;  // one group: a cache line each
}

// Cotangents of the group in block order, and their product with the final values.
template <int C>
inline void load_cotangents(const Frame& frame, const TilePlace& place, int group,
                            const ImageGradient& image, BackwardScratch& s) {
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  std::memset(s.behind, 0, sizeof(s.behind));
  const auto take = [&](const float* cotangent, const float* value, float* out) {
    if (!cotangent) {
      std::memset(out, 0, sizeof(s.plane));
      return;
    }
    gather_tile(frame, place, cotangent, out);
    gather_tile(frame, place, value, s.plane);
    for (int i = 0; i < TILE * TILE; ++i) s.behind[i] += out[i] * s.plane[i];
  };
  for (int c = 0; c < C; ++c) {
    const int k = group * GROUP + c;
    if (frame.depth && k == frame.channels - 1) {
      take(image.d_depth, image.depth, s.d_channel[c]);
    } else {
      take(image.d_image ? image.d_image + k * plane : nullptr, image.image + k * plane,
           s.d_channel[c]);
    }
  }
  take(group == 0 ? image.d_alpha : nullptr, image.alpha, s.d_alpha);
}

template <int C, bool ABSOLUTE>
inline void backward_tile(Frame& frame, int64_t tile, int group, const ImageGradient& image,
                          BackwardScratch& s) {
  const FlushSubnormals scope;
  const TilePlace place = tile_place(frame, tile);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const Pair* pairs = static_cast<const Pair*>(frame.pair_list.data());
  const uint64_t* touched = static_cast<const uint64_t*>(frame.touched.data());
  const Splat* splats = static_cast<const Splat*>(frame.splats.data());
  const float* features = static_cast<const float*>(frame.features.data());
  const int64_t extra = (frame.channels - 1) / GROUP * GROUP, size = slot_size(frame);
  float* slots = static_cast<float*>(frame.slots.data());
  uint8_t* used = static_cast<uint8_t*>(frame.slot_used.data());
  load_cotangents<C>(frame, place, group, image, s);
  clear_transmittance(place, s.transmittance);
  const int64_t last = start[tile + 1];
  for (int64_t i = start[tile]; i < last; ++i) {
    const Pair pair = pairs[i];
    if (i + AHEAD < last) {
      prefetch(splats + pairs[i + AHEAD].splat);
      prefetch_to_write(slots + pairs[i + AHEAD].slot * size);
      prefetch_to_write(used + pairs[i + AHEAD].slot);
    }
    used[pair.slot] = touched[i] != 0;
    if (!touched[i]) continue;
    Splat local = to_tile(splats[pair.splat], place);
    if (group > 0) {
      std::memcpy(local.channel, features + pair.splat * extra + (group - 1) * GROUP,
                  sizeof(local.channel));
    }
    backward_splat<C, ABSOLUTE>(local, touched[i], group, s, slots + pair.slot * size);
  }
}

template <bool ABSOLUTE>
inline void backward_group(Frame& frame, int64_t tile, int group, const ImageGradient& image,
                           BackwardScratch& s) {
  switch (smaller(frame.channels - group * GROUP, GROUP)) {
    case 1: return backward_tile<1, ABSOLUTE>(frame, tile, group, image, s);
    case 2: return backward_tile<2, ABSOLUTE>(frame, tile, group, image, s);
    case 3: return backward_tile<3, ABSOLUTE>(frame, tile, group, image, s);
    default: return backward_tile<4, ABSOLUTE>(frame, tile, group, image, s);
  }
}

// Leaves one gradient for every (tile, splat) pair in frame.slots.
inline void blend_backward(Frame& frame, const ImageGradient& image, bool absolute_sums,
                           int threads) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  auto* scratch =
      static_cast<BackwardScratch*>(frame.scratch.reserve(sizeof(BackwardScratch) * threads));
  frame.slots.reserve(sizeof(float) * frame.pairs * slot_size(frame));
  frame.slot_used.reserve(frame.pairs);
  for_each(threads, frame.tiles_x * frame.tiles_y, [&](int64_t tile, int worker) {
    for (int group = 0; group < groups; ++group) {
      if (absolute_sums) {
        backward_group<true>(frame, tile, group, image, scratch[worker]);
      } else {
        backward_group<false>(frame, tile, group, image, scratch[worker]);
      }
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
