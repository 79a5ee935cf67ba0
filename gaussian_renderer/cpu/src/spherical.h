#pragma once
// View-dependent colours: real spherical harmonics with the signs of 3DGS files.
#include "columns.h"
#include "kernel.h"

namespace splatpose::SPLATPOSE_ISA {

constexpr float SH_C0 = 0.28209479177387814f;
constexpr int SH_TERMS = 16;

// Basis at unit direction n, `terms` of them; with `slope`, also the derivatives by n.
SPLATPOSE_INLINE void sh_basis(int terms, const F* n, F* basis, F (*slope)[3]) {
  constexpr float c1 = 0.4886025119029199f;
  constexpr float c2[5] = {1.0925484305920792f, -1.0925484305920792f, 0.31539156525252005f,
                           -1.0925484305920792f, 0.5462742152960396f};
  constexpr float c3[7] = {-0.5900435899266435f, 2.890611442640554f, -0.4570457994644658f,
                           0.3731763325901154f, -0.4570457994644658f, 1.445305721320277f,
                           -0.5900435899266435f};
  const F x = n[0], y = n[1], z = n[2], zero = F{};
  const auto set = [&](int k, F value, F dx, F dy, F dz) __attribute__((always_inline)) {
    basis[k] = value;
    if (slope) slope[k][0] = dx, slope[k][1] = dy, slope[k][2] = dz;
  };
  set(0, broadcast(SH_C0), zero, zero, zero);
  if (terms < 4) return;
  set(1, -c1 * y, zero, broadcast(-c1), zero);
  set(2, c1 * z, zero, zero, broadcast(c1));
  set(3, -c1 * x, broadcast(-c1), zero, zero);
  if (terms < 9) return;
  const F xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
  set(4, c2[0] * xy, c2[0] * y, c2[0] * x, zero);
  set(5, c2[1] * yz, zero, c2[1] * z, c2[1] * y);
  set(6, c2[2] * (2.0f * zz - xx - yy), -2.0f * c2[2] * x, -2.0f * c2[2] * y, 4.0f * c2[2] * z);
  set(7, c2[3] * xz, c2[3] * z, zero, c2[3] * x);
  set(8, c2[4] * (xx - yy), 2.0f * c2[4] * x, -2.0f * c2[4] * y, zero);
  if (terms < 16) return;
  set(9, c3[0] * y * (3.0f * xx - yy), c3[0] * 6.0f * xy, c3[0] * 3.0f * (xx - yy), zero);
  set(10, c3[1] * xy * z, c3[1] * yz, c3[1] * xz, c3[1] * xy);
  set(11, c3[2] * y * (4.0f * zz - xx - yy), c3[2] * -2.0f * xy,
      c3[2] * (4.0f * zz - xx - 3.0f * yy), c3[2] * 8.0f * yz);
  set(12, c3[3] * z * (2.0f * zz - 3.0f * xx - 3.0f * yy), c3[3] * -6.0f * xz,
      c3[3] * -6.0f * yz, c3[3] * (6.0f * zz - 3.0f * xx - 3.0f * yy));
  set(13, c3[4] * x * (4.0f * zz - xx - yy), c3[4] * (4.0f * zz - 3.0f * xx - yy),
      c3[4] * -2.0f * xy, c3[4] * 8.0f * xz);
  set(14, c3[5] * z * (xx - yy), c3[5] * 2.0f * xz, c3[5] * -2.0f * yz, c3[5] * (xx - yy));
  set(15, c3[6] * x * (xx - 3.0f * yy), c3[6] * 3.0f * (xx - yy), c3[6] * -6.0f * xy, zero);
}

struct ViewDirection {
  F unit[3];         // object frame
  F inverse_length;
};

// Direction from the camera's centre in the object's frame: R^T p, with the rotation row by row.
SPLATPOSE_INLINE ViewDirection view_direction(const float* rotation, const F* point) {
  F d[3];
  for (int j = 0; j < 3; ++j) {
    d[j] = point[0] * rotation[j] + point[1] * rotation[3 + j] + point[2] * rotation[6 + j];
  }
  const F length = square_root(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  ViewDirection direction;
  direction.inverse_length = 1.0f / maximum(length, broadcast(1e-12f));
  for (int j = 0; j < 3; ++j) direction.unit[j] = d[j] * direction.inverse_length;
  return direction;
}

// Coefficients of LANES Gaussians, [sh_terms, 3] registers.
SPLATPOSE_INLINE void load_coefficients(const Cloud& cloud, int64_t first, int count, F (*out)[3]) {
  const int width = 3 * cloud.sh_terms;
  for (int k = 0; k < width * LANES; k += 16) prefetch(cloud.sh + (first + LANES) * width + k);
  load_table(cloud.sh + first * width, width, width, count, out[0]);
}

// Colours before the cut at zero, 0.5 + sum of basis * coefficient.
SPLATPOSE_INLINE void sh_colours(int terms, const F* basis, const F (*coefficients)[3], F* colour) {
  for (int c = 0; c < 3; ++c) colour[c] = broadcast(0.5f);
  for (int k = 0; k < terms; ++k) {
    for (int c = 0; c < 3; ++c) colour[c] = fma(basis[k], coefficients[k][c], colour[c]);
  }
}

}  // namespace splatpose::SPLATPOSE_ISA
