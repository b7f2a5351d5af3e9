// cuBLAS, cuDNN and CUB called directly, as rows' peers. Builds for the emulator have none of them.

#include <algorithm>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/error.h"
#include "solvent/tests/bench/cuda_compare.h"

#if !SOLVENT_CUDA_EMULATED
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include "solvent/tests/bench/cuda_cub_peers.h"
#endif
#define HAS_CUDNN_PEER (SOLVENT_WITH_CUDNN && !SOLVENT_CUDA_EMULATED)
#if HAS_CUDNN_PEER
#include <cudnn.h>
#endif

namespace solvent::bench {

#if SOLVENT_CUDA_EMULATED

PeerResult cublas_peer(GemmKind, const Tensor&, const Tensor&, double) { return {}; }
PeerResult cub_recurrence_peer(const Tensor&, const Tensor&, double) { return {}; }
PeerResult cub_sum_peer(const Tensor&, double) { return {}; }
std::string peer_versions() { return "emulator: no libraries"; }

#else

namespace {

cudaStream_t stream() { return cuda::current_stream(bench_gpu()); }

void check_cublas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(fmt::format("cuBLAS: {}", cublasGetStatusString(status)));
}

const void* memory(const Tensor& t) { return t.impl()->storage->data; }
void* mutable_memory(const Tensor& t) { return t.impl()->storage->data; }

// One for the process, never destroyed: CUDA may end before static objects do.
cublasHandle_t cublas() {
  static cublasHandle_t handle = [] {
    cublasHandle_t h = nullptr;
    check_cublas(cublasCreate(&h));
    return h;
  }();
  check_cublas(cublasSetStream(handle, stream()));
  return handle;
}

cublasComputeType_t compute_type(GemmKind kind) {
  switch (kind) {
    case GemmKind::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case GemmKind::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
    case GemmKind::f64: return CUBLAS_COMPUTE_64F;
    case GemmKind::bf16_storage:
    case GemmKind::f32: break;
  }
  return CUBLAS_COMPUTE_32F;
}

Tensor scratch(std::size_t bytes) {
  return full({static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1))}, 0, {DType::uint8, bench_gpu()});
}

PeerResult cub_peer(const Shape& shape, const Tensor& keep_a, const Tensor& keep_b, double at_least,
                    const std::function<std::size_t(void* temporary, std::size_t bytes, float* out)>& call) {
  PeerResult r;
  r.result = zeros(shape, {float32, bench_gpu()});
  auto* out = static_cast<float*>(mutable_memory(r.result));
  const std::size_t bytes = call(nullptr, 0, out);
  const Tensor temporary = scratch(bytes);
  r.peer = {.name = "CUB",
            .run =
                [=, result = r.result] {
                  (void)keep_a, (void)keep_b, (void)result;  // captured to stay alive
                  call(mutable_memory(temporary), bytes, out);
                },
            .at_least = at_least};
  return r;
}

}  // namespace

PeerResult cublas_peer(GemmKind kind, const Tensor& a, const Tensor& b, double at_least) {
  const std::int64_t n = a.size(0);
  PeerResult r;
  r.result = zeros(a.shape(), {a.dtype(), a.device()});
  const cudaDataType_t type = kind == GemmKind::f64            ? CUDA_R_64F
                              : kind == GemmKind::bf16_storage ? CUDA_R_16BF
                                                               : CUDA_R_32F;
  auto run = [=, c = r.result] {
    const float one32 = 1, zero32 = 0;
    const double one64 = 1, zero64 = 0;
    const bool wide = kind == GemmKind::f64;
    const auto extent = static_cast<int>(n);
    // Column-major c^T = b^T a^T.
    check_cublas(cublasGemmEx(cublas(), CUBLAS_OP_N, CUBLAS_OP_N, extent, extent, extent,
                              wide ? static_cast<const void*>(&one64) : &one32, memory(b), type, extent, memory(a),
                              type, extent, wide ? static_cast<const void*>(&zero64) : &zero32, mutable_memory(c), type,
                              extent, compute_type(kind), CUBLAS_GEMM_DEFAULT));
  };
  r.peer = {.name = "cuBLAS", .run = run, .at_least = at_least};
  return r;
}

