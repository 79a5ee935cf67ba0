// The Python module: addresses in, addresses out. Shapes, types and devices are checked by the
// adapter in gaussian_renderer/cpu/__init__.py, which is the only caller.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "kernel.h"

namespace nb = nanobind;
using namespace splatpose;

namespace {

constexpr int INTERFACE = 6;  // raised with every change of this file's signatures

using Address = uint64_t;  // data_ptr() of a tensor; 0 for none

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

const Kernel& kernel() {
  static const Kernel* chosen = select_kernel(std::getenv("SPLATPOSE_ISA"));
  if (!chosen) {
    throw std::runtime_error("SPLATPOSE_ISA names an instruction set that cannot run here: "
                             "use v4, v3 or generic");
  }
  return *chosen;
}

// Frames that no rendering holds at present, kept for their memory.
class Shelf {
 public:
  std::unique_ptr<Frame> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (frames_.empty()) return std::make_unique<Frame>();
    std::unique_ptr<Frame> frame = std::move(frames_.back());
    frames_.pop_back();
    return frame;
  }
  void put(std::unique_ptr<Frame> frame) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (frames_.size() < 4) frames_.push_back(std::move(frame));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Frame>> frames_;
};

Shelf& shelf() {
  static Shelf* instance = new Shelf;  // outlives every handle
  return *instance;
}

// What a rendering leaves for its backward pass.
struct Saved {
  std::unique_ptr<Frame> frame = shelf().take();
  ~Saved() {
    if (frame) shelf().put(std::move(frame));
  }
};

// A MemoryError in Python.
class TooManyPairs : public std::bad_alloc {
 public:
  explicit TooManyPairs(int64_t pairs)
      : text_(std::to_string(pairs) + " pairs of a Gaussian and a tile that it touches") {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// How many pairs the frame may hold in `memory` bytes, with what backward needs when it is kept.
int64_t most_pairs(const Frame& frame, bool keep, int64_t memory) {
  const int64_t groups = (frame.channels + GROUP - 1) / GROUP;
  const int64_t slot = sizeof(float) * (SLOT_GEOMETRY + std::max<int64_t>(groups, 2) * GROUP) + 1;
  const int64_t bytes = sizeof(Pair) + (keep ? sizeof(uint64_t) + slot : 0);
  return std::min<int64_t>(UINT32_MAX - 1, memory / bytes);
}


Pinhole pinhole_of(double fx, double fy, double cx, double cy, int width, int height, Address view) {
  Pinhole p{static_cast<float>(fx), static_cast<float>(fy), static_cast<float>(cx),
            static_cast<float>(cy), width, height, {}};
  const float* v = at<const float>(view);  // [4, 4]
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) p.view[3 * i + j] = v[4 * i + j];
    p.view[9 + i] = v[4 * i + 3];
  }
  return p;
}

// count, means, log_scales, quaternions, opacity_logits, sh, colours, screen, sh_terms, channels
using CloudTuple = nb::tuple;

Cloud cloud_of(const CloudTuple& t) {
  const auto address = [&](int k) { return nb::cast<Address>(t[k]); };
  return Cloud{nb::cast<int64_t>(t[0]),     at<const float>(address(1)), at<const float>(address(2)),
               at<const float>(address(3)), at<const float>(address(4)), at<const float>(address(5)),
               at<const float>(address(6)), at<const float>(address(7)), nb::cast<int>(t[8]),
               nb::cast<int>(t[9])};
}

Saved* rasterise(nb::tuple cloud_tuple, double fx, double fy, double cx, double cy,
                                 int width, int height, Address view, Address background,
                                 Address image, Address alpha, Address depth, Address radii,
                                 bool keep, int threads, int64_t memory) {
  const Cloud cloud = cloud_of(cloud_tuple);
  const Image out{at<float>(image), at<float>(alpha), at<float>(depth), at<int32_t>(radii),
                  at<const float>(background)};
  auto saved = std::make_unique<Saved>();
  Frame& frame = *saved->frame;
  frame.camera = pinhole_of(fx, fy, cx, cy, width, height, view);
  frame.depth = depth != 0;
  frame.channels = cloud.channels + (frame.depth ? 1 : 0);
  frame.most_pairs = most_pairs(frame, keep, memory);
  bool fits;
  {
    nb::gil_scoped_release release;
    fits = kernel().rasterise(frame, cloud, out, keep, threads);
  }
  if (!fits) throw TooManyPairs(frame.pairs);
  return keep ? saved.release() : nullptr;
}

