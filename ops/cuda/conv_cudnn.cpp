// cuDNN's convolutions (version 9, the functional interface). Every thread has a handle and its plans for each device: a plan
// is what depends on the call's sizes, made once and found again by them.

#include "solvent/ops/cuda/conv_cudnn.h"

#if SOLVENT_WITH_CUDNN

#include <array>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include <cudnn.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/matmul_precision.h"

namespace solvent::cuda {
namespace {

static_assert(CUDNN_MAJOR >= 9, "cuDNN 9 or newer; configure with a newer one or without it");

constexpr std::size_t kMostPlans = 256;                       // of a device and thread; then all are made anew
constexpr std::size_t kMostWorkspace = std::size_t{1} << 30;  // of an algorithm that is chosen for its speed

void check_cudnn(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> message{};
  cudnnGetLastErrorString(message.data(), message.size());
  throw DeviceError(
      fmt::format("[conv] cuDNN could not {}: {}. {} Set SOLVENT_CUDA_CONV=own to use Solvent's own kernels.", what,
                  cudnnGetErrorString(status), message.data()));
}

bool is_unsupported(cudnnStatus_t status) { return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED; }

// One of cuDNN's descriptors.
template <class T, cudnnStatus_t (*kCreate)(T*), cudnnStatus_t (*kDestroy)(T)>
class Descriptor {
 public:
  Descriptor() { check_cudnn(kCreate(&value_), "make a descriptor"); }
  ~Descriptor() { (void)kDestroy(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator T() const { return value_; }  // NOLINT: as if it were cuDNN's

 private:
  T value_ = nullptr;
};

using TensorDescriptor = Descriptor<cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor>;
using FilterDescriptor = Descriptor<cudnnFilterDescriptor_t, cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor>;
using ConvDescriptor =
    Descriptor<cudnnConvolutionDescriptor_t, cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor>;

// Everything that a plan depends on.
using PlanKey = std::array<std::int64_t, 17>;

PlanKey key_of(ConvMember member, const cpu::ConvShape& s, DType dtype, bool tf32) {
  const cpu::ConvAxis& h = s.g.h;
  const cpu::ConvAxis& w = s.g.w;
  return {static_cast<std::int64_t>(member),
          static_cast<std::int64_t>(dtype),
          tf32 ? 1 : 0,
          s.n,
          s.c,
          s.o,
          s.g.groups,
          h.in,
          h.kernel,
          h.stride,
          h.before,
          h.dilation,
          w.in,
          w.kernel,
          w.stride,
          w.before,
          w.dilation};
}

struct Plan {
  TensorDescriptor x;
  TensorDescriptor y;
  FilterDescriptor w;
  ConvDescriptor conv;
  int algorithm = 0;  // of the member's kind
  bool is_fixed = false;
  std::size_t workspace = 0;
  bool supported = false;
};

cudnnDataType_t data_type(DType dtype) {
  if (dtype == DType::bfloat16) return CUDNN_DATA_BFLOAT16;
  return dtype == DType::float32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_DOUBLE;
}

// What is asked for. Tensor cores read all digits of float64.
cudnnMathType_t math_type(DType dtype, bool tf32) {
  if (dtype == DType::bfloat16) return CUDNN_TENSOR_OP_MATH;
  return tf32 || dtype == DType::float64 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

// What may be had: without TF32 unless it was asked for, never half precision.
bool is_exact_enough(cudnnMathType_t math, DType dtype, bool tf32) {
  if (math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) return false;
  return math == CUDNN_FMA_MATH || dtype != DType::float32 || tf32;
}

// The status of the first call that failed.
cudnnStatus_t describe(Plan& plan, const cpu::ConvShape& s, DType dtype, bool tf32) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  const cudnnDataType_t type = data_type(dtype);
  // The type of sums.
  const cudnnDataType_t sum_type = dtype == DType::bfloat16 ? CUDNN_DATA_FLOAT : type;
  const cpu::ConvAxis& h = s.g.h;
  const cpu::ConvAxis& w = s.g.w;
  cudnnStatus_t status = cudnnSetTensor4dDescriptor(plan.x, CUDNN_TENSOR_NCHW, type, i(s.n), i(s.c), i(h.in), i(w.in));
  const auto then = [&status](auto call) {
    if (status == CUDNN_STATUS_SUCCESS) status = call();
  };
  then([&] { return cudnnSetTensor4dDescriptor(plan.y, CUDNN_TENSOR_NCHW, type, i(s.n), i(s.o), i(h.out), i(w.out)); });
  then([&] {
    return cudnnSetFilter4dDescriptor(plan.w, type, CUDNN_TENSOR_NCHW, i(s.o), i(s.group_c()), i(h.kernel),
                                      i(w.kernel));
  });
  then([&] {
    return cudnnSetConvolution2dDescriptor(plan.conv, i(h.before), i(w.before), i(h.stride), i(w.stride), i(h.dilation),
                                           i(w.dilation), CUDNN_CROSS_CORRELATION, sum_type);
  });
  then([&] { return cudnnSetConvolutionGroupCount(plan.conv, i(s.g.groups)); });
  then([&] { return cudnnSetConvolutionMathType(plan.conv, math_type(dtype, tf32)); });
  return status;
}

// The calls of each member, and the algorithm that it has for every size.
struct Forward {
  using Algorithm = cudnnConvolutionFwdAlgo_t;
  using Estimate = cudnnConvolutionFwdAlgoPerf_t;
  static constexpr Algorithm kFixed = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
  static constexpr int kCount = CUDNN_CONVOLUTION_FWD_ALGO_COUNT;

  static cudnnStatus_t estimate(cudnnHandle_t handle, const Plan& plan, int most, int* count, Estimate* results) {
    return cudnnGetConvolutionForwardAlgorithm_v7(handle, plan.x, plan.w, plan.conv, plan.y, most, count, results);
  }
  static cudnnStatus_t size(cudnnHandle_t handle, const Plan& plan, Algorithm algorithm, std::size_t* bytes) {
    return cudnnGetConvolutionForwardWorkspaceSize(handle, plan.x, plan.w, plan.conv, plan.y, algorithm, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t handle, const Plan& plan, const void* one, const void* zero, const void* a,
                           const void* b, void* result, void* workspace) {
    return cudnnConvolutionForward(handle, one, plan.x, a, plan.w, b, plan.conv, static_cast<Algorithm>(plan.algorithm),
                                   workspace, plan.workspace, zero, plan.y, result);
  }
};

struct BackwardData {
  using Algorithm = cudnnConvolutionBwdDataAlgo_t;
  using Estimate = cudnnConvolutionBwdDataAlgoPerf_t;
  static constexpr Algorithm kFixed = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
  static constexpr int kCount = CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT;

  static cudnnStatus_t estimate(cudnnHandle_t handle, const Plan& plan, int most, int* count, Estimate* results) {
    return cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, plan.w, plan.y, plan.conv, plan.x, most, count, results);
  }
  static cudnnStatus_t size(cudnnHandle_t handle, const Plan& plan, Algorithm algorithm, std::size_t* bytes) {
    return cudnnGetConvolutionBackwardDataWorkspaceSize(handle, plan.w, plan.y, plan.conv, plan.x, algorithm, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t handle, const Plan& plan, const void* one, const void* zero, const void* a,
                           const void* b, void* result, void* workspace) {
    return cudnnConvolutionBackwardData(handle, one, plan.w, b, plan.y, a, plan.conv,
                                        static_cast<Algorithm>(plan.algorithm), workspace, plan.workspace, zero, plan.x,
                                        result);
  }
};

struct BackwardFilter {
  using Algorithm = cudnnConvolutionBwdFilterAlgo_t;
  using Estimate = cudnnConvolutionBwdFilterAlgoPerf_t;
  static constexpr Algorithm kFixed = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
  static constexpr int kCount = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT;

  static cudnnStatus_t estimate(cudnnHandle_t handle, const Plan& plan, int most, int* count, Estimate* results) {
    return cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, plan.x, plan.y, plan.conv, plan.w, most, count,
                                                         results);
  }
  static cudnnStatus_t size(cudnnHandle_t handle, const Plan& plan, Algorithm algorithm, std::size_t* bytes) {
    return cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, plan.x, plan.y, plan.conv, plan.w, algorithm, bytes);
  }
  static cudnnStatus_t run(cudnnHandle_t handle, const Plan& plan, const void* one, const void* zero, const void* a,
                           const void* b, void* result, void* workspace) {
    return cudnnConvolutionBackwardFilter(handle, one, plan.x, a, plan.y, b, plan.conv,
                                          static_cast<Algorithm>(plan.algorithm), workspace, plan.workspace, zero,
                                          plan.w, result);
  }
};

// f(Forward{}), or that of another member.
template <class F>
auto with_member(ConvMember member, F f) {
  switch (member) {
    case ConvMember::conv: return f(Forward{});
    case ConvMember::input_grad: return f(BackwardData{});
    case ConvMember::weight_grad: break;
  }
  return f(BackwardFilter{});
}

// Makes the algorithm the plan's, with one kind of arithmetic.
template <class M>
cudnnStatus_t take(cudnnHandle_t handle, Plan& plan, typename M::Algorithm algorithm, cudnnMathType_t math) {
  cudnnStatus_t status = cudnnSetConvolutionMathType(plan.conv, math);
  if (status == CUDNN_STATUS_SUCCESS) status = M::size(handle, plan, algorithm, &plan.workspace);
  plan.algorithm = static_cast<int>(algorithm);
  plan.is_fixed = algorithm == M::kFixed;
  plan.supported = status == CUDNN_STATUS_SUCCESS;
  return status;
}

// The algorithm that supports the most, whatever its workspace. Not supported if that does not either.
template <class M>
void take_fixed(cudnnHandle_t handle, Plan& plan, DType dtype, bool tf32) {
  const cudnnStatus_t status = take<M>(handle, plan, M::kFixed, math_type(dtype, tf32));
  if (!is_unsupported(status)) check_cudnn(status, "size its workspace");
}

// The fastest algorithm by cuDNN's estimates, which it makes from the sizes without running anything, among those that give
// the same bits at every run. First those that are estimated with an arithmetic that may be had; then all, with ours.
template <class M>
void choose(cudnnHandle_t handle, Plan& plan, DType dtype, bool tf32) {
  std::array<typename M::Estimate, 4 * M::kCount> estimates{};
  int count = 0;
  const int most = static_cast<int>(estimates.size());
  if (M::estimate(handle, plan, most, &count, estimates.data()) != CUDNN_STATUS_SUCCESS) count = 0;  // knows nothing
  for (const bool as_estimated : {true, false})
    for (int i = 0; i < count; ++i) {
      const auto& e = estimates[static_cast<std::size_t>(i)];
      if (e.status != CUDNN_STATUS_SUCCESS || e.determinism != CUDNN_DETERMINISTIC) continue;
      if (as_estimated && !is_exact_enough(e.mathType, dtype, tf32)) continue;
      const cudnnMathType_t math = as_estimated ? e.mathType : math_type(dtype, tf32);
      if (take<M>(handle, plan, e.algo, math) == CUDNN_STATUS_SUCCESS && plan.workspace <= kMostWorkspace) return;
    }
  take_fixed<M>(handle, plan, dtype, tf32);
}

bool wants_tf32(const cpu::ConvShape& s, DType dtype) {
  return dtype == DType::float32 && s.g.precision != MatmulPrecision::highest;
}

// The library's state for one device and thread: handles must not be shared by threads.
class Library {
 public:
  explicit Library(Device device) : device_(device) { check_cudnn(cudnnCreate(&handle_), "make a handle"); }
  ~Library() {
    plans_.clear();
    (void)cudnnDestroy(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] Device device() const { return device_; }

  cudnnHandle_t on_stream(cudaStream_t stream) {
    check_cudnn(cudnnSetStream(handle_, stream), "change its stream");
    return handle_;
  }

  Plan& plan(ConvMember member, const cpu::ConvShape& s, DType dtype) {
    const bool tf32 = wants_tf32(s, dtype);
    const PlanKey key = key_of(member, s, dtype, tf32);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return *found->second;
    if (plans_.size() >= kMostPlans) plans_.clear();
    auto made = std::make_unique<Plan>();
    const cudnnStatus_t status = describe(*made, s, dtype, tf32);
    if (!is_unsupported(status)) {
      check_cudnn(status, "describe the convolution");
      with_member(member, [&](auto m) { choose<decltype(m)>(handle_, *made, dtype, tf32); });
    }
    return *(plans_[key] = std::move(made));
  }

 private:
  Device device_;
  cudnnHandle_t handle_ = nullptr;
  std::map<PlanKey, std::unique_ptr<Plan>> plans_;
};

Library& library_of(Device device) {
  (void)current_stream(device);  // makes the device current; first: its thread-local memory must outlive ours
  thread_local std::vector<std::unique_ptr<Library>> libraries;
  for (const std::unique_ptr<Library>& library : libraries)
    if (library->device() == device) return *library;
  libraries.push_back(std::make_unique<Library>(device));
  return *libraries.back();
}

// cuDNN counts with ints.
bool fits(const cpu::ConvShape& s) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (s.n * s.c * s.map() > kMax || s.n * s.o * s.result() > kMax || s.weights() > kMax) return false;
  for (const cpu::ConvAxis* axis : {&s.g.h, &s.g.w})
    if (axis->stride > kMax || axis->before > kMax || axis->dilation > kMax) return false;
  return true;
}

void* address(const Tensor& t) {
  const solvent::detail::TensorImpl& impl = *t.impl();
  return static_cast<std::byte*>(impl.storage->data) + impl.offset * static_cast<std::int64_t>(size_of(impl.dtype));
}

// The plan's algorithm on these operands.
cudnnStatus_t run(cudnnHandle_t handle, ConvMember member, const Plan& plan, const Tensor& a, const Tensor& b,
                  Tensor& result) {
  static constexpr float kOneFloat = 1;
  static constexpr float kZeroFloat = 0;
  static constexpr double kOne = 1;
  static constexpr double kZero = 0;
  const bool narrow = a.dtype() != DType::float64;  // what cuDNN's factors are
  const void* const one = narrow ? static_cast<const void*>(&kOneFloat) : &kOne;
  const void* const zero = narrow ? static_cast<const void*>(&kZeroFloat) : &kZero;
  Tensor memory;
  void* workspace = nullptr;
  if (plan.workspace > 0) {
    memory = engine::empty(Shape{static_cast<std::int64_t>(plan.workspace)}, DType::uint8, a.device());
    workspace = engine::mutable_ptr<std::uint8_t>(memory);
  }
  return with_member(member, [&](auto m) {
    return decltype(m)::run(handle, plan, one, zero, address(a), address(b), address(result), workspace);
  });
}

}  // namespace

bool conv_cudnn(ConvMember member, const cpu::ConvShape& s, const Tensor& a, const Tensor& b, Tensor& result) {
  if (!fits(s)) return false;
  const DType dtype = a.dtype();
  const Device device = a.device();
  Library& library = library_of(device);
  Plan& plan = library.plan(member, s, dtype);
  if (!plan.supported) return false;
  const cudnnHandle_t handle = library.on_stream(current_stream(device));
  cudnnStatus_t status = run(handle, member, plan, a, b, result);
  if (is_unsupported(status) && !plan.is_fixed) {  // found out at the first run
    with_member(member, [&](auto m) { take_fixed<decltype(m)>(handle, plan, dtype, wants_tf32(s, dtype)); });
    if (!plan.supported) return false;
    status = run(handle, member, plan, a, b, result);
  }
  if (is_unsupported(status)) {
    plan.supported = false;
    return false;
  }
  check_cudnn(status, "convolve");
  return true;
}

}  // namespace solvent::cuda

#else

namespace solvent::cuda {

bool conv_cudnn(ConvMember, const cpu::ConvShape&, const Tensor&, const Tensor&, Tensor&) { return false; }

}  // namespace solvent::cuda

#endif  // SOLVENT_WITH_CUDNN
