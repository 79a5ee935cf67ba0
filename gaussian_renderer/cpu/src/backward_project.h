#pragma once
// From gradients on the image plane back to the raw parameters and the view.
#include "blend_backward.h"
#include "project.h"
#include "spherical.h"

namespace splatpose::SPLATPOSE_ISA {

// What the tiles said about LANES Gaussians, and the gradient that grows out of it.
struct Flow {
  F moments[6];  // sums of h s, h t, h ss, h st, h tt, h
  F pixel[2];                // dL/d(u, v)
  F point[3];                // dL/d(camera-frame point)
  F depth;
  F view[12];                // dL/d(rotation), dL/d(translation) of each lane
};

// Sums the slots of `count` Gaussians in the order of their tiles into rows of `size` floats.
inline void sum_slots(const Frame& frame, int64_t first, int count, int64_t size, float* rows) {
  const uint32_t* starts = static_cast<const uint32_t*>(frame.slot_start.data());
  const uint8_t* used = static_cast<const uint8_t*>(frame.slot_used.data());
  const float* slots = static_cast<const float*>(frame.slots.data());
  std::memset(rows, 0, sizeof(float) * LANES * size);
  for (int lane = 0; lane < count; ++lane) {
    const uint32_t from = starts[first + lane], to = starts[first + lane + 1];
    float* row = rows + lane * size;
    for (int64_t j = 0; j < size; j += 4) {
      typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
      Four total{};
      for (int64_t k = from; k < to; ++k) {
        if (used[k]) total += *reinterpret_cast<const Four*>(slots + k * size + j);
      }
      *reinterpret_cast<Four*>(row + j) = total;
    }
  }
}

// As sum_slots, for slots of one cache line.
inline void sum_lines(const Frame& frame, int64_t first, int count, int64_t total, float* rows) {
  const uint32_t* starts = static_cast<const uint32_t*>(frame.slot_start.data());
  const uint8_t* used = static_cast<const uint8_t*>(frame.slot_used.data());
  const float* slots = static_cast<const float*>(frame.slots.data());
  for (int lane = 0; lane < LANES; ++lane) {
    F line[16 / LANES]{};
    const uint32_t from = lane < count ? starts[first + lane] : 0;
    const uint32_t to = lane < count ? starts[first + lane + 1] : 0;
    for (int64_t k = from; k < to; ++k) {
      if (!used[k]) continue;
      for (int j = 0; j < 16 / LANES; ++j) line[j] += load(slots + k * 16 + j * LANES);
    }
    for (int j = 0; j < 16 / LANES; ++j) store(rows + lane * 16 + j * LANES, line[j]);
  }
}

// A pixel's sum may have overflowed.
SPLATPOSE_INLINE void hold_rows(float* rows, int64_t size) {
  Mask fine = at_least(F{}, F{});
  for (int64_t k = 0; k < size; ++k) {
    fine = both(fine, at_least(broadcast(LARGEST), absolute(load(rows + k * LANES))));
  }
  if (bits(fine) == (1u << LANES) - 1) return;
  for (int64_t k = 0; k < size; ++k) {
    store(rows + k * LANES, held(load(rows + k * LANES), LARGEST));
  }
}

// From the moments to the factors of the covariance. With S the second moments of (s, t) and L the
// Cholesky factor, dL/d(conic) = -1/2 L^-1 S L^-T and the conic is 2 ln 2 L^T L, so that
// dL/d(covariance) = -conic dL/d(conic) conic = 2 (ln 2)^2 L^T S L.
SPLATPOSE_INLINE void covariance_backward(const Projected& g, const Flow& flow, F* d_axes, F d_jacobian[2][3]) {
  const F* m = flow.moments;
  const F su = g.factor[0], sv = g.factor[1], tv = g.factor[2];
  const F across = fma(m[2], sv, m[3] * tv), down = fma(m[3], sv, m[4] * tv);
  const F scale = broadcast(0.96090602f);
  const F xx = scale * su * su * m[2], xy = scale * su * across;
  const F yy = scale * fma(sv, across, tv * down);
  F d_half[2][3];
  for (int i = 0; i < 3; ++i) {
    d_half[0][i] = 2.0f * (xx * g.half[0][i] + xy * g.half[1][i]);
    d_half[1][i] = 2.0f * (yy * g.half[1][i] + xy * g.half[0][i]);
  }
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < 3; ++c) {
      d_axes[3 * i + c] = g.jacobian[0][i] * d_half[0][c] + g.jacobian[1][i] * d_half[1][c];
    }
    d_jacobian[0][i] = dot(g.axes + 3 * i, d_half[0]);
    d_jacobian[1][i] = dot(g.axes + 3 * i, d_half[1]);
  }
}

