#include "solvent/core/stream.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/engine/storage.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/graph.h"
#include "solvent/core/cuda/pinned.h"
#include "solvent/core/cuda/runtime.h"
#endif

namespace solvent {
namespace {

void require_gpu(const char* op, Device device) {
  if (device == cpu_device)
    throw DeviceError(fmt::format("[{}] got device cpu; expected a GPU such as cuda:0. The CPU has no streams.", op));
  detail::require_device(op, device);
}

}  // namespace

Tensor pin_memory(const Tensor& x) {
  if (x.device() != cpu_device)
    throw DeviceError(
        fmt::format("[pin_memory] got {} on {}; expected a tensor on the CPU. Use to(x, cpu_device) first.",
                    describe(x), to_string(x.device())));
  if (engine::is_boxed(x))
    throw AutodiffError("[pin_memory] got a tensor that is being differentiated; expected data. Pin it outside.");
  return gpu_count() > 0 ? engine::pinned_copy(x) : x;
}

bool is_pinned(const Tensor& x) { return x.device() == cpu_device && engine::is_pinned(x); }

#if SOLVENT_WITH_CUDA

MemoryStats pinned_memory_stats() { return cuda::pinned_memory_stats(); }
void set_pinned_memory_limit(std::size_t bytes) { cuda::set_pinned_memory_limit(bytes); }
void empty_pinned_cache() noexcept { cuda::empty_pinned_cache(); }

namespace {
CUstream_st* raw_stream(void* handle) noexcept { return static_cast<CUstream_st*>(handle); }
}  // namespace

int gpu_count() noexcept { return cuda::device_count(); }

void synchronize(Device device) {
  detail::require_device("synchronize", device);
  if (device != cpu_device) cuda::synchronize(device);
}

Stream::Stream(Device device) : device_(device) {
  require_gpu("Stream", device);
  handle_ = cuda::make_stream(device);
}
Stream::~Stream() { cuda::destroy_stream(raw_stream(handle_), device_); }
void Stream::synchronize() const { cuda::synchronize(raw_stream(handle_)); }

StreamGuard::StreamGuard(const Stream& stream)
    : device_(stream.device()), before_(cuda::set_current_stream(device_, raw_stream(stream.handle()))) {}
StreamGuard::~StreamGuard() { cuda::set_current_stream(device_, raw_stream(before_)); }

Event::Event(Device device) : device_(device) {
  require_gpu("Event", device);
  handle_ = cuda::make_event(device);
}
Event::~Event() { cuda::destroy_event(handle_); }
void Event::record() { cuda::record_event(handle_, device_); }
void Event::wait() const { cuda::wait_event(handle_, device_); }
void Event::synchronize() const { cuda::synchronize_event(handle_); }
double Event::milliseconds_since(const Event& start) const {
  start.synchronize();
  synchronize();
  return cuda::milliseconds_between(start.handle_, handle_);
}

// --- graphs -----------------------------------------------------------------------------------------------------------------

struct Graph::State {
  State(Device d, Function f) : device(d), stream(d), function(std::move(f)) {}

