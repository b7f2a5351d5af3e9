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

constexpr std::size_t kMostPlans = 256;  // of a device and thread; then all are made anew
constexpr auto kForward = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
constexpr auto kBackwardData = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
constexpr auto kBackwardFilter = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

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
  std::size_t workspace = 0;
  bool supported = false;
};

cudnnDataType_t data_type(DType dtype) {
  if (dtype == DType::bfloat16) return CUDNN_DATA_BFLOAT16;
  return dtype == DType::float32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_DOUBLE;
}

cudnnMathType_t math_type(DType dtype, bool tf32) {
  if (dtype == DType::bfloat16) return CUDNN_TENSOR_OP_MATH;
  return tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

void describe(Plan& plan, const cpu::ConvShape& s, DType dtype, bool tf32) {
  const auto i = [](std::int64_t value) { return static_cast<int>(value); };
  const cudnnDataType_t type = data_type(dtype);
  // The type of sums.
  const cudnnDataType_t sum_type = dtype == DType::bfloat16 ? CUDNN_DATA_FLOAT : type;
  const cpu::ConvAxis& h = s.g.h;
  const cpu::ConvAxis& w = s.g.w;
  check_cudnn(cudnnSetTensor4dDescriptor(plan.x, CUDNN_TENSOR_NCHW, type, i(s.n), i(s.c), i(h.in), i(w.in)),
              "describe the map");
  check_cudnn(cudnnSetTensor4dDescriptor(plan.y, CUDNN_TENSOR_NCHW, type, i(s.n), i(s.o), i(h.out), i(w.out)),
              "describe the result");
  check_cudnn(
      cudnnSetFilter4dDescriptor(plan.w, type, CUDNN_TENSOR_NCHW, i(s.o), i(s.group_c()), i(h.kernel), i(w.kernel)),
      "describe the filter");
  check_cudnn(cudnnSetConvolution2dDescriptor(plan.conv, i(h.before), i(w.before), i(h.stride), i(w.stride),
                                              i(h.dilation), i(w.dilation), CUDNN_CROSS_CORRELATION, sum_type),
              "describe the convolution");
  check_cudnn(cudnnSetConvolutionGroupCount(plan.conv, i(s.g.groups)), "set the groups");
  check_cudnn(cudnnSetConvolutionMathType(plan.conv, math_type(dtype, tf32)), "set the precision");
}

cudnnStatus_t find_workspace(cudnnHandle_t handle, ConvMember member, Plan& plan) {
  switch (member) {
    case ConvMember::conv:
      return cudnnGetConvolutionForwardWorkspaceSize(handle, plan.x, plan.w, plan.conv, plan.y, kForward,
                                                     &plan.workspace);
    case ConvMember::input_grad:
      return cudnnGetConvolutionBackwardDataWorkspaceSize(handle, plan.w, plan.y, plan.conv, plan.x, kBackwardData,
                                                          &plan.workspace);
    case ConvMember::weight_grad: break;
  }
  return cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, plan.x, plan.y, plan.conv, plan.w, kBackwardFilter,
                                                        &plan.workspace);
}

cudnnStatus_t run(cudnnHandle_t handle, ConvMember member, const Plan& plan, const void* one, const void* zero,
                  const void* a, const void* b, void* result, void* workspace) {
  switch (member) {
    case ConvMember::conv:
      return cudnnConvolutionForward(handle, one, plan.x, a, plan.w, b, plan.conv, kForward, workspace, plan.workspace,
                                     zero, plan.y, result);
    case ConvMember::input_grad:
      return cudnnConvolutionBackwardData(handle, one, plan.w, b, plan.y, a, plan.conv, kBackwardData, workspace,
                                          plan.workspace, zero, plan.x, result);
    case ConvMember::weight_grad: break;
  }
  return cudnnConvolutionBackwardFilter(handle, one, plan.x, a, plan.y, b, plan.conv, kBackwardFilter, workspace,
                                        plan.workspace, zero, plan.w, result);
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
    const bool tf32 = dtype == DType::float32 && s.g.precision != MatmulPrecision::highest;
    const PlanKey key = key_of(member, s, dtype, tf32);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return *found->second;
    if (plans_.size() >= kMostPlans) plans_.clear();
    auto made = std::make_unique<Plan>();
    describe(*made, s, dtype, tf32);
    const cudnnStatus_t status = find_workspace(handle_, member, *made);
    if (!is_unsupported(status)) check_cudnn(status, "size its workspace");
    made->supported = status == CUDNN_STATUS_SUCCESS;
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

}  // namespace