// gradients: means, log_scales, quaternions, opacity_logits, sh, colours, screen, view
void backward(Saved& saved, nb::tuple cloud_tuple, Address image, Address alpha, Address depth,
              Address d_image, Address d_alpha, Address d_depth, nb::tuple gradients, int threads) {
  const Cloud cloud = cloud_of(cloud_tuple);
  const ImageGradient cotangent{at<const float>(image),   at<const float>(alpha),
                                at<const float>(depth),   at<const float>(d_image),
                                at<const float>(d_alpha), at<const float>(d_depth)};
  const auto out = [&](int k) { return at<float>(nb::cast<Address>(gradients[k])); };
  double view_sum[12];
  float* view = out(7);
  const CloudGradient gradient{out(0), out(1), out(2), out(3), out(4),
                               out(5), out(6), view ? view_sum : nullptr};
  {
    nb::gil_scoped_release release;
    kernel().backward(*saved.frame, cloud, cotangent, gradient, threads);
  }
  if (!view) return;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) view[4 * i + j] = static_cast<float>(view_sum[3 * i + j]);
    view[4 * i + 3] = static_cast<float>(view_sum[9 + i]);
  }
  for (int j = 0; j < 4; ++j) view[12 + j] = 0.0f;
}

// Returns (jtj row by row, jtr, loss, sum of weights, inliers, pixels).
nb::tuple normal_equations(nb::tuple cloud_tuple, double fx, double fy, double cx, double cy,
                           int width, int height, Address view, Address target, Address weights,
                           Address background, double huber, Address radii, int threads,
                           int64_t memory) {
  const Cloud cloud = cloud_of(cloud_tuple);
  const Residual residual{at<const float>(target), at<const float>(weights),
                          at<const float>(background), static_cast<float>(huber)};
  Saved working;
  Frame& frame = *working.frame;
  frame.camera = pinhole_of(fx, fy, cx, cy, width, height, view);
  frame.depth = false;
  frame.channels = 3;
  frame.most_pairs = most_pairs(frame, false, memory);
  NormalSums sums;
  bool fits;
  {
    nb::gil_scoped_release release;
    fits = kernel().normal_equations(frame, cloud, residual, at<int32_t>(radii), sums, threads);
  }
  if (!fits) throw TooManyPairs(frame.pairs);
  return nb::make_tuple(std::vector<double>(sums.jtj, sums.jtj + 36),
                        std::vector<double>(sums.jtr, sums.jtr + 6), sums.loss, sums.weight,
                        sums.inliers, sums.pixels);
}

double photometric(Address image, Address target, Address gradient, int channels, int height,
                   int width, double ssim_weight, int threads) {
  static thread_local Buffer scratch;
  nb::gil_scoped_release release;
  return kernel().photometric(at<const float>(image), at<const float>(target), at<float>(gradient),
                              channels, height, width, static_cast<float>(ssim_weight), scratch,
                              threads);
}

// groups: (values, gradient, first, second, rows, (rate of each column, ...))
void adam(nb::list groups, int64_t step, double beta1, double beta2, double epsilon, int threads) {
  std::vector<AdamGroup> native;
  std::vector<std::vector<float>> rates(nb::len(groups));
  for (size_t k = 0; k < rates.size(); ++k) {
    nb::tuple g = nb::cast<nb::tuple>(groups[k]);
    rates[k] = nb::cast<std::vector<float>>(g[5]);
    native.push_back({at<float>(nb::cast<Address>(g[0])), at<const float>(nb::cast<Address>(g[1])),
                      at<float>(nb::cast<Address>(g[2])), at<float>(nb::cast<Address>(g[3])),
                      rates[k].data(), nb::cast<int64_t>(g[4]),
                      static_cast<int64_t>(rates[k].size())});
  }
  nb::gil_scoped_release release;
  kernel().adam(native.data(), static_cast<int>(native.size()), step, beta1, beta2, epsilon,
                threads);
}

void template_peaks(Address memory, Address starts, Address valid, int64_t templates, int features,
                    int64_t places, Address best, Address where, int threads) {
  const TemplateSearch search{at<const uint8_t>(memory), at<const int32_t>(starts),
                              at<const uint8_t>(valid),  templates,
                              places,                    features,
                              at<uint8_t>(best),         at<int32_t>(where)};
  nb::gil_scoped_release release;
  kernel().template_peaks(search, threads);
}

}  // namespace

NB_MODULE(splatpose_cpu, m) {
  nb::set_leak_warnings(false);  // renderings that are alive at exit are no leak
  m.attr("INTERFACE") = INTERFACE;
  nb::class_<Saved>(m, "Saved").def_prop_ro("seconds", [](const Saved& s) {
    // Of project, bin, blend, blend backward and project backward.
    return std::vector<double>(s.frame->seconds, s.frame->seconds + STAGES);
  });
  m.def("instruction_set", [] { return std::string(kernel().name); });
  m.def("rasterise", &rasterise, nb::rv_policy::take_ownership);
  m.def("backward", &backward);
  m.def("normal_equations", &normal_equations);
  m.def("photometric", &photometric);
  m.def("adam", &adam);
  m.def("template_peaks", &template_peaks);
}
