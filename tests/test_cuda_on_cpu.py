"""CUDA on the CPU: the rewriting of launches, the stand-ins for CUDA's language and libraries, and
the reference with the cut of 3DGS. The packages' own kernels are run by scripts/cuda_on_cpu."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gaussian_renderer import reference
from scene import Camera, Gaussians, InputError
from scripts.cuda_on_cpu import cut_reference
from scripts.cuda_on_cpu.build import HEADERS, INCLUDE, SIMPLE_KNN, as_cpp, load_on_cpu

ROOT = Path(__file__).parent.parent

PROGRAM = """
#include <cub/cub.cuh>
#include <thrust/device_vector.h>
#include <thrust/sequence.h>
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

template <int BLOCK>
__global__ void reverse_blocks(const int* in, int* out, int* odd, float* total, int count) {
  __shared__ int tile[BLOCK];
  auto block = cg::this_thread_block();
  auto i = cg::this_grid().thread_rank();
  tile[block.thread_rank()] = i < count ? in[i] : -1;
  block.sync();
  int voted = __syncthreads_count(i < count && in[i] % 2);
  if (i >= count) return;
  __syncthreads();  // of those that are left
  out[i] = tile[min(BLOCK - 1, blockDim.x * blockDim.y - 1) - block.thread_rank()];
  if (threadIdx.x == 0 && threadIdx.y == 0) odd[blockIdx.x] = voted;
  atomicAdd(total, 0.5f);
}

__global__ void reverse_blocks(int) {}  // a kernel of the same name

__global__ void warps(int* sums, int* ranks, int* anyone) {  // of 40 threads: 32, and 8 more
  extern __shared__ int s[];
  int i = threadIdx.x;
  s[i] = 100 * i;
  if (i == 3) return;  // so 31 are left
  auto warp = cg::tiled_partition<32>(cg::this_thread_block());
  auto part = cg::labeled_partition(warp, i % 2);
  for (int times = 0; times <= i / 32; times++)  // the second warp comes here more often
    sums[i] = cg::reduce(part, i, cg::plus<int>()) + cg::reduce(warp, i, cg::greater<int>());
  ranks[i] = part.thread_rank();
  __syncthreads();
  anyone[i] = warp.any(s[39 - i] == 3900);
}

