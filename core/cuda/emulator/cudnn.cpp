// A stand-in for cuDNN's convolutions: see library_types.h.
//
// The sums are formed in float64 and rounded once. Where the math type permits tensor cores, float32 operands are rounded to
// TF32. Algorithms that the manual calls non-deterministic have other bits at every second call. The heuristics name first what a
// careful caller must refuse: such an algorithm, one with reduced operands, one with too much memory.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include <cudnn.h>  // the emulator's, beside this file
#include <library_types.h>

struct cudnnContext {
  cudaStream_t stream = nullptr;
};
struct cudnnTensorStruct {
  bool is_set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int n = 0, c = 0, h = 0, w = 0;
};
struct cudnnFilterStruct {
  bool is_set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int k = 0, c = 0, h = 0, w = 0;
};
struct cudnnConvolutionStruct {
  bool is_set = false;
  int pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1, groups = 1;
  cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace {

using namespace solvent::cuda::emulator;

thread_local std::array<char, 128> t_last_error{};

cudnnStatus_t say(cudnnStatus_t status, const char* why) {
  std::snprintf(t_last_error.data(), t_last_error.size(), "%s", why);
  return status;
}

enum class Pass { forward, data, filter };

// A convolution with its descriptors as they were at the call.
struct Call {
  Pass pass;
  cudnnTensorStruct x, y;
  cudnnFilterStruct w;
  cudnnConvolutionStruct conv;
};

cudaDataType type_of(cudnnDataType_t type) {
  if (type == CUDNN_DATA_BFLOAT16) return CUDA_R_16BF;
  return type == CUDNN_DATA_FLOAT ? CUDA_R_32F : CUDA_R_64F;
}

// --- what the library accepts -----------------------------------------------------------------------------------------------

std::int64_t extent(std::int64_t in, std::int64_t pad, std::int64_t kernel, std::int64_t dilation,
                    std::int64_t stride) {
  const std::int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

cudnnStatus_t check_call(const Call& c) {
  if (!c.x.is_set || !c.y.is_set || !c.w.is_set || !c.conv.is_set)
    return say(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a descriptor was never set");
  if (c.x.type != c.w.type || c.x.type != c.y.type) return say(CUDNN_STATUS_BAD_PARAM, "operands of different types");
  const cudnnDataType_t sums = c.x.type == CUDNN_DATA_DOUBLE ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  if (c.conv.compute != sums) return say(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "no such configuration of types");
  const std::int64_t h = extent(c.x.h, c.conv.pad_h, c.w.h, c.conv.dilation_h, c.conv.stride_h);
  const std::int64_t w = extent(c.x.w, c.conv.pad_w, c.w.w, c.conv.dilation_w, c.conv.stride_w);
  if (h < 1 || w < 1 || c.y.h != h || c.y.w != w || c.y.n != c.x.n || c.y.c != c.w.k)
    return say(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "the result's shape is not that of the convolution");
  if (c.x.c != c.w.c * c.conv.groups || c.w.k % c.conv.groups != 0)
    return say(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "channels do not fit the filter and its groups");
  constexpr int kWidest = 1 << 20;  // stands for the limits that no manual tells
  if (std::max({c.conv.stride_h, c.conv.stride_w, c.conv.dilation_h, c.conv.dilation_w}) > kWidest)
    return say(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "a stride or dilation is too wide");
  return CUDNN_STATUS_SUCCESS;
}

enum class Kind { plain, winograd, fourier, racy, none };

Kind kind_of(cudnnConvolutionFwdAlgo_t algo) {
  switch (algo) {
    case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM:
    case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM: return Kind::plain;
    case CUDNN_CONVOLUTION_FWD_ALGO_FFT: return Kind::fourier;
    case CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD: return Kind::winograd;
    default: return Kind::none;
  }
}
Kind kind_of(cudnnConvolutionBwdDataAlgo_t algo) {
  switch (algo) {
    case CUDNN_CONVOLUTION_BWD_DATA_ALGO_0: return Kind::racy;
    case CUDNN_CONVOLUTION_BWD_DATA_ALGO_1: return Kind::plain;
    case CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT: return Kind::fourier;
    case CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD: return Kind::winograd;
    default: return Kind::none;
  }
}
Kind kind_of(cudnnConvolutionBwdFilterAlgo_t algo) {
  switch (algo) {
    case CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0:
    case CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3: return Kind::racy;
    case CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1: return Kind::plain;
    case CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT: return Kind::fourier;
    default: return Kind::none;
  }
}

// As the manual's tables say.
cudnnStatus_t check_algorithm(const Call& c, Kind kind) {
  const cudnnConvolutionStruct& v = c.conv;
  const bool is_dense = v.dilation_h == 1 && v.dilation_w == 1 && v.stride_h == 1 && v.stride_w == 1;
  switch (kind) {
    case Kind::plain:
    case Kind::racy: return CUDNN_STATUS_SUCCESS;
    case Kind::winograd:
      if (is_dense && c.w.h == 3 && c.w.w == 3 && c.x.type == CUDNN_DATA_FLOAT) return CUDNN_STATUS_SUCCESS;
      break;
    case Kind::fourier:
      if (is_dense && c.x.type == CUDNN_DATA_FLOAT && c.x.h + 2 * v.pad_h <= 256 && c.x.w + 2 * v.pad_w <= 256 &&
          c.w.h > v.pad_h && c.w.w > v.pad_w)
        return CUDNN_STATUS_SUCCESS;
      break;
    case Kind::none: break;
  }
  return say(CUDNN_STATUS_NOT_SUPPORTED, "the algorithm does not support this convolution");
}

// Tensor cores want another layout of the operands, and transforms want their own.
std::size_t workspace_of(const Call& c, Kind kind, cudnnMathType_t math) {
  const std::size_t map = static_cast<std::size_t>(c.x.c) * static_cast<std::size_t>(c.x.h * c.x.w);
  if (kind == Kind::fourier) return (std::size_t{8} << 30) + map;
  if (kind == Kind::winograd) return 36 * static_cast<std::size_t>(c.w.k * c.w.c) + 4;
  return 4 * map + (math == CUDNN_FMA_MATH ? 12 : 64);
}

cudnnStatus_t check_workspace(const Call& c, Kind kind, std::size_t* bytes) {
  cudnnStatus_t status = check_call(c);
  if (status == CUDNN_STATUS_SUCCESS) status = check_algorithm(c, kind);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  *bytes = workspace_of(c, kind, c.conv.math);
  return CUDNN_STATUS_SUCCESS;
}

// --- the sums -----------------------------------------------------------------------------------------------------------------

// All elements as numbers, as the units read them.
std::vector<double> read(const void* p, std::int64_t count, cudnnDataType_t type, cudnnMathType_t math) {
  std::vector<double> values(static_cast<std::size_t>(count));
  const bool reduced = type == CUDNN_DATA_FLOAT && math != CUDNN_FMA_MATH;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = load(p, i, type_of(type));
    values[static_cast<std::size_t>(i)] =
        reduced ? static_cast<double>(rounded_to_tf32(static_cast<float>(value))) : value;
  }
  return values;
}

// The first and past the last position whose tap lies in the map.
struct Range {
  std::int64_t first, end;
};
Range inside(std::int64_t in, std::int64_t out, std::int64_t pad, std::int64_t stride, std::int64_t tap) {
  const std::int64_t first = tap >= pad ? 0 : (pad - tap + stride - 1) / stride;
  const std::int64_t last = in - 1 + pad - tap;
  return {first, last < 0 ? 0 : std::min(out, last / stride + 1)};
}

// A tap of the filter over one channel's map (x) and one channel's result (y).
void add_tap(const Call& c, std::int64_t kh, std::int64_t kw, double* x, double* w, double* y) {
  const cudnnConvolutionStruct& v = c.conv;
  const Range rows = inside(c.x.h, c.y.h, v.pad_h, v.stride_h, kh * v.dilation_h);
  const Range columns = inside(c.x.w, c.y.w, v.pad_w, v.stride_w, kw * v.dilation_w);
  for (std::int64_t i = rows.first; i < rows.end; ++i) {
    double* const line_x = x + (i * v.stride_h - v.pad_h + kh * v.dilation_h) * c.x.w - v.pad_w + kw * v.dilation_w;
    double* const line_y = y + i * c.y.w;
    for (std::int64_t j = columns.first; j < columns.end; ++j) {
      double& at_x = line_x[j * v.stride_w];
      if (c.pass == Pass::forward) line_y[j] += at_x * *w;
      if (c.pass == Pass::data) at_x += line_y[j] * *w;
      if (c.pass == Pass::filter) *w += at_x * line_y[j];
    }
  }
}

void convolve(const Call& c, double* x, double* w, double* y) {
  const std::int64_t map = std::int64_t{c.x.h} * c.x.w;
  const std::int64_t result = std::int64_t{c.y.h} * c.y.w;
  const std::int64_t group_k = c.w.k / c.conv.groups;
  for (std::int64_t n = 0; n < c.x.n; ++n)
    for (std::int64_t k = 0; k < c.w.k; ++k)
      for (std::int64_t q = 0; q < c.w.c; ++q) {
        double* const from = x + (n * c.x.c + k / group_k * c.w.c + q) * map;
        double* const filter = w + (k * c.w.c + q) * c.w.h * c.w.w;
        for (std::int64_t tap = 0; tap < std::int64_t{c.w.h} * c.w.w; ++tap)
          add_tap(c, tap / c.w.w, tap % c.w.w, from, filter + tap, y + (n * c.y.c + k) * result);
      }
}

std::int64_t count_of(const cudnnTensorStruct& t) { return std::int64_t{t.n} * t.c * t.h * t.w; }
std::int64_t count_of(const cudnnFilterStruct& t) { return std::int64_t{t.k} * t.c * t.h * t.w; }

struct Operands {
  const void* x;
  const void* w;
  const void* y;
  void* result;  // one of the three
};

// result <- alpha op + beta result
void run(const Call& c, const Operands& p, double alpha, double beta, bool is_odd) {
  const auto zeros = [](std::int64_t count) { return std::vector<double>(static_cast<std::size_t>(count), 0.0); };
  const cudnnMathType_t math = c.conv.math;
  std::vector<double> x = c.pass == Pass::data ? zeros(count_of(c.x)) : read(p.x, count_of(c.x), c.x.type, math);
  std::vector<double> w = c.pass == Pass::filter ? zeros(count_of(c.w)) : read(p.w, count_of(c.w), c.w.type, math);
  std::vector<double> y = c.pass == Pass::forward ? zeros(count_of(c.y)) : read(p.y, count_of(c.y), c.y.type, math);
  convolve(c, x.data(), w.data(), y.data());
  const std::vector<double>& sums = c.pass == Pass::forward ? y : c.pass == Pass::data ? x : w;
  const cudaDataType type = type_of(c.x.type);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    double value = alpha * sums[i];
    if (beta != 0) value += beta * load(p.result, at, type);
    if (is_odd) value *= 1.0 + 0x1p-20;  // what another order of a sum does
    store(p.result, at, type, value);
  }
}

cudnnStatus_t give(cudnnHandle_t handle, const Call& c, Kind kind, const Operands& p, const void* alpha,
                   const void* beta, void* workspace, std::size_t bytes) {
  std::size_t needed = 0;
  const cudnnStatus_t status = check_workspace(c, kind, &needed);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  if (alpha == nullptr || beta == nullptr || p.result == nullptr ||
      (p.x == nullptr) + (p.w == nullptr) + (p.y == nullptr) != 0)
    return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null pointer");
  for (const void* const pointer : {p.x, p.w, p.y})
    if (reinterpret_cast<std::uintptr_t>(pointer) % element_size(type_of(c.x.type)) != 0)
      return say(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "a pointer is not aligned to its elements");
  if (bytes < needed) return say(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, "the workspace is too small");
  if (needed > 0 && workspace == nullptr) return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
  // Stands for what the library finds out only when it runs.
  if (c.x.type == CUDNN_DATA_BFLOAT16 && (c.conv.dilation_h > 1 || c.conv.dilation_w > 1))
    return say(CUDNN_STATUS_NOT_SUPPORTED, "no kernel for dilated bfloat16");
  // The coefficients are doubles for doubles, and floats for everything else.
  const cudaDataType type = c.x.type == CUDNN_DATA_DOUBLE ? CUDA_R_64F : CUDA_R_32F;
  const double by = load(alpha, 0, type);
  const double keep = load(beta, 0, type);
  submit(handle->stream, [=] {
    static std::atomic<std::uint64_t> calls = 0;
    use_workspace(workspace, bytes);
    run(c, p, by, keep, kind == Kind::racy && calls++ % 2 == 1);
  });
  return CUDNN_STATUS_SUCCESS;
}

template <class Struct, class Descriptor>
bool copy(const Descriptor descriptor, Struct& to) {
  if (descriptor == nullptr) return false;
  to = *descriptor;
  return true;
}

bool describe(Pass pass, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t y,
              cudnnConvolutionDescriptor_t conv, Call& c) {
  c.pass = pass;
  return copy(x, c.x) && copy(w, c.w) && copy(y, c.y) && copy(conv, c.conv);
}

// --- heuristics -----------------------------------------------------------------------------------------------------------------

template <class Perf, class Algorithm>
Perf estimate(const Call& c, Algorithm algo, cudnnMathType_t math, float time) {
  const Kind kind = kind_of(algo);
  Perf perf{};
  perf.algo = algo;
  perf.status = check_algorithm(c, kind);
  perf.time = perf.status == CUDNN_STATUS_SUCCESS ? time : -1.0f;
  perf.memory = perf.status == CUDNN_STATUS_SUCCESS ? workspace_of(c, kind, math) : 0;
  perf.determinism = kind == Kind::racy ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC;
  perf.mathType = math;
  return perf;
}

// The algorithms in the given order, with reduced operands first; those that run come before those that do not. For filters
// only with reduced operands: nothing says that the arithmetic asked for is among the estimates.
template <class Perf, class Algorithm, std::size_t kCount>
cudnnStatus_t estimate_all(cudnnHandle_t handle, const Call& c, const Algorithm (&algorithms)[kCount], int requested,
                           int* returned, Perf* results) {
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (returned == nullptr || results == nullptr || requested < 1)
    return say(CUDNN_STATUS_BAD_PARAM, "nowhere to put results");
  const cudnnStatus_t status = check_call(c);
  if (status != CUDNN_STATUS_SUCCESS) return status;
  std::vector<Perf> all;
  for (const cudnnMathType_t math : {CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH}) {
    if (c.pass == Pass::filter && math == CUDNN_FMA_MATH) continue;
    for (const Algorithm algo : algorithms)
      all.push_back(estimate<Perf>(c, algo, math, static_cast<float>(all.size() + 1)));
  }
  std::stable_partition(all.begin(), all.end(), [](const Perf& p) { return p.status == CUDNN_STATUS_SUCCESS; });
  *returned = std::min(requested, static_cast<int>(all.size()));
  std::copy_n(all.begin(), *returned, results);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t no_descriptor() { return say(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a null descriptor"); }

template <class Struct>
cudnnStatus_t make(Struct** descriptor) {
  if (descriptor == nullptr) return no_descriptor();
  *descriptor = new Struct;
  return CUDNN_STATUS_SUCCESS;
}

bool is_size(int a, int b, int c, int d) {
  return std::min({a, b, c, d}) >= 1 && std::int64_t{a} * b <= std::numeric_limits<int>::max() / (std::int64_t{c} * d);
}

}  // namespace

// --- the interface ----------------------------------------------------------------------------------------------------------------

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (CUDNN_STATUS_CATEGORY(status)) {
    case 0: return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR: return "CUDNN_STATUS_INTERNAL_ERROR";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_NOT_INITIALIZED";
  }
}
void cudnnGetLastErrorString(char* message, std::size_t max_size) {
  std::snprintf(message, max_size, "%s", t_last_error.data());
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return make(handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensorDesc) { return make(tensorDesc); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensorDesc) {
  delete tensorDesc;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensorDesc, cudnnTensorFormat_t format,
                                         cudnnDataType_t dataType, int n, int c, int h, int w) {
  if (tensorDesc == nullptr) return no_descriptor();
  if (!is_size(n, c, h, w)) return say(CUDNN_STATUS_BAD_PARAM, "extents of a tensor: at least 1, 2^31 - 1 together");
  if (format != CUDNN_TENSOR_NCHW) return say(CUDNN_STATUS_NOT_SUPPORTED, "no other layouts here");
  *tensorDesc = {true, dataType, n, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filterDesc) { return make(filterDesc); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filterDesc) {
  delete filterDesc;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filterDesc, cudnnDataType_t dataType,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (filterDesc == nullptr) return no_descriptor();
  if (!is_size(k, c, h, w)) return say(CUDNN_STATUS_BAD_PARAM, "extents of a filter: at least 1, 2^31 - 1 together");
  if (format != CUDNN_TENSOR_NCHW) return say(CUDNN_STATUS_NOT_SUPPORTED, "no other layouts here");
  *filterDesc = {true, dataType, k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* convDesc) { return make(convDesc); }
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convDesc) {
  delete convDesc;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convDesc, int pad_h, int pad_w, int u, int v,
                                              int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t computeType) {
  if (convDesc == nullptr) return no_descriptor();
  if (std::min(pad_h, pad_w) < 0 || std::min({u, v, dilation_h, dilation_w}) < 1)
    return say(CUDNN_STATUS_BAD_PARAM, "padding from 0, strides and dilations from 1");
  if (mode != CUDNN_CROSS_CORRELATION) return say(CUDNN_STATUS_NOT_SUPPORTED, "no flipped filters here");
  *convDesc = {true, pad_h, pad_w, u, v, dilation_h, dilation_w, 1, computeType, CUDNN_DEFAULT_MATH};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t convDesc, int groupCount) {
  if (convDesc == nullptr) return no_descriptor();
  if (groupCount < 1) return say(CUDNN_STATUS_BAD_PARAM, "groups from 1");
  convDesc->groups = groupCount;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convDesc, cudnnMathType_t mathType) {
  if (convDesc == nullptr) return no_descriptor();
  convDesc->math = mathType;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t srcDesc,
                                                     const cudnnFilterDescriptor_t filterDesc,
                                                     const cudnnConvolutionDescriptor_t convDesc,
                                                     const cudnnTensorDescriptor_t destDesc,
                                                     const int requestedAlgoCount, int* returnedAlgoCount,
                                                     cudnnConvolutionFwdAlgoPerf_t* perfResults) {
  Call c;
  if (!describe(Pass::forward, srcDesc, filterDesc, destDesc, convDesc, c)) return no_descriptor();
  constexpr cudnnConvolutionFwdAlgo_t kOrder[] = {CUDNN_CONVOLUTION_FWD_ALGO_FFT, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
                                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                                                  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM};
  return estimate_all(handle, c, kOrder, requestedAlgoCount, returnedAlgoCount, perfResults);
}
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t xDesc,
                                                      const cudnnFilterDescriptor_t wDesc,
                                                      const cudnnConvolutionDescriptor_t convDesc,
                                                      const cudnnTensorDescriptor_t yDesc,
                                                      cudnnConvolutionFwdAlgo_t algo, std::size_t* sizeInBytes) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::forward, xDesc, wDesc, yDesc, convDesc, c)) return no_descriptor();
  return check_workspace(c, kind_of(algo), sizeInBytes);
}
cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, const cudnnTensorDescriptor_t xDesc,
                                      const void* x, const cudnnFilterDescriptor_t wDesc, const void* w,
                                      const cudnnConvolutionDescriptor_t convDesc, cudnnConvolutionFwdAlgo_t algo,
                                      void* workSpace, std::size_t workSpaceSizeInBytes, const void* beta,
                                      const cudnnTensorDescriptor_t yDesc, void* y) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::forward, xDesc, wDesc, yDesc, convDesc, c)) return no_descriptor();
  return give(handle, c, kind_of(algo), {x, w, y, y}, alpha, beta, workSpace, workSpaceSizeInBytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t handle, const cudnnFilterDescriptor_t filterDesc, const cudnnTensorDescriptor_t diffDesc,
    const cudnnConvolutionDescriptor_t convDesc, const cudnnTensorDescriptor_t gradDesc, const int requestedAlgoCount,
    int* returnedAlgoCount, cudnnConvolutionBwdDataAlgoPerf_t* perfResults) {
  Call c;
  if (!describe(Pass::data, gradDesc, filterDesc, diffDesc, convDesc, c)) return no_descriptor();
  constexpr cudnnConvolutionBwdDataAlgo_t kOrder[] = {
      CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
      CUDNN_CONVOLUTION_BWD_DATA_ALGO_1};
  return estimate_all(handle, c, kOrder, requestedAlgoCount, returnedAlgoCount, perfResults);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t handle, const cudnnFilterDescriptor_t wDesc,
                                                           const cudnnTensorDescriptor_t dyDesc,
                                                           const cudnnConvolutionDescriptor_t convDesc,
                                                           const cudnnTensorDescriptor_t dxDesc,
                                                           cudnnConvolutionBwdDataAlgo_t algo,
                                                           std::size_t* sizeInBytes) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::data, dxDesc, wDesc, dyDesc, convDesc, c)) return no_descriptor();
  return check_workspace(c, kind_of(algo), sizeInBytes);
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void* alpha, const cudnnFilterDescriptor_t wDesc,
                                           const void* w, const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                           const cudnnConvolutionDescriptor_t convDesc,
                                           cudnnConvolutionBwdDataAlgo_t algo, void* workSpace,
                                           std::size_t workSpaceSizeInBytes, const void* beta,
                                           const cudnnTensorDescriptor_t dxDesc, void* dx) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::data, dxDesc, wDesc, dyDesc, convDesc, c)) return no_descriptor();
  return give(handle, c, kind_of(algo), {dx, w, dy, dx}, alpha, beta, workSpace, workSpaceSizeInBytes);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t handle, const cudnnTensorDescriptor_t srcDesc,
                                                            const cudnnTensorDescriptor_t diffDesc,
                                                            const cudnnConvolutionDescriptor_t convDesc,
                                                            const cudnnFilterDescriptor_t gradDesc,
                                                            const int requestedAlgoCount, int* returnedAlgoCount,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* perfResults) {
  Call c;
  if (!describe(Pass::filter, srcDesc, gradDesc, diffDesc, convDesc, c)) return no_descriptor();
  constexpr cudnnConvolutionBwdFilterAlgo_t kOrder[] = {
      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1};
  return estimate_all(handle, c, kOrder, requestedAlgoCount, returnedAlgoCount, perfResults);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t xDesc,
                                                             const cudnnTensorDescriptor_t dyDesc,
                                                             const cudnnConvolutionDescriptor_t convDesc,
                                                             const cudnnFilterDescriptor_t gradDesc,
                                                             cudnnConvolutionBwdFilterAlgo_t algo,
                                                             std::size_t* sizeInBytes) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::filter, xDesc, gradDesc, dyDesc, convDesc, c)) return no_descriptor();
  return check_workspace(c, kind_of(algo), sizeInBytes);
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void* alpha,
                                             const cudnnTensorDescriptor_t xDesc, const void* x,
                                             const cudnnTensorDescriptor_t dyDesc, const void* dy,
                                             const cudnnConvolutionDescriptor_t convDesc,
                                             cudnnConvolutionBwdFilterAlgo_t algo, void* workSpace,
                                             std::size_t workSpaceSizeInBytes, const void* beta,
                                             const cudnnFilterDescriptor_t dwDesc, void* dw) {
  Call c;
  if (handle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  if (!describe(Pass::filter, xDesc, dwDesc, dyDesc, convDesc, c)) return no_descriptor();
  return give(handle, c, kind_of(algo), {x, dw, dy, dw}, alpha, beta, workSpace, workSpaceSizeInBytes);
}
