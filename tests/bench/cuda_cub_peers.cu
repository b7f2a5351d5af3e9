// CUB's scans, the peers of affine_scan and cumsum. For nvcc only.

#include <stdexcept>
#include <string>

#include <thrust/iterator/transform_iterator.h>
#include <thrust/iterator/transform_output_iterator.h>
#include <thrust/iterator/zip_iterator.h>
#include <thrust/tuple.h>
#include <cub/device/device_scan.cuh>

#include "solvent/tests/bench/cuda_cub_peers.h"

namespace solvent::bench {
namespace {

// x -> factor x + shift
struct Affine {
  float factor, shift;
};

// First f, then g.
struct Compose {
  __host__ __device__ Affine operator()(const Affine& f, const Affine& g) const {
    return {f.factor * g.factor, g.factor * f.shift + g.shift};
  }
};

struct ToAffine {
  __host__ __device__ Affine operator()(const thrust::tuple<float, float>& t) const {
    return {thrust::get<0>(t), thrust::get<1>(t)};
  }
};

struct Shift {
  __host__ __device__ float operator()(const Affine& f) const { return f.shift; }
};

std::size_t checked(cudaError_t error, std::size_t bytes) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUB: ") + cudaGetErrorString(error));
  return bytes;
}

}  // namespace

std::size_t cub_recurrence(void* temporary, std::size_t bytes, const float* a, const float* b, float* h, std::int64_t n,
                           CUstream_st* stream) {
  const auto in = thrust::make_transform_iterator(thrust::make_zip_iterator(thrust::make_tuple(a, b)), ToAffine{});
  const auto out = thrust::make_transform_output_iterator(h, Shift{});
  return checked(cub::DeviceScan::InclusiveScan(temporary, bytes, in, out, Compose{}, n, stream), bytes);
}

std::size_t cub_sum(void* temporary, std::size_t bytes, const float* x, float* y, std::int64_t n, CUstream_st* stream) {
  return checked(cub::DeviceScan::InclusiveSum(temporary, bytes, x, y, n, stream), bytes);
}

int cub_version() { return CUB_VERSION; }

}  // namespace solvent::bench