PeerResult cub_recurrence_peer(const Tensor& a, const Tensor& b, double at_least) {
  const std::int64_t n = b.numel();
  const auto *pa = static_cast<const float*>(memory(a)), *pb = static_cast<const float*>(memory(b));
  return cub_peer({n}, a, b, at_least, [=](void* temporary, std::size_t bytes, float* out) {
    return cub_recurrence(temporary, bytes, pa, pb, out, n, stream());
  });
}

PeerResult cub_sum_peer(const Tensor& x, double at_least) {
  const std::int64_t n = x.numel();
  const auto* px = static_cast<const float*>(memory(x));
  return cub_peer({n}, x, x, at_least, [=](void* temporary, std::size_t bytes, float* out) {
    return cub_sum(temporary, bytes, px, out, n, stream());
  });
}

std::string peer_versions() {
  int cublas_version = 0;
  check_cublas(cublasGetVersion(cublas(), &cublas_version));
  std::string text = fmt::format("cuBLAS {}, CUB {}", cublas_version, cub_version());
#if HAS_CUDNN_PEER
  text += fmt::format(", cuDNN {}", cudnnGetVersion());
#else
  text += ", built without cuDNN";
#endif
  return text;
}

#endif

#if !HAS_CUDNN_PEER

PeerResult cudnn_peer(const ConvCase&, ConvPass, bool, const Tensor&, const Tensor&, const Shape&, double) {
  return {};
}

#else

namespace {

void check_cudnn(cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) throw std::runtime_error(fmt::format("cuDNN: {}", cudnnGetErrorString(status)));
}

cudnnHandle_t cudnn() {
  static cudnnHandle_t handle = [] {
    cudnnHandle_t h = nullptr;
    check_cudnn(cudnnCreate(&h));
    return h;
  }();
  check_cudnn(cudnnSetStream(handle, stream()));
  return handle;
}

// The descriptors of one convolution; live as long as the peer.
struct ConvDescriptors {
  cudnnTensorDescriptor_t map = nullptr, out = nullptr;
  cudnnFilterDescriptor_t filter = nullptr;
  cudnnConvolutionDescriptor_t conv = nullptr;

