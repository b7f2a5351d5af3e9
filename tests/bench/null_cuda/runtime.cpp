// The part of libcudart that Solvent uses. Definitions are checked against CUDA's own declarations.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include <cuda_runtime_api.h>

#include "solvent/tests/bench/null_cuda/calls.h"

namespace solvent::null_cuda {
namespace {

struct Counts {
  std::mutex mutex;
  std::deque<std::pair<const char*, std::uint64_t>> all;  // stays where it is
};

// Never destroyed: programs call to their very end.
Counts& counts() {
  static auto* const instance = new Counts;
  return *instance;
}

}  // namespace

Counter::Counter(const char* function) {
  const std::lock_guard lock(counts().mutex);
  count_ = &counts().all.emplace_back(function, 0).second;
}

void Counter::add(std::uint64_t n) { std::atomic_ref(*count_).fetch_add(n, std::memory_order_relaxed); }

Calls calls() {
  Calls result;
  const std::lock_guard lock(counts().mutex);
  for (auto& [function, count] : counts().all) result[function] += std::atomic_ref(count).load();
  return result;
}

}  // namespace solvent::null_cuda

#define COUNT_CALL()                                         \
  static solvent::null_cuda::Counter call_counter(__func__); \
  call_counter.add()

// What CUDA declares and does not define.
struct CUstream_st {
  bool is_capturing = false;
  std::uint64_t nodes = 0;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point recorded;
};
struct CUgraph_st {
  std::uint64_t nodes = 0;
};
struct CUgraphExec_st {
  std::uint64_t nodes = 0;
};

namespace {

// Which kernel each function that was compiled for the host stands for.
struct Kernels {
  std::mutex mutex;
  std::map<const void*, solvent::null_cuda::Counter> counters;
};
Kernels& kernels() {
  static auto* const instance = new Kernels;
  return *instance;
}

constexpr std::size_t kMemory = std::size_t{141} << 30;  // of an H200
constexpr int kMultiprocessors = 132;

void add_node(cudaStream_t stream) {
  static solvent::null_cuda::Counter recorded("nodes recorded");
  if (stream == nullptr || !stream->is_capturing) return;
  ++stream->nodes;
  recorded.add();
}

cudaError_t launch(const void* function, cudaStream_t stream) {
  add_node(stream);
  static const bool by_kernel = std::getenv("SOLVENT_NULL_CUDA_KERNELS") != nullptr;
  if (!by_kernel) return cudaSuccess;
  const std::lock_guard lock(kernels().mutex);
  kernels().counters.at(function).add();
  return cudaSuccess;
}

cudaError_t take(void** p, std::size_t bytes) {
  *p = std::aligned_alloc(512, (bytes + 511) / 512 * 512);  // pages come when they are touched
  return *p == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess;
}

template <class Handle>
cudaError_t make(Handle* handle) {
  *handle = new std::remove_pointer_t<Handle>;
  return cudaSuccess;
}

template <class Handle>
cudaError_t destroy(Handle handle) {
  delete handle;
  return cudaSuccess;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// --- what compiled kernels register at the start ----------------------------------------------------------------------------

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* kernel, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  const std::lock_guard lock(kernels().mutex);
  kernels().counters.try_emplace(function, kernel);
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
char __cudaInitModule(void**) { return 0; }
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
// Only the `<<< >>>` of others.
unsigned __cudaPushCallConfiguration(dim3, dim3, std::size_t, CUstream_st*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes, void* stream) {
  *grid = *block = dim3(1);
  *shared_bytes = 0;
  std::memset(stream, 0, sizeof(void*));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, std::size_t, cudaStream_t stream) {
  COUNT_CALL();
  return launch(kernel, stream);
}

// --- launches ---------------------------------------------------------------------------------------------------------------

cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, std::size_t, cudaStream_t stream) {
  COUNT_CALL();
  return launch(function, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
  COUNT_CALL();
  return launch(function, config->stream);
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  COUNT_CALL();
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, std::size_t) {
  COUNT_CALL();
  *blocks = 1;
  return cudaSuccess;
}

// --- devices and errors -----------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  COUNT_CALL();
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  COUNT_CALL();
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  COUNT_CALL();
  *value = attribute == cudaDevAttrMultiProcessorCount            ? kMultiprocessors
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 << 10
           : attribute == cudaDevAttrComputeCapabilityMajor       ? 9
                                                                  : 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  COUNT_CALL();
  *properties = {};
  std::strcpy(properties->name, "no GPU");
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  properties->totalGlobalMem = kMemory;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  COUNT_CALL();
  *free = *total = kMemory;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaPeekAtLastError() {
  COUNT_CALL();
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t) { return "an error of the null runtime"; }
const char* cudaGetErrorString(cudaError_t) { return "an error of the null runtime"; }

// --- memory -----------------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  COUNT_CALL();
  return take(p, bytes);
}
cudaError_t cudaFree(void* p) {
  COUNT_CALL();
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  COUNT_CALL();
  return take(p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  COUNT_CALL();
  std::free(p);
  return cudaSuccess;
}
// Values from and to the host are copied; on the device there are none.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  COUNT_CALL();
  add_node(stream);
  static solvent::null_cuda::Counter to_host("cudaMemcpyAsync to the host");
  if (kind == cudaMemcpyDeviceToHost) to_host.add();
  if (kind != cudaMemcpyDeviceToDevice) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  COUNT_CALL();
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void*, int, const void*, int, std::size_t, cudaStream_t stream) {
  COUNT_CALL();
  add_node(stream);
  return cudaSuccess;
}
// Small ones are done: what checks report to must say that nothing was found.
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  COUNT_CALL();
  add_node(stream);
  if (bytes <= 64) std::memset(to, value, bytes);
  return cudaSuccess;
}

// --- streams and events -----------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  COUNT_CALL();
  return make(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  COUNT_CALL();
  return destroy(stream);
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  COUNT_CALL();
  return make(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  COUNT_CALL();
  return destroy(event);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  COUNT_CALL();
  event->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  COUNT_CALL();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  COUNT_CALL();
  return cudaSuccess;
}
// The host's time between the calls.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  COUNT_CALL();
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded - start->recorded).count();
  return cudaSuccess;
}

// --- graphs -----------------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  COUNT_CALL();
  *status = stream->is_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  COUNT_CALL();
  stream->is_capturing = true;
  stream->nodes = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  COUNT_CALL();
  stream->is_capturing = false;
  *graph = new CUgraph_st{stream->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  COUNT_CALL();
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  COUNT_CALL();
  static solvent::null_cuda::Counter replayed("nodes replayed");
  replayed.add(executable->nodes);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  COUNT_CALL();
  return destroy(graph);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  COUNT_CALL();
  return destroy(executable);
}

}  // extern "C"
#pragma GCC visibility pop
