#pragma once
// From raw parameters to the image plane: EWA splatting (Zwicker et al. 2001; Kerbl et al. 2023),
// LANES Gaussians at a time. Forward, backward and the pose tangents share `project_lanes`.
#include "columns.h"
#include "kernel.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr float LOG2E = 1.44269504f;

struct Projected {
  F mean[3];        // object frame
  F point[3];       // camera frame
  F inverse_z;
  F slope[2];       // x/z and y/z, held within the widened frustum
  Mask free[2];     // where they were not held
  F quaternion[4], inverse_length;
  F rotation[9], scale[3];
  F axes[9];        // rotation * diag(scale)
  F jacobian[2][3]; // d(u, v) / d object point
  F half[2][3];     // jacobian * axes; covariance = half half^T + low pass
  F conic[3];       // inverse covariance: xx, xy, yy
  F covariance[3];  // xx, xy, yy
  F factor[3];      // su, sv, tv of Splat
  F pixel[2];
  F opacity, log2_opacity;
  Mask drawn;
};

SPLATPOSE_INLINE F dot(const F* a, const F* b) {
  return fma(a[0], b[0], fma(a[1], b[1], a[2] * b[2]));
}

SPLATPOSE_INLINE void rotation_of(const F* q, F* r) {
  const F w = q[0], x = q[1], y = q[2], z = q[3];
  r[0] = 1.0f - 2.0f * (y * y + z * z);
  r[1] = 2.0f * (x * y - w * z);
  r[2] = 2.0f * (x * z + w * y);
  r[3] = 2.0f * (x * y + w * z);
  r[4] = 1.0f - 2.0f * (x * x + z * z);
  r[5] = 2.0f * (y * z - w * x);
  r[6] = 2.0f * (x * z - w * y);
  r[7] = 2.0f * (y * z + w * x);
  r[8] = 1.0f - 2.0f * (x * x + y * y);
}

SPLATPOSE_INLINE void place(const Pinhole& camera, Projected& g) {
  const float* view = camera.view;
  for (int i = 0; i < 3; ++i) {
    g.point[i] = broadcast(view[9 + i]);
    for (int j = 0; j < 3; ++j) g.point[i] = fma(g.mean[j], broadcast(view[3 * i + j]), g.point[i]);
  }
  const Mask in_front = both(above(g.point[2], broadcast(NEAR_PLANE)),
                             at_least(broadcast(LARGEST), g.point[2]));
  g.drawn = in_front;
  g.inverse_z = 1.0f / select(in_front, g.point[2], broadcast(1.0f));
  const float focal[2] = {camera.fx, camera.fy}, centre[2] = {camera.cx, camera.cy};
  const float size[2] = {static_cast<float>(camera.width), static_cast<float>(camera.height)};
  for (int k = 0; k < 2; ++k) {
    const F slope = g.point[k] * g.inverse_z;
    const F limit = broadcast(FRUSTUM_MARGIN * 0.5f * size[k] / focal[k]);
    g.slope[k] = clamp(slope, -limit, limit);
    g.free[k] = at_least(limit, absolute(slope));
    g.pixel[k] = fma(slope, broadcast(focal[k]), broadcast(centre[k]));
    for (int j = 0; j < 3; ++j) {
      g.jacobian[k][j] =
          focal[k] * g.inverse_z * fnma(g.slope[k], broadcast(view[6 + j]), broadcast(view[3 * k + j]));
    }
  }
}

SPLATPOSE_INLINE void shape(Projected& g) {
  rotation_of(g.quaternion, g.rotation);
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) g.axes[3 * i + k] = g.rotation[3 * i + k] * g.scale[k];
  }
  for (int r = 0; r < 2; ++r) {
    for (int k = 0; k < 3; ++k) {
      const F column[3] = {g.axes[k], g.axes[3 + k], g.axes[6 + k]};
      g.half[r][k] = dot(g.jacobian[r], column);
    }
  }
  const F* h = g.half[0];
  const F* l = g.half[1];
  const F xx = dot(h, h), xy = dot(h, l), yy = dot(l, l);
  // |h x l|^2 = xx yy - xy^2 without the cancellation that a needle would suffer from.
  const F cross[3] = {h[1] * l[2] - h[2] * l[1], h[2] * l[0] - h[0] * l[2], h[0] * l[1] - h[1] * l[0]};
  const F determinant = dot(cross, cross) + LOW_PASS * (xx + yy) + LOW_PASS * LOW_PASS;
  g.covariance[0] = xx + LOW_PASS;
  g.covariance[1] = xy;
  g.covariance[2] = yy + LOW_PASS;
  const F inverse = 1.0f / determinant;
  g.conic[0] = g.covariance[2] * inverse;
  g.conic[1] = -xy * inverse;
  g.conic[2] = g.covariance[0] * inverse;
  // Cholesky factor of half the conic, in units of log2.
  const F sharpness = 1.0f / g.covariance[2];
  g.factor[0] = square_root(broadcast(0.5f * LOG2E) * g.conic[0]);
  g.factor[1] = -xy * sharpness * g.factor[0];
  g.factor[2] = square_root(broadcast(0.5f * LOG2E) * sharpness);
  g.drawn = both(g.drawn, above(determinant, F{}));
}

// Reads and projects Gaussians first ... first + count - 1; the lanes after `count` repeat the last.
SPLATPOSE_INLINE void project_lanes(const Pinhole& camera, const Cloud& cloud, int64_t first,
                                    int count, Projected& g) {
  load_columns<3>(cloud.means + 3 * first, 3, count, g.mean);
  F log_scale[3], q[4], logit[1];
  load_columns<3>(cloud.log_scales + 3 * first, 3, count, log_scale);
  load_columns<4>(cloud.quaternions + 4 * first, 4, count, q);
  load_columns<1>(cloud.opacity_logits + first, 1, count, logit);
  const F length2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
  g.inverse_length = 1.0f / maximum(square_root(length2), broadcast(1e-12f));
  for (int k = 0; k < 4; ++k) g.quaternion[k] = q[k] * g.inverse_length;
  for (int k = 0; k < 3; ++k) g.scale[k] = exponential(log_scale[k]);
  const F rest = 1.0f + exponential(-logit[0]);
  g.opacity = 1.0f / rest;
  g.log2_opacity = -log2(rest);
  place(camera, g);
  shape(g);
  // A NaN would slip through minimum and maximum, so the raw numbers are looked at: 0 times each is
  // NaN where it is not finite.
  F raw = length2 * F{} + logit[0] * F{};
  for (int k = 0; k < 3; ++k) raw = fma(g.mean[k], F{}, fma(log_scale[k], F{}, raw));
  g.drawn = both(g.drawn, at_least(raw, F{}));
  g.drawn = both(g.drawn, at_least(g.log2_opacity, broadcast(-LOG2_255)));
}

}  // namespace splatpose::SPLATPOSE_ISA
