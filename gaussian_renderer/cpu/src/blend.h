#pragma once
// Front-to-back blending of one tile. A batch of splats is first sorted into lists, one for each
// block; then block by block the list is blended with the pixels' state held in registers.
#include "run.h"
#include "tile.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int BATCH = 255;    // so that a place in the batch fits in a byte
constexpr int NOTHING = 255;  // place of a splat that is seen nowhere; fills up the lists
constexpr int TOGETHER = 4;   // splats whose alphas are computed in step

struct alignas(64) BlendScratch {
  // Falls on after a pixel is closed: what is under the minimum once stays under it.
  float transmittance[BLOCKS * BLOCK_PIXELS];
  float alpha[BLOCKS * BLOCK_PIXELS];
  float channel[GROUP][BLOCKS * BLOCK_PIXELS];
  Splat splats[BATCH + 1];
  uint64_t touched[BATCH + 1];
  uint8_t list[BLOCKS][BATCH + TOGETHER];
  int length[BLOCKS];
};

// Copies the next splats of the tile, relative to it and with the channels of `group`.
inline void load_batch(const Frame& frame, const TilePlace& place, const Pair* pairs, int count,
                       int group, Splat* out) {
  const Splat* splats = static_cast<const Splat*>(frame.splats.data());
  for (int i = 0; i < smaller(AHEAD, count); ++i) prefetch(splats + pairs[i].splat);
  for (int i = 0; i < count; ++i) {
    if (i + AHEAD < count) prefetch(splats + pairs[i + AHEAD].splat);
    out[i] = to_tile(splats[pairs[i].splat], place);
    if (group > 0) {
      const int64_t extra = (frame.channels - 1) / GROUP * GROUP;
      std::memcpy(out[i].channel,
                  static_cast<const float*>(frame.features.data()) + pairs[i].splat * extra +
                      (group - 1) * GROUP,
                  sizeof(out[i].channel));
    }
  }
}

// Lists, for every block that is still open, the splats of the batch that may reach it, and makes
// the lengths multiples of TOGETHER.
inline void list_blocks(const Splat* splats, int count, uint64_t open, BlendScratch& s) {
  std::memset(s.length, 0, sizeof(s.length));
  for (int i = 0; i < count; ++i) {
    for (uint64_t m = covered_blocks(splats[i]) & open; m; m &= m - 1) {
      const int block = __builtin_ctzll(m);
      s.list[block][s.length[block]++] = static_cast<uint8_t>(i);
    }
  }
  s.splats[NOTHING] = Splat{};
  s.splats[NOTHING].log2_opacity = 2.0f * POWER_MIN;
  for (int block = 0; block < BLOCKS; ++block) {
    while (s.length[block] % TOGETHER) s.list[block][s.length[block]++] = NOTHING;
  }
}

// Blends the listed splats into one part of a block; false when all of its pixels are closed.
template <int C, bool KEEP>
inline bool blend_part(BlendScratch& s, int block, int part) {
  const int at = block * BLOCK_PIXELS + part * LANES;
  const F column = lane_column() + static_cast<float>(block % 8 * BLOCK);
  const F row = lane_row() + static_cast<float>(block / 8 * BLOCK + part * PART_ROWS);
  F t = load(s.transmittance + at), alpha_sum = load(s.alpha + at), channel[C];
  for (int c = 0; c < C; ++c) channel[c] = load(s.channel[c] + at);
  const uint64_t bit = 1ull << block;
  const uint8_t* list = s.list[block];
  const F least = broadcast(TRANSMITTANCE_MIN);
  Mask free = at_least(t, least);
  const int length = any(free) ? s.length[block] : 0;
  for (int i = 0; i < length; i += TOGETHER) {
    F alpha[TOGETHER];
    Mask seen[TOGETHER];
    const Splat* g[TOGETHER];
    for (int j = 0; j < TOGETHER; ++j) g[j] = s.splats + list[i + j];
    log2_alphas<TOGETHER>(g, column, row, alpha);
    for (int j = 0; j < TOGETHER; ++j) seen[j] = at_least(alpha[j], broadcast(POWER_MIN));
    exp2_of<TOGETHER>(alpha);
    for (int j = 0; j < TOGETHER; ++j) {
      alpha[j] = keep(seen[j], minimum(alpha[j], broadcast(ALPHA_MAX)));
    }
    for (int j = 0; j < TOGETHER; ++j) {
      // Also where the splat only closes pixels: backward has to see that, too.
      if (KEEP) s.touched[list[i + j]] |= any(both(seen[j], free)) ? bit : 0;
      const F before = t;
      t = before * (1.0f - alpha[j]);
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

template <int C, bool KEEP>
inline void blend_tile(Frame& frame, int64_t tile, int group, const Image& out, BlendScratch& s) {
  const FlushSubnormals scope;
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
  for (; first < last && open; first += BATCH) {
    const int count = static_cast<int>(smaller<int64_t>(BATCH, last - first));
    load_batch(frame, place, pairs + first, count, group, s.splats);
    list_blocks(s.splats, count, open, s);
    if (KEEP) std::memset(s.touched, 0, sizeof(uint64_t) * count);
    for (uint64_t m = open; m; m &= m - 1) {
      const int block = __builtin_ctzll(m);
      bool still = false;
      for (int part = 0; part < PARTS; ++part) still |= blend_part<C, KEEP>(s, block, part);
      if (!still) open &= ~(1ull << block);
    }
    if (KEEP) std::memcpy(touched + first, s.touched, sizeof(uint64_t) * count);
  }
  if (KEEP && first < last) std::memset(touched + first, 0, sizeof(uint64_t) * (last - first));
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  for (int c = 0; c < C; ++c) {
    const int k = group * GROUP + c;
    const bool is_depth = frame.depth && k == frame.channels - 1;
    if (!is_depth) {
      for (int i = 0; i < TILE * TILE; ++i) {
        s.channel[c][i] += (1.0f - s.alpha[i]) * out.background[k];
      }
    }
    scatter_tile(frame, place, s.channel[c], is_depth ? out.depth : out.image + k * plane);
  }
  if (group == 0) scatter_tile(frame, place, s.alpha, out.alpha);
}

template <bool KEEP>
inline void blend_group(Frame& frame, int64_t tile, int group, const Image& out, BlendScratch& s) {
  switch (smaller(frame.channels - group * GROUP, GROUP)) {
    case 1: return blend_tile<1, KEEP>(frame, tile, group, out, s);
    case 2: return blend_tile<2, KEEP>(frame, tile, group, out, s);
    case 3: return blend_tile<3, KEEP>(frame, tile, group, out, s);
    default: return blend_tile<4, KEEP>(frame, tile, group, out, s);
  }
}

inline void blend(Frame& frame, const Image& out, bool keep_state, int threads) {
  const int groups = (frame.channels + GROUP - 1) / GROUP;
  auto* scratch = static_cast<BlendScratch*>(frame.scratch.reserve(sizeof(BlendScratch) * threads));
  if (keep_state) frame.touched.reserve(sizeof(uint64_t) * frame.pairs);
  for_each(threads, frame.tiles_x * frame.tiles_y, [&](int64_t tile, int worker) {
    for (int group = 0; group < groups; ++group) {
      if (keep_state && group == 0) {
        blend_group<true>(frame, tile, group, out, scratch[worker]);
      } else {
        blend_group<false>(frame, tile, group, out, scratch[worker]);
      }
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
