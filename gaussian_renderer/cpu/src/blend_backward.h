#pragma once
// Gradients of one tile, front to back again: what lies behind a splat is the final value minus
// what has been blended so far, so neither a per-pixel counter nor a list of alphas is needed.
#include "pixels.h"
#include "run.h"

namespace splatpose::SPLATPOSE_ISA {

// State of a part of a block, side by side, because a splat needs all of it.
enum Field { TRANSMITTANCE, BEHIND, D_ALPHA, D_CHANNEL };
constexpr int FIELDS = D_CHANNEL + GROUP;
constexpr int CELL = FIELDS * BLOCK_PIXELS;  // floats of a block: [FIELDS, BLOCK_PIXELS]

struct alignas(64) BackwardScratch {
  // BEHIND: cotangent times all that is still to be blended.
  float cells[BLOCKS * CELL];
  float plane[BLOCKS * BLOCK_PIXELS];
  float column[8][LANES], row[8 * PARTS][LANES];  // pixel coordinates in the tile
};

// Sums over pixels of h = alpha dL/dalpha times powers of (s, t), see Splat.
template <int C>
struct Moments {
  F h{}, s{}, t{}, ss{}, st{}, tt{}, channel[C]{};
};

template <int C>
SPLATPOSE_INLINE void backward_part(const Splat& g, int block, int part, BackwardScratch& scratch,
                                    Moments<C>& sums) {
  float* cell = scratch.cells + block * CELL + part * LANES;
  const auto field = [cell](int k) { return cell + k * BLOCK_PIXELS; };
  const F x = load(scratch.column[block % 8]), y = load(scratch.row[block / 8 * PARTS + part]);
  const Splat* splats[1] = {&g};
  F s, t, raw;
  log2_alphas<1>(splats, &x, &y, &s, &t, &raw);
  const Mask seen = at_least(raw, broadcast(POWER_MIN));
  F value = load(field(D_ALPHA));
  for (int c = 0; c < C; ++c) value = fma(load(field(D_CHANNEL + c)), broadcast(g.channel[c]), value);
  exp2_of<1>(&raw);
  const F alpha = keep(seen, minimum(raw, broadcast(ALPHA_MAX)));
  const F through = load(field(TRANSMITTANCE)), after = fnma(alpha, through, through);
  const Mask free = at_least(after, broadcast(TRANSMITTANCE_MIN));
  const F weight = keep(free, alpha * through);
  store(field(TRANSMITTANCE), after);
  const F behind = load(field(BEHIND)), own = weight * value;
  store(field(BEHIND), behind - own);
  for (int c = 0; c < C; ++c) {
    sums.channel[c] = fma(weight, load(field(D_CHANNEL + c)), sums.channel[c]);
  }
  // alpha (T value - what is behind / (1 - alpha)); none where alpha is held at its maximum.
  const Mask moves = both(free, at_least(broadcast(ALPHA_MAX), raw));
  const F h = keep(moves, divide(fnma(alpha, behind, own), 1.0f - alpha));
  const F hs = h * s, ht = h * t;
  sums.h += h;
  sums.s += hs;
  sums.t += ht;
  sums.ss = fma(hs, s, sums.ss);
  sums.st = fma(hs, t, sums.st);
  sums.tt = fma(ht, t, sums.tt);
}

template <int C>
inline void backward_splat(const Splat& g, uint64_t blocks, int group, BackwardScratch& s,
                           float* slot, bool alone) {
  Moments<C> m;
  for (; blocks; blocks &= blocks - 1) {
    const int block = __builtin_ctzll(blocks);
    for (int part = 0; part < PARTS; ++part) backward_part(g, block, part, s, m);
  }
  const F vectors[16] = {
      m.s, m.t, m.ss, m.st, m.tt, m.h, F{}, F{}, m.channel[0],
      C > 1 ? m.channel[1 % C] : F{}, C > 2 ? m.channel[2 % C] : F{},
      C > 3 ? m.channel[3 % C] : F{}};
  if (alone) return lane_sums(vectors, slot);
  float total[16];
  lane_sums(vectors, total);
  if (group == 0) std::memset(slot, 0, sizeof(float) * SLOT_GEOMETRY);
  for (int k = 0; k < SLOT_GEOMETRY; ++k) slot[k] += total[k];
  std::memcpy(slot + SLOT_GEOMETRY + group * GROUP, total + SLOT_GEOMETRY, sizeof(float) * GROUP);
}

inline int64_t slot_size(const Frame& frame) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  return groups == 1 ? 16 : SLOT_GEOMETRY + groups * GROUP;  // one group: a cache line each
}

