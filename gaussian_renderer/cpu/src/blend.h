#pragma once
// Front-to-back blending of one tile: of every batch of splats, each block gets a list of those
// that may reach it, and blends it with the pixels' state held in registers.
#include "lists.h"
#include "pixels.h"
#include "run.h"

namespace splatpose::SPLATPOSE_ISA {

struct alignas(64) BlendScratch {
  // Falls on after a pixel is closed: what is under the minimum once stays under it.
  float transmittance[BLOCKS * BLOCK_PIXELS];
  float alpha[BLOCKS * BLOCK_PIXELS];
  float channel[GROUP][BLOCKS * BLOCK_PIXELS];
  Splat splats[BATCH + 1];
  BlockSets sets;
  uint32_t list[BATCH + LANES + TOGETHER];  // of the block at hand
};

// Fetches splats that come later a few at a time, while something else is done: they lie scattered
// in the second-level cache and beyond.
struct Fetcher {
  const Splat* splats;
  const Pair* next;
  const Pair* last;
  SPLATPOSE_INLINE void few() {
    for (int j = 0; j < BATCH / BLOCKS && next < last; ++j) prefetch(splats + (next++)->splat);
  }
};

// Copies the next splats of the tile, relative to it and with the channels of `group`, and finds
// out which blocks they may reach.
inline void load_batch(const Frame& frame, const TilePlace& place, const Pair* pairs, int count,
                       int group, BlendScratch& s) {
  const Splat* splats = static_cast<const Splat*>(frame.splats.data());
  Splat* out = s.splats;
  for (int i = 0; i < count; ++i) {
    out[i] = to_tile(splats[pairs[i].splat], place);
    s.sets.low[0][i] = out[i].u - out[i].half_u;
    s.sets.high[0][i] = out[i].u + out[i].half_u;
    s.sets.low[1][i] = out[i].v - out[i].half_v;
    s.sets.high[1][i] = out[i].v + out[i].half_v;
    if (group > 0) {
      const int64_t extra = (frame.channels - 1) / GROUP * GROUP;
      std::memcpy(out[i].channel,
                  static_cast<const float*>(frame.features.data()) + pairs[i].splat * extra +
                      (group - 1) * GROUP,
                  sizeof(out[i].channel));
    }
  }
  out[NOTHING] = Splat{};
  out[NOTHING].log2_opacity = 2.0f * POWER_MIN;
  find_block_sets(count, s.sets);
}

SPLATPOSE_INLINE Splat& listed(BlendScratch& s, int i) {
  return *reinterpret_cast<Splat*>(reinterpret_cast<char*>(s.splats) + s.list[i]);
}

// Blends the listed splats into one part of a block; false when all of its pixels are closed.
template <int C, bool KEEP>
inline bool blend_part(BlendScratch& s, int length, int block, int part) {
  const int at = block * BLOCK_PIXELS + part * LANES;
  const F column = lane_column() + static_cast<float>(block % 8 * BLOCK);
  const F row = lane_row() + static_cast<float>(block / 8 * BLOCK + part * PART_ROWS);
  F t = load(s.transmittance + at), alpha_sum = load(s.alpha + at), channel[C];
  for (int c = 0; c < C; ++c) channel[c] = load(s.channel[c] + at);
  const uint64_t bit = 1ull << block;
  const F least = broadcast(TRANSMITTANCE_MIN);
  Mask free = at_least(t, least);
  if (!any(free)) return false;
  for (int i = 0; i < length; i += TOGETHER) {
    F along[TOGETHER], down[TOGETHER], alpha[TOGETHER];
    Mask seen[TOGETHER];
    Splat* g[TOGETHER];
    F x[TOGETHER], y[TOGETHER];
    for (int j = 0; j < TOGETHER; ++j) g[j] = &listed(s, i + j), x[j] = column, y[j] = row;
    log2_alphas<TOGETHER>(g, x, y, along, down, alpha);
    for (int j = 0; j < TOGETHER; ++j) seen[j] = at_least(alpha[j], broadcast(POWER_MIN));
    exp2_of<TOGETHER>(alpha);
    for (int j = 0; j < TOGETHER; ++j) {
      alpha[j] = keep(seen[j], minimum(alpha[j], broadcast(ALPHA_MAX)));
    }
    for (int j = 0; j < TOGETHER; ++j) {
      // Also where the splat only closes pixels: backward has to see that, too.
      if (KEEP) g[j]->touched |= any_of_both(seen[j], free) ? bit : 0;
      const F before = t;
      t = fnma(alpha[j], before, before);
      free = at_least(t, least);
      const F weight = keep(free, alpha[j] * before);
      alpha_sum += weight;
      for (int c = 0; c < C; ++c) channel[c] = fma(weight, broadcast(g[j]->channel[c]), channel[c]);
    }
    if (!any(free)) break;
  }
  store(s.transmittance + at, t);
  store(s.alpha + at, alpha_sum);
  for (int c = 0; c < C; ++c) store(s.channel[c] + at, channel[c]);
  return any(free);
}

// Adds the background and writes the tile's pixels.
inline void write_tile(const Frame& frame, const TilePlace& place, int group, int channels,
                       const Image& out, BlendScratch& s) {
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  for (int c = 0; c < channels; ++c) {
    const int k = group * GROUP + c;
    if (frame.depth && k == frame.channels - 1) {
      scatter_tile(frame, place, s.channel[c], out.depth);
      continue;
    }
    for (int i = 0; i < BLOCKS * BLOCK_PIXELS; i += LANES) {
      const F behind = 1.0f - load(s.alpha + i);
      store(s.channel[c] + i, fma(behind, broadcast(out.background[k]), load(s.channel[c] + i)));
    }
    scatter_tile(frame, place, s.channel[c], out.image + k * plane);
  }
  if (group == 0) scatter_tile(frame, place, s.alpha, out.alpha);
}

// A tile without splats.
inline void write_empty_tile(const Frame& frame, const TilePlace& place, const Image& out) {
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  const int colours = frame.channels - (frame.depth ? 1 : 0);
  for (int k = 0; k < colours; ++k) fill_tile(frame, place, out.background[k], out.image + k * plane);
  fill_tile(frame, place, 0.0f, out.alpha);
  if (frame.depth) fill_tile(frame, place, 0.0f, out.depth);
}

// The pairs of a tile.
struct PairRange {
  const Pair* first;
  const Pair* last;
};

template <int C, bool KEEP>
inline void blend_tile(Frame& frame, int64_t tile, PairRange following, int group, const Image& out,
                       BlendScratch& s) {
  const TilePlace place = tile_place(frame, tile);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const Pair* pairs = static_cast<const Pair*>(frame.pair_list.data());
  uint64_t* touched = static_cast<uint64_t*>(frame.touched.data());
  clear_transmittance(place, s.transmittance);
  std::memset(s.alpha, 0, sizeof(s.alpha));
  std::memset(s.channel, 0, sizeof(s.channel[0]) * C);
  uint64_t open = inside_blocks(place);
  int64_t first = start[tile];
  const int64_t last = start[tile + 1];
  Fetcher ahead{static_cast<const Splat*>(frame.splats.data()), nullptr, nullptr};
  for (; first < last && open; first += BATCH) {
    const int count = static_cast<int>(smaller<int64_t>(BATCH, last - first));
    load_batch(frame, place, pairs + first, count, group, s);
    if (first + BATCH < last) {
      ahead.next = pairs + first + BATCH;
      ahead.last = pairs + last;
    } else {
      ahead.next = following.first;
      ahead.last = smaller(following.last, ahead.next + BATCH);
    }
    for (uint64_t m = open; m; m &= m - 1) {
      const int block = __builtin_ctzll(m);
      ahead.few();
      const int length = list_block(s.sets, block, count, s.list);
      if (!length) continue;
      bool still = false;
      for (int part = 0; part < PARTS; ++part) still |= blend_part<C, KEEP>(s, length, block, part);
      if (!still) open &= ~(1ull << block);
    }
    for (int i = 0; KEEP && i < count; ++i) touched[first + i] = s.splats[i].touched;
  }
  if (KEEP && first < last) std::memset(touched + first, 0, sizeof(uint64_t) * (last - first));
  write_tile(frame, place, group, C, out, s);
}

template <bool KEEP>
inline void blend_group(Frame& frame, int64_t tile, PairRange following, int group,
                        const Image& out, BlendScratch& s) {
  switch (smaller(frame.channels - group * GROUP, GROUP)) {
    case 1: return blend_tile<1, KEEP>(frame, tile, following, group, out, s);
    case 2: return blend_tile<2, KEEP>(frame, tile, following, group, out, s);
    case 3: return blend_tile<3, KEEP>(frame, tile, following, group, out, s);
    default: return blend_tile<4, KEEP>(frame, tile, following, group, out, s);
  }
}

inline void blend(Frame& frame, const Image& out, bool keep_state, int threads) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  auto* scratch = static_cast<BlendScratch*>(frame.scratch.reserve(sizeof(BlendScratch) * threads));
  if (keep_state) frame.touched.reserve(sizeof(uint64_t) * frame.pairs);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const uint32_t* order = static_cast<const uint32_t*>(frame.tile_order.data());
  const Pair* pairs = static_cast<const Pair*>(frame.pair_list.data());
  const int64_t tiles = static_cast<int64_t>(frame.tiles_x) * frame.tiles_y;
  for_each(threads, tiles, [&](int64_t place, int worker) {
    const int64_t tile = order[place];
    if (start[tile] == start[tile + 1]) return write_empty_tile(frame, tile_place(frame, tile), out);
    const FlushSubnormals scope;
    const int64_t later = place + threads < tiles ? order[place + threads] : tile;
    const PairRange following{pairs + start[later], pairs + start[later + 1]};
    for (int group = 0; group < groups; ++group) {
      if (keep_state && group == 0) {
        blend_group<true>(frame, tile, following, group, out, scratch[worker]);
      } else {
        blend_group<false>(frame, tile, following, group, out, scratch[worker]);
      }
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
