// The functions of gsplat that gaussian_renderer/gsplat.py needs, for Python; gsplat's own list
// would need all of its sources.
#include <torch/extension.h>

#include "Ops.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  py::enum_<gsplat::CameraModelType>(m, "CameraModelType")
      .value("PINHOLE", gsplat::CameraModelType::PINHOLE)
      .export_values();
  m.def("projection_ewa_3dgs_packed_fwd", &gsplat::projection_ewa_3dgs_packed_fwd);
  m.def("projection_ewa_3dgs_packed_bwd", &gsplat::projection_ewa_3dgs_packed_bwd);
  m.def("intersect_tile", &gsplat::intersect_tile);
  m.def("intersect_offset", &gsplat::intersect_offset);
  m.def("rasterize_to_pixels_3dgs_fwd", &gsplat::rasterize_to_pixels_3dgs_fwd);
  m.def("rasterize_to_pixels_3dgs_bwd", &gsplat::rasterize_to_pixels_3dgs_bwd);
}