bool conv_cudnn(ConvMember member, const cpu::ConvShape& s, const Tensor& a, const Tensor& b, Tensor& result) {
  if (!fits(s)) return false;
  const DType dtype = a.dtype();
  const Device device = a.device();
  Library& library = library_of(device);
  Plan& plan = library.plan(member, s, dtype);
  if (!plan.supported) return false;
  constexpr float kOneFloat = 1;
  constexpr float kZeroFloat = 0;
  constexpr double kOne = 1;
  constexpr double kZero = 0;
  const bool narrow = dtype != DType::float64;  // what cuDNN's factors are
  Tensor memory;
  void* workspace = nullptr;
  if (plan.workspace > 0) {
    memory = engine::empty(Shape{static_cast<std::int64_t>(plan.workspace)}, DType::uint8, device);
    workspace = engine::mutable_ptr<std::uint8_t>(memory);
  }
  const cudnnStatus_t status = run(
      library.on_stream(current_stream(device)), member, plan, narrow ? static_cast<const void*>(&kOneFloat) : &kOne,
      narrow ? static_cast<const void*>(&kZeroFloat) : &kZero, address(a), address(b), address(result), workspace);
  if (is_unsupported(status)) {
    plan.supported = false;  // found out at the first run
    return false;
  }
  check_cudnn(status, "convolve");
  return true;
}

}  // namespace solvent::cuda

#elif SOLVENT_CUDA_EMULATED

#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cuda/conv.h"
#include "solvent/ops/widen.h"

namespace solvent::cuda {

namespace {

template <class T>
void stand_in(ConvMember member, const cpu::ConvShape& s, const Tensor& a, const Tensor& b, Tensor& result) {
  const auto run = member == ConvMember::conv         ? own_conv<T>
                   : member == ConvMember::input_grad ? own_conv_input_grad<T>
                                                      : own_conv_weight_grad<T>;
  run(s, engine::ptr<T>(a), engine::ptr<T>(b), engine::mutable_ptr<T>(result), a.device());
}

}  // namespace

// Stands in for the library, so that tests reach its callers.
bool conv_cudnn(ConvMember member, const cpu::ConvShape& s, const Tensor& a, const Tensor& b, Tensor& result) {
  if (s.g.h.before != s.g.h.after || s.g.w.before != s.g.w.after)
    throw ValueError("[conv] got uneven padding; conv_cudnn expects even padding.");
  if (a.dtype() == DType::bfloat16) {
    Tensor wide = engine::empty(result.shape(), DType::float32, result.device());
    stand_in<float>(member, s, solvent::detail::widened(a), solvent::detail::widened(b), wide);
    engine::copy_into(solvent::detail::narrowed(std::move(wide)), result);
    return true;
  }
  dispatch_float(a.dtype(), "conv", [&](auto tag) { stand_in<typename decltype(tag)::type>(member, s, a, b, result); });
  return true;
}

}  // namespace solvent::cuda

#else

namespace solvent::cuda {

bool conv_cudnn(ConvMember, const cpu::ConvShape&, const Tensor&, const Tensor&, Tensor&) { return false; }

}  // namespace solvent::cuda

#endif  // SOLVENT_WITH_CUDNN
