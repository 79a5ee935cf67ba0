#pragma once
// Gauss-Newton on the pose: while blending, every pixel carries its derivatives by the six twist
// components along; at the end of a tile they are folded into J^T W J and J^T W r.
#include "blend.h"
#include "pose_project.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int SUMS = 32;  // of a tile: 21 + 6 + loss, weight, inliers, pixels

struct alignas(64) PoseScratch {
  BlendScratch blend;
  float log_rate[TWIST][BLOCKS * BLOCK_PIXELS];           // d ln(transmittance)
  float derivative[3][TWIST][BLOCKS * BLOCK_PIXELS];      // d(channel)
  float target[3][BLOCKS * BLOCK_PIXELS];
  float weight[BLOCKS * BLOCK_PIXELS];
};

// As blend_part, with derivatives. With ln(T) growing at rate L, a weight w = T alpha changes by
// w (L + d ln(alpha)), and L by -alpha / (1 - alpha) d ln(alpha).
template <bool COLOUR>
inline bool pose_part(const Tangent* tangents, const Pair* pairs, PoseScratch& p, int length,
                      int block, int part) {
  BlendScratch& s = p.blend;
  const int at = block * BLOCK_PIXELS + part * LANES;
  const F column = lane_column() + static_cast<float>(block % 8 * BLOCK);
  const F row = lane_row() + static_cast<float>(block / 8 * BLOCK + part * PART_ROWS);
  F t = load(s.transmittance + at), alpha_sum = load(s.alpha + at), channel[3];
  const F least = broadcast(TRANSMITTANCE_MIN);
  Mask free = at_least(t, least);
  if (!any(free)) return false;
  F rate[TWIST], derivative[3][TWIST];
  for (int c = 0; c < 3; ++c) channel[c] = load(s.channel[c] + at);
  for (int k = 0; k < TWIST; ++k) {
    rate[k] = load(p.log_rate[k] + at);
    for (int c = 0; c < 3; ++c) derivative[c][k] = load(p.derivative[c][k] + at);
  }
  for (int i = 0; i < length; ++i) {
    const Splat& g = listed(s, i);
    const Splat* splats[1] = {&g};
    F along, down, raw;
    log2_alphas<1>(splats, &column, &row, &along, &down, &raw);
    const Mask seen = at_least(raw, broadcast(POWER_MIN));
    if (!any_of_both(seen, free)) continue;
    exp2_of<1>(&raw);
    const F alpha = keep(seen, minimum(raw, broadcast(ALPHA_MAX)));
    const F before = t;
    t = fnma(alpha, before, before);
    free = at_least(t, least);
    const F weight = keep(free, alpha * before);
    const Mask moves = both(free, at_least(broadcast(ALPHA_MAX), raw));
    const F moving = keep(moves, weight), ratio = keep(moves, divide(alpha, 1.0f - alpha));
    alpha_sum += weight;
    for (int c = 0; c < 3; ++c) channel[c] = fma(weight, broadcast(g.channel[c]), channel[c]);
    const F dx = g.u - column, dy = g.v - row;
    const Tangent& d = tangents[pairs[s.list[i] / sizeof(Splat)].splat];
    for (int k = 0; k < TWIST; ++k) {
      const F slope = fma(broadcast(d.xx[k]), dx, fma(broadcast(d.xy[k]), dy, broadcast(d.x[k])));
      const F down = fma(broadcast(d.yy[k]), dy, broadcast(d.y[k]));
      const F log_alpha = fma(slope, dx, down * dy);
      const F d_weight = fma(moving, log_alpha, weight * rate[k]);
      rate[k] = fnma(ratio, log_alpha, rate[k]);
      for (int c = 0; c < 3; ++c) {
        derivative[c][k] = fma(d_weight, broadcast(g.channel[c]), derivative[c][k]);
        if (COLOUR && k >= 3) {
          derivative[c][k] = fma(weight, broadcast(d.colour[c][k - 3]), derivative[c][k]);
        }
      }
    }
    if (!any(free)) break;
  }
  store(s.transmittance + at, t);
  store(s.alpha + at, alpha_sum);
  for (int c = 0; c < 3; ++c) store(s.channel[c] + at, channel[c]);
  for (int k = 0; k < TWIST; ++k) {
    store(p.log_rate[k] + at, rate[k]);
    for (int c = 0; c < 3; ++c) store(p.derivative[c][k] + at, derivative[c][k]);
  }
  return any(free);
}

template <bool HOLD>
SPLATPOSE_INLINE F fold_number(F x) {
  return HOLD ? held(x, PIXEL_LARGEST) : x;
}