  ConvDescriptors(const ConvCase& c, bool tf32) {
    const auto i = [](std::int64_t v) { return static_cast<int>(v); };
    check_cudnn(cudnnCreateTensorDescriptor(&map));
    check_cudnn(cudnnCreateTensorDescriptor(&out));
    check_cudnn(cudnnCreateFilterDescriptor(&filter));
    check_cudnn(cudnnCreateConvolutionDescriptor(&conv));
    check_cudnn(
        cudnnSetTensor4dDescriptor(map, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, i(c.n), i(c.c), i(c.map), i(c.map)));
    check_cudnn(
        cudnnSetTensor4dDescriptor(out, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, i(c.n), i(c.o), i(c.out()), i(c.out())));
    check_cudnn(cudnnSetFilter4dDescriptor(filter, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NCHW, i(c.o), i(c.c), i(c.kernel),
                                           i(c.kernel)));
    check_cudnn(cudnnSetConvolution2dDescriptor(conv, i(c.padding), i(c.padding), i(c.stride), i(c.stride), 1, 1,
                                                CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    // The default permits TF32 for float32.
    check_cudnn(cudnnSetConvolutionMathType(conv, tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH));
  }
  ConvDescriptors(const ConvDescriptors&) = delete;
  ConvDescriptors& operator=(const ConvDescriptors&) = delete;
  ~ConvDescriptors() {
    cudnnDestroyTensorDescriptor(map);
    cudnnDestroyTensorDescriptor(out);
    cudnnDestroyFilterDescriptor(filter);
    cudnnDestroyConvolutionDescriptor(conv);
  }
};

// The first of the results, which cuDNN sorts by time, that ran, is deterministic, needs little memory and has no TF32 unless
// that is compared; if all are said to have it, the first with the arithmetic that was asked for.
template <class Perf>
Perf fastest(const std::vector<Perf>& results, int count, bool tf32) {
  for (const bool as_timed : {true, false})
    for (int i = 0; i < count; ++i) {
      Perf p = results[static_cast<std::size_t>(i)];
      if (p.status != CUDNN_STATUS_SUCCESS || p.determinism != CUDNN_DETERMINISTIC || p.memory > (std::size_t{4} << 30))
        continue;
      if (as_timed && !tf32 && p.mathType != CUDNN_FMA_MATH) continue;
      if (!as_timed) p.mathType = tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
      return p;
    }
  throw std::runtime_error("cuDNN: no deterministic algorithm");
}

constexpr int kAlgorithms = 8;
const float kOne = 1, kZero = 0;

}  // namespace

PeerResult cudnn_peer(const ConvCase& c, ConvPass pass, bool tf32, const Tensor& x, const Tensor& y,
                      const Shape& result, double at_least) {
  PeerResult r;
  r.result = zeros(result, {float32, bench_gpu()});
  const auto d = std::make_shared<ConvDescriptors>(c, tf32);
  const Tensor z = r.result;
  int count = 0;
  std::function<void()> run;
  if (pass == ConvPass::forward) {
    std::vector<cudnnConvolutionFwdAlgoPerf_t> found(kAlgorithms);
    check_cudnn(cudnnFindConvolutionForwardAlgorithm(cudnn(), d->map, d->filter, d->conv, d->out, kAlgorithms, &count,
                                                     found.data()));
    const auto best = fastest(found, count, tf32);
    check_cudnn(cudnnSetConvolutionMathType(d->conv, best.mathType));
    run = [=, space = scratch(best.memory)] {
      check_cudnn(cudnnConvolutionForward(cudnn(), &kOne, d->map, memory(x), d->filter, memory(y), d->conv, best.algo,
                                          mutable_memory(space), best.memory, &kZero, d->out, mutable_memory(z)));
    };
  } else if (pass == ConvPass::input_grad) {
    std::vector<cudnnConvolutionBwdDataAlgoPerf_t> found(kAlgorithms);
    check_cudnn(cudnnFindConvolutionBackwardDataAlgorithm(cudnn(), d->filter, d->out, d->conv, d->map, kAlgorithms,
                                                          &count, found.data()));
    const auto best = fastest(found, count, tf32);
    check_cudnn(cudnnSetConvolutionMathType(d->conv, best.mathType));
    run = [=, space = scratch(best.memory)] {
      check_cudnn(cudnnConvolutionBackwardData(cudnn(), &kOne, d->filter, memory(y), d->out, memory(x), d->conv,
                                               best.algo, mutable_memory(space), best.memory, &kZero, d->map,
                                               mutable_memory(z)));
    };
  } else {
    std::vector<cudnnConvolutionBwdFilterAlgoPerf_t> found(kAlgorithms);
    check_cudnn(cudnnFindConvolutionBackwardFilterAlgorithm(cudnn(), d->map, d->out, d->conv, d->filter, kAlgorithms,
                                                            &count, found.data()));
    const auto best = fastest(found, count, tf32);
    check_cudnn(cudnnSetConvolutionMathType(d->conv, best.mathType));
    run = [=, space = scratch(best.memory)] {
      check_cudnn(cudnnConvolutionBackwardFilter(cudnn(), &kOne, d->map, memory(x), d->out, memory(y), d->conv,
                                                 best.algo, mutable_memory(space), best.memory, &kZero, d->filter,
                                                 mutable_memory(z)));
    };
  }
  r.peer = {.name = "cuDNN", .run = run, .at_least = at_least};
  return r;
}

#endif

}  // namespace solvent::bench