SPLATPOSE_INLINE void place_backward(const Pinhole& camera, const Projected& g,
                                     const F d_jacobian[2][3], Flow& flow) {
  const float* view = camera.view;
  const float focal[2] = {camera.fx, camera.fy};
  F d_inverse = F{};
  for (int i = 0; i < 12; ++i) flow.view[i] = F{};
  for (int k = 0; k < 2; ++k) {
    const F factor = focal[k] * g.inverse_z;
    F d_slope = F{};
    for (int i = 0; i < 3; ++i) {
      const F d = factor * d_jacobian[k][i];
      flow.view[3 * k + i] += d;
      flow.view[6 + i] -= d * g.slope[k];
      d_slope -= d * view[6 + i];
      d_inverse += d_jacobian[k][i] * g.jacobian[k][i] * g.point[2];
    }
    d_slope = keep(g.free[k], d_slope) + focal[k] * flow.pixel[k];
    flow.point[k] = d_slope * g.inverse_z;
    d_inverse += d_slope * g.point[k];
  }
  flow.point[2] = flow.depth - d_inverse * g.inverse_z * g.inverse_z;
}

// Colours: coefficients, and the viewing direction that they depend on.
inline void sh_backward(const Cloud& cloud, const CloudGradient& gradient, const Pinhole& camera,
                        int64_t first, int count, Projected& g, const F* d_colour, Flow& flow) {
  const int terms = cloud.sh_terms;
  const int width = 3 * terms;
  for (int k = 0; gradient.sh && k < width * LANES; k += 16) {  // of the next lanes
    prefetch_to_write(gradient.sh + (first + LANES) * width + k);
  }
  F basis[SH_TERMS], slope[SH_TERMS][3], colour[3], d_masked[3], d_unit[3]{};
  F coefficients[SH_TERMS][3];
  const ViewDirection direction = view_direction(camera.view, g.point);
  sh_basis(terms, direction.unit, basis, slope);
  load_coefficients(cloud, first, count, coefficients);
  sh_colours(terms, basis, coefficients, colour);
  const F total = colour[0] + colour[1] + colour[2];
  g.drawn = both(g.drawn, at_least(total - total, F{}));  // not where a coefficient is NaN
  for (int c = 0; c < 3; ++c) d_masked[c] = keep(at_least(colour[c], F{}), d_colour[c]);
  for (int k = 0; k < terms; ++k) {
    const F along = dot(coefficients[k], d_masked);
    for (int c = 0; c < 3; ++c) {
      d_unit[c] = fma(slope[k][c], along, d_unit[c]);
      coefficients[k][c] = keep(g.drawn, basis[k] * d_masked[c]);  // now their gradient
    }
  }
  if (gradient.sh) store_table(coefficients[0], width, width, count, gradient.sh + first * width);
  if (terms == 1) return;
  const F along = dot(direction.unit, d_unit);
  for (int j = 0; j < 3; ++j) {
    const F d = keep(g.drawn, (d_unit[j] - direction.unit[j] * along) * direction.inverse_length);
    for (int i = 0; i < 3; ++i) {
      flow.point[i] += d * camera.view[3 * i + j];
      flow.view[3 * i + j] += d * g.point[i];
    }
  }
}

SPLATPOSE_INLINE void quaternion_backward(const Projected& g, const F* d_axes, F* out) {
  F d[9];
  for (int i = 0; i < 9; ++i) d[i] = d_axes[i] * g.scale[i % 3];
  const F w = g.quaternion[0], x = g.quaternion[1], y = g.quaternion[2], z = g.quaternion[3];
  F unit[4];
  unit[0] = 2.0f * (x * (d[7] - d[5]) + y * (d[2] - d[6]) + z * (d[3] - d[1]));
  unit[1] = 2.0f * (y * (d[1] + d[3]) + z * (d[2] + d[6]) + w * (d[7] - d[5]) -
                    2.0f * x * (d[4] + d[8]));
  unit[2] = 2.0f * (x * (d[1] + d[3]) + z * (d[5] + d[7]) + w * (d[2] - d[6]) -
                    2.0f * y * (d[0] + d[8]));
  unit[3] = 2.0f * (x * (d[2] + d[6]) + y * (d[5] + d[7]) + w * (d[3] - d[1]) -
                    2.0f * z * (d[0] + d[4]));
  const F along = unit[0] * w + unit[1] * x + unit[2] * y + unit[3] * z;
  for (int k = 0; k < 4; ++k) out[k] = (unit[k] - g.quaternion[k] * along) * g.inverse_length;
}

template <int K>
SPLATPOSE_INLINE void write(F* columns, const Projected& g, int64_t first, int count, float* out) {
  if (!out) return;
  for (int k = 0; k < K; ++k) columns[k] = keep(g.drawn, columns[k]);
  hold<K>(columns, LARGEST);
  store_columns<K>(columns, K, count, out + K * first);
}