// Adds the residuals of the tile: Huber's weight on the norm of a pixel's residual over channels.
// With HOLD, what has overflowed is held within PIXEL_LARGEST.
template <bool HOLD>
inline void fold_tile(const PoseScratch& p, const Residual& residual, uint64_t blocks,
                      double* sums) {
  const BlendScratch& s = p.blend;
  F total[SUMS]{};
  for (uint64_t m = blocks; m; m &= m - 1) {
    for (int part = 0; part < PARTS; ++part) {
      const int at = __builtin_ctzll(m) * BLOCK_PIXELS + part * LANES;
      const F through = 1.0f - load(s.alpha + at), given = fold_number<HOLD>(load(p.weight + at));
      F r[3], d[3][TWIST], square{};
      for (int c = 0; c < 3; ++c) {
        const F behind = through * residual.background[c];
        r[c] = fold_number<HOLD>(load(s.channel[c] + at) + behind - load(p.target[c] + at));
        square = fma(r[c], r[c], square);
        for (int k = 0; k < TWIST; ++k) {
          d[c][k] = fold_number<HOLD>(
              fma(behind, load(p.log_rate[k] + at), load(p.derivative[c][k] + at)));
        }
      }
      const F norm = square_root(square), huber = broadcast(residual.huber);
      const Mask inlier = at_least(huber, norm), counted = above(given, F{});
      const F weight =
          given * select(inlier, broadcast(1.0f), huber / maximum(norm, broadcast(1e-20f)));
      for (int c = 0; c < 3; ++c) {
        int n = 0;
        for (int i = 0; i < TWIST; ++i) {
          const F weighted = weight * d[c][i];
          for (int j = i; j < TWIST; ++j, ++n) total[n] = fma(weighted, d[c][j], total[n]);
          total[21 + i] = fma(weighted, r[c], total[21 + i]);
        }
      }
      total[27] += given * select(inlier, 0.5f * square, huber * (norm - 0.5f * huber));
      total[28] += weight;
      total[29] += keep(both(inlier, counted), broadcast(1.0f));
      total[30] += keep(counted, broadcast(1.0f));
    }
  }
  for (int n = 0; n < SUMS; ++n) sums[n] = sum(total[n]);
}

template <bool COLOUR>
inline void pose_tile(const Frame& frame, int64_t tile, const Residual& residual, PoseScratch& p,
                      double* sums) {
  BlendScratch& s = p.blend;
  const FlushSubnormals scope;
  const TilePlace place = tile_place(frame, tile);
  const uint32_t* start = static_cast<const uint32_t*>(frame.tile_start.data());
  const Pair* pairs = static_cast<const Pair*>(frame.pair_list.data());
  const Tangent* tangents = static_cast<const Tangent*>(frame.tangents.data());
  const int64_t plane = static_cast<int64_t>(frame.camera.width) * frame.camera.height;
  clear_transmittance(place, s.transmittance);
  // Weight 1 inside of the image and 0 outside, as the transmittance starts.
  std::memcpy(p.weight, s.transmittance, sizeof(p.weight));
  if (residual.weights) gather_tile(frame, place, ~0ull, residual.weights, p.weight);
  for (int c = 0; c < 3; ++c) {
    gather_tile(frame, place, ~0ull, residual.target + c * plane, p.target[c]);
  }
  std::memset(s.alpha, 0, sizeof(s.alpha));
  std::memset(s.channel, 0, sizeof(s.channel));
  std::memset(p.log_rate, 0, sizeof(p.log_rate));
  std::memset(p.derivative, 0, sizeof(p.derivative));
  const uint64_t inside = inside_blocks(place);
  uint64_t open = inside;
  for (int64_t first = start[tile]; first < start[tile + 1] && open; first += BATCH) {
    const int count = static_cast<int>(smaller<int64_t>(BATCH, start[tile + 1] - first));
    load_batch(frame, place, pairs + first, count, 0, s);
    for (uint64_t m = open; m; m &= m - 1) {
      const int block = __builtin_ctzll(m);
      const int length = list_block(s.sets, block, count, s.list);
      if (!length) continue;
      bool still = false;
      for (int part = 0; part < PARTS; ++part) {
        still |= pose_part<COLOUR>(tangents, pairs + first, p, length, block, part);
      }
      if (!still) open &= ~(1ull << block);
    }
  }
  fold_tile<false>(p, residual, inside, sums);
  double zero = 0.0;
  for (int n = 0; n < SUMS; ++n) zero += 0.0 * sums[n];
  if (!(zero == 0.0)) fold_tile<true>(p, residual, inside, sums);
}

inline void pose_sums(Frame& frame, const Cloud& cloud, const Residual& residual, NormalSums& out,
                      int threads) {
  const int64_t tiles = static_cast<int64_t>(frame.tiles_x) * frame.tiles_y;
  double* partial = static_cast<double*>(frame.partial.reserve(sizeof(double) * SUMS * tiles));
  auto* scratch = static_cast<PoseScratch*>(frame.scratch.reserve(sizeof(PoseScratch) * threads));
  for_each(threads, tiles, [&](int64_t tile, int worker) {
    double* sums = partial + SUMS * tile;
    if (cloud.sh_terms > 1) {
      pose_tile<true>(frame, tile, residual, scratch[worker], sums);
    } else {
      pose_tile<false>(frame, tile, residual, scratch[worker], sums);
    }
  });
  double total[SUMS] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int n = 0; n < SUMS; ++n) total[n] += partial[SUMS * tile + n];
  }
  int n = 0;
  for (int i = 0; i < TWIST; ++i) {
    for (int j = i; j < TWIST; ++j, ++n) out.jtj[6 * i + j] = out.jtj[6 * j + i] = total[n];
    out.jtr[i] = total[21 + i];
  }
  out.loss = total[27];
  out.weight = total[28];
  out.inliers = static_cast<int64_t>(total[29] + 0.5);
  out.pixels = static_cast<int64_t>(total[30] + 0.5);
}

}  // namespace splatpose::SPLATPOSE_ISA