  Device device;
  // Recorded. All memory of the graph belongs to it, so nobody else gets that memory while the graph lives.
  Stream stream;
  Function function;
  Tensors inputs;   // read by the recorded work
  Tensors outputs;  // written by it
  cuda::RecordedGraph recorded;
};

Graph::Graph(std::unique_ptr<State> state) : state_(std::move(state)) {}
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;
Graph::~Graph() = default;

Graph graph(Graph::Function function, const Tensors& example_inputs) {
  if (example_inputs.empty()) throw ValueError("[graph] got no inputs; expected at least one tensor on a GPU.");
  const Device device = example_inputs[0].device();
  require_gpu("graph", device);
  for (const Tensor& x : example_inputs) {
    if (x.device() != device)
      throw DeviceError(
          fmt::format("[graph] got inputs on {} and {}; expected one device. Move one with to(x, device).",
                      to_string(device), to_string(x.device())));
    if (engine::is_boxed(x))
      throw AutodiffError(
          "[graph] got an input that is being differentiated; expected plain tensors. Differentiate inside the "
          "function.");
  }
  if (cuda::is_recording(cuda::current_stream(device)))
    throw DeviceError(
        "[graph] got a call inside of a function that is being recorded; expected graphs side by side. "
        "Call the inner function itself.");
  auto state = std::make_unique<Graph::State>(device, std::move(function));
  cuda::synchronize(device);  // the inputs are ready for the graph's stream
  {
    const StreamGuard guard(state->stream);
    for (const Tensor& x : example_inputs) {
      Tensor copy = engine::empty(x.shape(), x.dtype(), device);
      engine::copy_into(x, copy);
      state->inputs.push_back(std::move(copy));
    }
    state->outputs = state->function(state->inputs);  // warm-up: allocates, makes handles of libraries
    state->outputs.clear();
    state->recorded = cuda::record_graph(device, [&] {
      state->outputs = state->function(state->inputs);
      for (Tensor& y : state->outputs) y = engine::contiguous(y);
    });
  }
  state->stream.synchronize();
  return Graph(std::move(state));
}

Tensors Graph::operator()(const Tensors& inputs) {
  State& s = *state_;
  if (inputs.size() != s.inputs.size())
    throw ValueError(fmt::format("[graph] got {} inputs; expected {}.", inputs.size(), s.inputs.size()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!(inputs[i].shape() == s.inputs[i].shape()))
      throw ShapeError(fmt::format("[graph] got {} for input {}; expected {}. Record another graph for other shapes.",
                                   describe(inputs[i]), i, describe(s.inputs[i])));
    if (inputs[i].dtype() != s.inputs[i].dtype())
      throw DtypeError(
          fmt::format("[graph] got {} for input {}; expected {}.", describe(inputs[i]), i, describe(s.inputs[i])));
    if (inputs[i].device() != s.device)
      throw DeviceError(fmt::format("[graph] got input {} on {}; expected {}.", i, to_string(inputs[i].device()),
                                    to_string(s.device)));
    if (engine::is_boxed(inputs[i]))
      throw AutodiffError("[graph] got an input that is being differentiated; expected plain tensors.");
  }
  Tensors results;
  for (const Tensor& y : s.outputs) results.push_back(engine::empty(y.shape(), y.dtype(), s.device));
  const cuda::RecordedGraph::Use use(s.recorded, s.device);
  cuda::copy_all(inputs, s.inputs, s.device);
  use.replay();
  cuda::copy_all(s.outputs, results, s.device);
  return results;
}

#else

MemoryStats pinned_memory_stats() { return {}; }
void set_pinned_memory_limit(std::size_t) {}
void empty_pinned_cache() noexcept {}

int gpu_count() noexcept { return 0; }
void synchronize(Device device) { detail::require_device("synchronize", device); }

Stream::Stream(Device device) : device_(device) { require_gpu("Stream", device); }
Stream::~Stream() = default;
void Stream::synchronize() const {}
StreamGuard::StreamGuard(const Stream& stream) : device_(stream.device()), before_(nullptr) {}
StreamGuard::~StreamGuard() = default;
Event::Event(Device device) : device_(device) { require_gpu("Event", device); }
Event::~Event() = default;
void Event::record() {}
void Event::wait() const {}
void Event::synchronize() const {}
double Event::milliseconds_since(const Event&) const { return 0; }

struct Graph::State {};
Graph::Graph(std::unique_ptr<State> state) : state_(std::move(state)) {}
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;
Graph::~Graph() = default;
Graph graph(Graph::Function, const Tensors& example_inputs) {
  require_gpu("graph", example_inputs.empty() ? cpu_device : example_inputs[0].device());
  return Graph(nullptr);  // not reached: there is no GPU in this build
}
Tensors Graph::operator()(const Tensors&) { return {}; }

#endif

}  // namespace solvent
