#pragma once
// How each splat moves with the pose: forward-mode derivatives by the six components of a twist
// (omega, v) that is applied to the view from the left, exp(twist) * view.
#include "project.h"
#include "run.h"
#include "spherical.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr int TWIST = 6;

// d ln(alpha) = ((xx dx + xy dy) + x) dx + (yy dy + y) dy for each component of the twist, and the
// derivative of the colour, which depends on the shift v only (the object sees the camera move).
struct alignas(64) Tangent {
  float x[TWIST], y[TWIST], xx[TWIST], xy[TWIST], yy[TWIST];
  float colour[3][3];  // [channel][component of v]
  float unused[9];
};
constexpr int TANGENT_FLOATS = sizeof(Tangent) / sizeof(float);

// The motion of the camera-frame point and of the view's rotation along one component.
struct Motion {
  F point[3], rotation[9];
};

SPLATPOSE_INLINE Motion motion_of(int component, const Pinhole& camera, const Projected& g) {
  Motion m;
  for (int i = 0; i < 9; ++i) m.rotation[i] = F{};
  for (int i = 0; i < 3; ++i) m.point[i] = F{};
  if (component >= 3) {
    m.point[component - 3] += 1.0f;
    return m;
  }
  // e x p: rows j and k of the cyclic triple (component, j, k)
  const int j = (component + 1) % 3, k = (component + 2) % 3;
  m.point[j] = -g.point[k];
  m.point[k] = g.point[j];
  for (int c = 0; c < 3; ++c) {
    m.rotation[3 * j + c] = broadcast(-camera.view[3 * k + c]);
    m.rotation[3 * k + c] = broadcast(camera.view[3 * j + c]);
  }
  return m;
}

// Derivatives of pixel (2) and conic (3) along a motion.
SPLATPOSE_INLINE void push_forward(const Pinhole& camera, const Projected& g, const Motion& m,
                                   F* d_pixel, F* d_conic) {
  const float focal[2] = {camera.fx, camera.fy};
  const F d_inverse = -g.inverse_z * g.inverse_z * m.point[2];
  F d_half[2][3];
  for (int r = 0; r < 2; ++r) {
    const F d_ratio = m.point[r] * g.inverse_z + g.point[r] * d_inverse;
    d_pixel[r] = focal[r] * d_ratio;
    const F d_slope = keep(g.free[r], d_ratio);
    F d_jacobian[3];
    for (int i = 0; i < 3; ++i) {
      d_jacobian[i] = g.jacobian[r][i] * d_inverse * g.point[2] +
                      focal[r] * g.inverse_z *
                          (m.rotation[3 * r + i] - d_slope * camera.view[6 + i] -
                           g.slope[r] * m.rotation[6 + i]);
    }
    for (int k = 0; k < 3; ++k) {
      const F column[3] = {g.axes[k], g.axes[3 + k], g.axes[6 + k]};
      d_half[r][k] = dot(d_jacobian, column);
    }
  }
  const F xx = 2.0f * dot(g.half[0], d_half[0]), yy = 2.0f * dot(g.half[1], d_half[1]);
  const F xy = dot(g.half[0], d_half[1]) + dot(g.half[1], d_half[0]);
  const F* k = g.conic;  // d(conic) = -conic d(covariance) conic
  const F p = k[0] * xx + k[1] * xy, q = k[0] * xy + k[1] * yy;
  const F r = k[1] * xx + k[2] * xy, s = k[1] * xy + k[2] * yy;
  d_conic[0] = -(p * k[0] + q * k[1]);
  d_conic[1] = -(p * k[1] + q * k[2]);
  d_conic[2] = -(r * k[1] + s * k[2]);
}

// d(colour) / d(v), [channel][component]; the direction in the object's frame is R^T (p + v).
inline void colour_tangent(const Cloud& cloud, const Pinhole& camera, int64_t first, int count,
                           const Projected& g, F d_colour[3][3]) {
  F basis[SH_TERMS], slope[SH_TERMS][3], colour[3];
  const ViewDirection direction = view_direction(camera.view, g.point);
  sh_basis(cloud.sh_terms, direction.unit, basis, slope);
  F by_unit[3][3]{}, coefficients[SH_TERMS][3];
  load_coefficients(cloud, first, count, coefficients);
  sh_colours(cloud.sh_terms, basis, coefficients, colour);
  for (int k = 0; k < cloud.sh_terms; ++k) {
    for (int c = 0; c < 3; ++c) {
      for (int j = 0; j < 3; ++j) by_unit[c][j] = fma(slope[k][j], coefficients[k][c], by_unit[c][j]);
    }
  }
  for (int c = 0; c < 3; ++c) {
    const Mask shown = at_least(colour[c], F{});
    const F along = dot(by_unit[c], direction.unit);
    F by_direction[3];
    for (int j = 0; j < 3; ++j) {
      by_direction[j] = (by_unit[c][j] - along * direction.unit[j]) * direction.inverse_length;
    }
    for (int i = 0; i < 3; ++i) {
      F d{};
      for (int j = 0; j < 3; ++j) d += by_direction[j] * camera.view[3 * i + j];
      d_colour[c][i] = keep(shown, d);
    }
  }
}

inline void tangent_lanes(const Pinhole& camera, const Cloud& cloud, int64_t first, int count,
                          Tangent* tangents) {
  Projected g;
  project_lanes(camera, cloud, first, count, g);
  F columns[TANGENT_FLOATS - 9];
  for (int component = 0; component < TWIST; ++component) {
    F d_pixel[2], d_conic[3];
    push_forward(camera, g, motion_of(component, camera, g), d_pixel, d_conic);
    columns[component] = -(g.conic[0] * d_pixel[0] + g.conic[1] * d_pixel[1]);
    columns[TWIST + component] = -(g.conic[1] * d_pixel[0] + g.conic[2] * d_pixel[1]);
    columns[2 * TWIST + component] = -0.5f * d_conic[0];
    columns[3 * TWIST + component] = -d_conic[1];
    columns[4 * TWIST + component] = -0.5f * d_conic[2];
  }
  F d_colour[3][3]{};
  if (cloud.sh_terms > 1) colour_tangent(cloud, camera, first, count, g, d_colour);
  for (int k = 0; k < 9; ++k) columns[5 * TWIST + k] = d_colour[k / 3][k % 3];
  store_columns<5 * TWIST + 9>(columns, TANGENT_FLOATS, count, tangents[first].x);
}

inline void project_tangents(Frame& frame, const Cloud& cloud, int threads) {
  const int64_t n = cloud.count;
  Tangent* tangents = static_cast<Tangent*>(frame.tangents.reserve(sizeof(Tangent) * n));
  for_each(threads, (n + CHUNK - 1) / CHUNK, [&](int64_t chunk, int) {
    const int64_t last = smaller<int64_t>(n, (chunk + 1) * CHUNK);
    for (int64_t i = chunk * CHUNK; i < last; i += LANES) {
      tangent_lanes(frame.camera, cloud, i, static_cast<int>(smaller<int64_t>(LANES, last - i)),
                    tangents);
    }
  });
}

}  // namespace splatpose::SPLATPOSE_ISA