// Writes the colour gradients that were asked for, and starts the flow towards depth.
inline void channels_backward(const Frame& frame, const Cloud& cloud, const CloudGradient& gradient,
                              int64_t first, int count, const float* rows, int64_t size) {
  if (!cloud.colours || !gradient.colours) return;
  for (int lane = 0; lane < count; ++lane) {
    std::memcpy(gradient.colours + (first + lane) * cloud.channels,
                rows + lane * size + SLOT_GEOMETRY, sizeof(float) * cloud.channels);
  }
}

inline void backward_lanes(const Frame& frame, const Cloud& cloud, const CloudGradient& gradient,
                           int64_t first, int count, float* rows, F* view_sum) {
  const int64_t size = slot_size(frame);
  if (size == 16) {
    sum_lines(frame, first, count, cloud.count, rows);
  } else {
    sum_slots(frame, first, count, size, rows);
  }
  hold_rows(rows, size);
  Projected g;
  project_lanes(frame.camera, cloud, first, count, g);
  // Lanes past the end repeat the last Gaussian; their rows are zero, and so is what they add.
  F columns[SLOT_GEOMETRY + GROUP];
  load_columns<SLOT_GEOMETRY + GROUP>(rows, size, LANES, columns);
  Flow flow;
  for (int k = 0; k < 6; ++k) flow.moments[k] = columns[k];
  const F* channel = columns + SLOT_GEOMETRY;
  flow.depth = F{};
  if (frame.depth) load_columns<1>(rows + SLOT_GEOMETRY + frame.channels - 1, size, LANES, &flow.depth);
  const F* m = flow.moments;
  const F scale = broadcast(-1.38629436f);  // -2 ln 2
  flow.pixel[0] = scale * g.factor[0] * m[0];
  flow.pixel[1] = scale * fma(g.factor[1], m[0], g.factor[2] * m[1]);
  F d_axes[9], d_jacobian[2][3];
  covariance_backward(g, flow, d_axes, d_jacobian);
  place_backward(frame.camera, g, d_jacobian, flow);
  if (cloud.sh) sh_backward(cloud, gradient, frame.camera, first, count, g, channel, flow);
  channels_backward(frame, cloud, gradient, first, count, rows, size);
  F d_mean[3], d_scale[3], d_quaternion[4], d_logit[1];
  for (int j = 0; j < 3; ++j) {
    d_mean[j] = flow.point[0] * frame.camera.view[j] + flow.point[1] * frame.camera.view[3 + j] +
                flow.point[2] * frame.camera.view[6 + j];
    d_scale[j] = g.axes[j] * d_axes[j] + g.axes[3 + j] * d_axes[3 + j] + g.axes[6 + j] * d_axes[6 + j];
  }
  quaternion_backward(g, d_axes, d_quaternion);
  d_logit[0] = m[5] * (1.0f - g.opacity);
  if (gradient.view) {
    F own[12];
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        own[3 * i + j] = keep(g.drawn, flow.view[3 * i + j] + flow.point[i] * g.mean[j]);
      }
      own[9 + i] = keep(g.drawn, flow.point[i]);
    }
    hold<12>(own, LARGEST);
    for (int k = 0; k < 12; ++k) view_sum[k] += own[k];
  }
  write<3>(d_mean, g, first, count, gradient.means);
  write<3>(d_scale, g, first, count, gradient.log_scales);
  write<4>(d_quaternion, g, first, count, gradient.quaternions);
  write<1>(d_logit, g, first, count, gradient.opacity_logits);
  write<2>(flow.pixel, g, first, count, gradient.screen);
}

inline void project_backward(Frame& frame, const Cloud& cloud, const CloudGradient& gradient,
                             int threads) {
  const int64_t n = cloud.count, chunks = (n + CHUNK - 1) / CHUNK, size = slot_size(frame);
  double* partial = static_cast<double*>(frame.partial.reserve(sizeof(double) * 12 * chunks));
  float* rows = static_cast<float*>(frame.scratch.reserve(sizeof(float) * LANES * size * threads));
  for_each(threads, chunks, [&](int64_t chunk, int worker) {
    const int64_t last = smaller<int64_t>(n, (chunk + 1) * CHUNK);
    F view_sum[12]{};
    for (int64_t i = chunk * CHUNK; i < last; i += LANES) {
      const int count = static_cast<int>(smaller<int64_t>(LANES, last - i));
      backward_lanes(frame, cloud, gradient, i, count, rows + worker * LANES * size, view_sum);
    }
    for (int k = 0; k < 12; ++k) partial[12 * chunk + k] = sum(view_sum[k]);
  });
  if (!gradient.view) return;
  for (int k = 0; k < 12; ++k) gradient.view[k] = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int k = 0; k < 12; ++k) gradient.view[k] += partial[12 * chunk + k];
  }
}

}  // namespace splatpose::SPLATPOSE_ISA