int main() {
  thrust::device_vector<int> in(10), out(10), odd(2);
  thrust::sequence(in.begin(), in.end());
  float total = 0;
  reverse_blocks<8> << <(10 + 7) / 8, dim3(4, 2) >> > (
      in.data().get(), out.data().get(), odd.data().get(), &total, 10);
  reverse_blocks<<<1, 1>>>(3);
  for (int value : out) printf("%d ", value);
  printf("| %d %d | %g | ", *odd.begin(), *(odd.end() - 1), total);

  int sums_of[40], ranks[40], anyone[40];
  warps<<<1, 40, 40 * sizeof(int)>>>(sums_of, ranks, anyone);
  printf("%d %d %d %d | %d %d | %d %d | ", sums_of[0], sums_of[1], sums_of[32], sums_of[33],
         ranks[5], ranks[6], anyone[4], anyone[35]);
  printf("%u %u | ", cuda_on_cpu::to_uint32 * -1.5, cuda_on_cpu::to_uint32 * 2.5);

  size_t bytes = 0;
  int sums[3], numbers[3] = {1, 2, 3};
  cub::DeviceScan::InclusiveSum(nullptr, bytes, numbers, sums, 3);
  cub::DeviceScan::InclusiveSum(&bytes, bytes, numbers, sums, 3);
  uint64_t keys[4] = {0x103, 0x002, 0x101, 0xf001}, sorted[4];
  unsigned values[4] = {0, 1, 2, 3}, order[4];
  cub::DeviceRadixSort::SortPairs(&bytes, bytes, keys, sorted, values, order, 4, 0, 9);
  printf("%d %d | %u%u%u%u | %u", sums[1], sums[2], order[0], order[1], order[2], order[3],
         max(-1, 2u));
}
"""


def test_only_launches_and_the_device_are_rewritten() -> None:
    source = "k<3> << <(n + 1) / 2, dim3(4, 2) >> >\n(a << 1, b);\nstd::cerr << x; torch::kCUDA"
    assert as_cpp(source) == (
        "cuda_on_cpu::launch([&](auto... a) { k<3>(a...); }, (n + 1) / 2, dim3(4, 2) )"
        "(a << 1, b);\nstd::cerr << x; torch::kCPU"
    )
    assert as_cpp("f<<<grid, block>>>(x)").endswith("f(a...); }, grid, block)(x)")
    assert as_cpp("extern __shared__ int s[];") == "int* s = cuda_on_cpu::dynamic_shared<int>();"
    assert as_cpp("(uint32_t)floor(x) + (uint32_t)y") == (
        "cuda_on_cpu::to_uint32 * floor(x) + (uint32_t)y"
    )


@pytest.mark.skipif(shutil.which("c++") is None, reason="c++ is not on the PATH")
def test_barriers_shared_memory_votes_and_libraries(tmp_path: Path) -> None:
    for header in HEADERS:
        (tmp_path / header).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / header).write_text('#include "cuda_on_cpu.h"\n')
    (tmp_path / "program.cpp").write_text(as_cpp(PROGRAM))
    subprocess.run(
        ["c++", "-std=c++20", f"-I{INCLUDE}", f"-I{tmp_path}", str(tmp_path / "program.cpp"),
         "-o", str(tmp_path / "program")],
        check=True,
    )  # fmt: skip
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
    out, odd, total, warps, ranks, anyone, unsigned, sums, order, largest = done.stdout.split(" | ")
    assert out == "7 6 5 4 3 2 1 0 -1 -1"  # the last block is reversed with its idle threads
    assert odd == "4 1"
    assert total == "5"
    assert warps == "271 284 179 183"  # 0 + 2 + ... + 30, 1 + 5 + ... + 31, each and the largest
    assert ranks == "1 3"  # among 1, 5 and among 0, 2, 4, 6
    assert anyone == "1 0"  # thread 0 of the first warp sees what thread 39 wrote
    assert unsigned == "0 2"  # as a GPU converts
    assert sums == "3 6"
    assert order == "3120"  # by the low nine bits, equal keys as they came
    assert largest == "4294967295"  # of int and unsigned: the unsigned, as in CUDA


def test_an_empty_submodule_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git submodule update --init --recursive"):
        load_on_cpu(SIMPLE_KNN, tmp_path, tmp_path / "build")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.cuda_on_cpu", "--submodules", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is empty or incomplete: git submodule update --init --recursive" in done.stderr


def one_splat(u: float, opacity: float) -> tuple[Gaussians, Camera, Tensor]:
    """A round splat of sigma 2.2 px at pixel (u, 24) of an image of 48 x 48."""
    camera = Camera(torch.eye(4, dtype=torch.float64), 1000.0, 1000.0, 0.0, 0.0, 48, 48)
    sigma = math.sqrt(2.2**2 - reference.LOW_PASS) / 1000
    gaussians = Gaussians(
        means=torch.tensor([[u / 1000, 0.024, 1.0]], dtype=torch.float64),
        log_scales=torch.full((1, 3), math.log(sigma), dtype=torch.float64),
        quaternions=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        opacity_logits=torch.logit(torch.tensor([opacity], dtype=torch.float64)),
        sh=torch.ones(1, 1, 3, dtype=torch.float64),
    )
    return gaussians, camera, torch.eye(4, dtype=torch.float64)


def alphas(backend, u: float, opacity: float) -> tuple[Tensor, int]:  # type: ignore[no-untyped-def]
    """Alpha [48, 48] and the radius."""
    gaussians, camera, view = one_splat(u, opacity)
    black, none = torch.zeros(3, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    _, alpha, depth, radii = backend.rasterise(gaussians, camera, view, black, None, True, none, 1)
    torch.testing.assert_close(depth, alpha)  # z is 1
    return alpha, int(radii)


def test_the_cut_ends_a_splat_early_where_a_tile_begins() -> None:
    whole, _ = alphas(reference, 25.8, 0.9)
    cut, radius = alphas(cut_reference, 25.8, 0.9)
    assert radius == 7  # 3 sqrt(2.2^2 + sqrt(0.1)) = 6.8
    columns = (whole - cut).abs().amax(dim=0).nonzero().squeeze(1).tolist()
    assert columns == [32]  # the tile's first: 25.8 - 0.5 + 7 is short of 33
    assert whole[23, 32] > 2 / 255  # 6.7 px off, inside the square, and yet left out


def test_without_a_tile_begin_within_reach_nothing_is_cut() -> None:
    whole, _ = alphas(reference, 24.0, 0.07)
    cut, _ = alphas(cut_reference, 24.0, 0.07)
    assert whole.max() > 0.06
    assert torch.equal(whole, cut)