// Adds one channel: its cotangent, and the product with its final values.
inline void load_cotangent(const Frame& frame, const TilePlace& place, uint64_t blocks,
                           const float* cotangent, const float* value, int field,
                           BackwardScratch& s) {
  if (cotangent) {
    gather_tile(frame, place, blocks, cotangent, s.cells + field * BLOCK_PIXELS, CELL);
    gather_tile(frame, place, blocks, value, s.plane);
  }
  for (; blocks; blocks &= blocks - 1) {
    const int block = __builtin_ctzll(blocks);
    float* cell = s.cells + block * CELL;
    for (int i = 0; i < BLOCK_PIXELS; i += LANES) {
      float* behind = cell + BEHIND * BLOCK_PIXELS + i;
      float* own = cell + field * BLOCK_PIXELS + i;
      if (!cotangent) {
        store(own, F{});
      } else {
        store(behind, fma(load(own), load(s.plane + block * BLOCK_PIXELS + i), load(behind)));
      }
    }
  }
}

// The state of the named blocks before the first splat.
template <int C>
inline void load_cells(const Frame& frame, const TilePlace& place, uint64_t blocks, int group,
                       const ImageGradient& image, BackwardScratch& s) {
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  clear_transmittance(place, s.plane);
  for (uint64_t m = blocks; m; m &= m - 1) {
    const int block = __builtin_ctzll(m);
    for (int i = 0; i < BLOCK_PIXELS; i += LANES) {
      float* cell = s.cells + block * CELL + i;
      store(cell + TRANSMITTANCE * BLOCK_PIXELS, load(s.plane + block * BLOCK_PIXELS + i));
      store(cell + BEHIND * BLOCK_PIXELS, F{});
    }
  }
  for (int c = 0; c < C; ++c) {
    const int k = group * GROUP + c;
    if (frame.depth && k == frame.channels - 1) {
      load_cotangent(frame, place, blocks, image.d_depth, image.depth, D_CHANNEL + c, s);
    } else {
      load_cotangent(frame, place, blocks, image.d_image ? image.d_image + k * plane : nullptr,
                     image.image + k * plane, D_CHANNEL + c, s);
    }
  }
  load_cotangent(frame, place, blocks, group == 0 ? image.d_alpha : nullptr, image.alpha, D_ALPHA, s);
  for (int k = 0; k < 8; ++k) {
    store(s.column[k], lane_column() + static_cast<float>(BLOCK * k));
    for (int part = 0; part < PARTS; ++part) {
      store(s.row[k * PARTS + part], lane_row() + static_cast<float>(BLOCK * k + part * PART_ROWS));
    }
  }
}

template <int C>
inline void backward_tile(Frame& frame, int64_t tile, int group, const ImageGradient& image,
                          BackwardScratch& s) {
  const TilePlace place = tile_place(frame, tile);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const Pair* pairs = static_cast<const Pair*>(frame.pair_list.data());
  const uint64_t* touched = static_cast<const uint64_t*>(frame.touched.data());
  const Splat* splats = static_cast<const Splat*>(frame.splats.data());
  const float* features = static_cast<const float*>(frame.features.data());
  const int64_t extra = (frame.channels - 1) / GROUP * GROUP, size = slot_size(frame);
  float* slots = static_cast<float*>(frame.slots.data());
  uint8_t* used = static_cast<uint8_t*>(frame.slot_used.data());
  const int64_t last = start[tile + 1];
  uint64_t blocks = 0;
  for (int64_t i = start[tile]; i < last; ++i) blocks |= touched[i];
  load_cells<C>(frame, place, blocks, group, image, s);
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
    backward_splat<C>(local, touched[i], group, s, slots + pair.slot * size,
                                frame.channels <= GROUP);
  }
}

inline void backward_group(Frame& frame, int64_t tile, int group, const ImageGradient& image,
                           BackwardScratch& s) {
  switch (smaller(frame.channels - group * GROUP, GROUP)) {
    case 1: return backward_tile<1>(frame, tile, group, image, s);
    case 2: return backward_tile<2>(frame, tile, group, image, s);
    case 3: return backward_tile<3>(frame, tile, group, image, s);
    default: return backward_tile<4>(frame, tile, group, image, s);
  }
}

// Leaves one gradient for every (tile, splat) pair in frame.slots.
inline void blend_backward(Frame& frame, const ImageGradient& image, int threads) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  auto* scratch =
      static_cast<BackwardScratch*>(frame.scratch.reserve(sizeof(BackwardScratch) * threads));
  frame.slots.reserve(sizeof(float) * frame.pairs * slot_size(frame));
  frame.slot_used.reserve(frame.pairs);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const uint32_t* order = static_cast<const uint32_t*>(frame.tile_order.data());
  for_each(threads, frame.tiles_x * frame.tiles_y, [&](int64_t place, int worker) {
    const int64_t tile = order[place];
    if (start[tile] == start[tile + 1]) return;
    const FlushSubnormals scope;
    for (int group = 0; group < groups; ++group) {
      backward_group(frame, tile, group, image, scratch[worker]);
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
