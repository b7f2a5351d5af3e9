// Updates of many parameters in one launch. Bound by memory: every element of a parameter and of its states is read and
// written once, its gradient read once, in packs of 16 bytes. Parameters are cut into chunks of fixed size and blocks take
// chunks in turn, so small and large parameters share a launch; each element's result depends on its own inputs only.
// Norms add the squares of each chunk in a block, then the chunks in one block: an order that depends on sizes only.

#include "solvent/nn/cuda/optim_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "solvent/core/cuda/elementwise.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"

namespace solvent::nn::cuda {
namespace {

using namespace solvent::cuda;

constexpr std::int64_t kChunk = 4096;

// --- tables -------------------------------------------------------------------------------------------------------------

// How many parameters fit into the 4 KiB of a kernel's arguments.
template <int kStates>
inline constexpr int kMaxParameters = kStates <= 1   ? 64
                                      : kStates == 2 ? 52
                                                     : 44;

template <class T, int kStates>
struct Table {
  static constexpr int kMost = kMaxParameters<kStates>;
  static constexpr int kPlaces = kStates == 0 ? 1 : kStates;
  T* parameter[kMost];
  const T* old_parameter[kMost];
  const T* grad[kMost];
  T* state[kPlaces][kMost];
  const T* old_state[kPlaces][kMost];
  std::int64_t count[kMost];
  std::int32_t first_chunk[kMost + 1];  // counted within the launch
  bool packed[kMost];                   // all pointers are multiples of 16 bytes
};
static_assert(sizeof(Table<double, 1>) <= 3900 && sizeof(Table<double, 2>) <= 3900 && sizeof(Table<double, 3>) <= 3900);

// The parameter that chunk `c` belongs to.
__device__ inline int find_parameter(const std::int32_t* first_chunk, std::int32_t c) {
  int k = 0;
  while (c >= first_chunk[k + 1]) ++k;
  return k;
}

// --- rules: the new value and states of one element, as in cpu/optim_kernels.cpp ----------------------------------------

template <class T, bool kMomentum>
struct SgdRule {
  static constexpr int kStates = kMomentum ? 1 : 0;
  T decay, rate, momentum, old_weight, new_weight;
  bool nesterov;

  explicit SgdRule(const cpu::SgdScalars& a)
      : decay(static_cast<T>(a.weight_decay)),
        rate(static_cast<T>(a.rate)),
        momentum(static_cast<T>(a.momentum)),
        old_weight(static_cast<T>(a.momentum_weight)),
        new_weight(static_cast<T>(a.gradient_weight)),
        nesterov(a.nesterov) {}

  __device__ void operator()(T& p, T g, T* s) const {
    T direction = std::fma(decay, p, g);
    if constexpr (kMomentum) {
      s[0] = std::fma(old_weight, s[0], new_weight * direction);
      direction = nesterov ? std::fma(momentum, s[0], direction) : s[0];
    }
    p = std::fma(-rate, direction, p);
  }
};

template <class T, bool kAmsgrad>
struct AdamRule {
  static constexpr int kStates = kAmsgrad ? 3 : 2;
  T decay, weight, new_m, old_v, new_v, step, inverse_root, eps;

  explicit AdamRule(const cpu::AdamScalars& a)
      : decay(static_cast<T>(a.coupled_decay)),
        weight(static_cast<T>(a.parameter_weight)),
        new_m(static_cast<T>(1 - a.beta1)),
        old_v(static_cast<T>(a.beta2)),
        new_v(static_cast<T>(1 - a.beta2)),
        step(static_cast<T>(a.step_size)),
        inverse_root(static_cast<T>(a.inverse_root)),
        eps(static_cast<T>(a.eps)) {}

  __device__ void operator()(T& p, T g, T* s) const {
    const T direction = std::fma(decay, p, g);
    s[0] = std::fma(new_m, direction - s[0], s[0]);
    s[1] = std::fma(old_v, s[1], new_v * (direction * direction));
    T second = s[1];
    if constexpr (kAmsgrad) second = s[2] = s[2] > s[1] ? s[2] : s[1];  // takes a NaN of v
    p = std::fma(-step, s[0] / std::fma(std::sqrt(second), inverse_root, eps), weight * p);
  }
};

template <class T>
struct AdamaxRule {
  static constexpr int kStates = 2;
  T decay, new_m, old_u, step, eps;

  explicit AdamaxRule(const cpu::AdamaxScalars& a)
      : decay(static_cast<T>(a.weight_decay)),
        new_m(static_cast<T>(1 - a.beta1)),
        old_u(static_cast<T>(a.beta2)),
        step(static_cast<T>(a.step_size)),
        eps(static_cast<T>(a.eps)) {}

  __device__ void operator()(T& p, T g, T* s) const {
    const T direction = std::fma(decay, p, g);
    s[0] = std::fma(new_m, direction - s[0], s[0]);
    const T faded = old_u * s[1];
    const T fresh = std::fabs(direction) + eps;
    s[1] = faded > fresh ? faded : fresh;  // takes a NaN of g
    p = std::fma(-step, s[0] / s[1], p);
  }
};

template <class T, class Rule>
__device__ void update_pack(const Rule& rule, const Table<T, Rule::kStates>& table, int k, std::int64_t at) {
  using P = Pack<T, kPackSize<T>>;
  constexpr int kStates = Rule::kStates;
  P p = *reinterpret_cast<const P*>(table.old_parameter[k] + at);
  const P g = *reinterpret_cast<const P*>(table.grad[k] + at);
  P s[kStates == 0 ? 1 : kStates];
  for (int j = 0; j < kStates; ++j) s[j] = *reinterpret_cast<const P*>(table.old_state[j][k] + at);
  for (int i = 0; i < kPackSize<T>; ++i) {
    T of_element[kStates == 0 ? 1 : kStates];
    for (int j = 0; j < kStates; ++j) of_element[j] = s[j].value[i];
    rule(p.value[i], g.value[i], of_element);
    for (int j = 0; j < kStates; ++j) s[j].value[i] = of_element[j];
  }
  *reinterpret_cast<P*>(table.parameter[k] + at) = p;
  for (int j = 0; j < kStates; ++j) *reinterpret_cast<P*>(table.state[j][k] + at) = s[j];
}

template <class T, class Rule>
__global__ void update_kernel(Rule rule, Table<T, Rule::kStates> table, std::int32_t chunks) {
  constexpr int kStates = Rule::kStates;
  for (std::int32_t c = static_cast<std::int32_t>(blockIdx.x); c < chunks; c += static_cast<std::int32_t>(gridDim.x)) {
    const int k = find_parameter(table.first_chunk, c);
    const std::int64_t begin = (c - table.first_chunk[k]) * kChunk;
    const std::int64_t end = begin + kChunk < table.count[k] ? begin + kChunk : table.count[k];
    std::int64_t rest = begin;
    if (table.packed[k]) {
      rest = begin + (end - begin) / kPackSize<T> * kPackSize<T>;
      for (std::int64_t i = begin + kPackSize<T> * threadIdx.x; i < rest; i += kPackSize<T> * blockDim.x)
        update_pack(rule, table, k, i);
    }
    for (std::int64_t i = rest + threadIdx.x; i < end; i += blockDim.x) {
      T s[kStates == 0 ? 1 : kStates];
      for (int j = 0; j < kStates; ++j) s[j] = table.old_state[j][k][i];
      T p = table.old_parameter[k][i];
      rule(p, table.grad[k][i], s);
      table.parameter[k][i] = p;
      for (int j = 0; j < kStates; ++j) table.state[j][k][i] = s[j];
    }
  }
}

template <class T, int kStates>
void enter(Table<T, kStates>& table, int k, const detail::DeviceUpdate& item) {
  const auto old = [](const void* elsewhere, const void* here) { return elsewhere != nullptr ? elsewhere : here; };
  const void* const parameter = old(item.old_parameter, item.parameter);
  table.parameter[k] = static_cast<T*>(item.parameter);
  table.old_parameter[k] = static_cast<const T*>(parameter);
  table.grad[k] = static_cast<const T*>(item.grad);
  table.packed[k] = is_aligned(item.parameter) && is_aligned(parameter) && is_aligned(item.grad);
  for (int j = 0; j < kStates; ++j) {
    const void* const state = old(item.old_state[j], item.state[j]);
    table.state[j][k] = static_cast<T*>(item.state[j]);
    table.old_state[j][k] = static_cast<const T*>(state);
    table.packed[k] = table.packed[k] && is_aligned(item.state[j]) && is_aligned(state);
  }
  table.count[k] = item.count;
}

template <class T, class Rule>
void run(const char* name, const detail::DeviceUpdates& updates, const Rule& rule) {
  constexpr int kStates = Rule::kStates;
  constexpr std::int64_t kMostChunks = std::int64_t{1} << 30;
  std::size_t next = 0;
  while (next < updates.items.size()) {
    Table<T, kStates> table{};
    int k = 0;
    std::int64_t chunks = 0;
    for (; next < updates.items.size() && k < table.kMost; ++next, ++k) {
      const detail::DeviceUpdate& item = updates.items[next];
      const std::int64_t own = (item.count + kChunk - 1) / kChunk;
      if (k > 0 && chunks + own > kMostChunks) break;
      enter(table, k, item);
      chunks += own;
      table.first_chunk[k + 1] = static_cast<std::int32_t>(chunks);
    }
    if (chunks == 0) continue;
    Launch where = over_elements(name, chunks * kThreads, updates.device);
    launch(where, update_kernel<T, Rule>, rule, table, static_cast<std::int32_t>(chunks));
  }
}

// --- norms --------------------------------------------------------------------------------------------------------------

constexpr std::int64_t kNormChunk = 16384;

// x starts at a multiple of 16 bytes unless kPack is 1, and n is a multiple of kPack.
template <class T, int kPack>
__global__ void squares_kernel(const T* x, std::int64_t n, std::int64_t chunks, double* partial) {
  constexpr int kAhead = 4;  // packs in flight
  for (std::int64_t c = blockIdx.x; c < chunks; c += gridDim.x) {
    const std::int64_t end = (c + 1) * kNormChunk < n ? (c + 1) * kNormChunk : n;
    const std::int64_t step = std::int64_t{blockDim.x} * kPack;
    double sum = 0;
    SOLVENT_ROLLED
    for (std::int64_t i = c * kNormChunk + threadIdx.x * kPack; i < end; i += kAhead * step) {
      Pack<T, kPack> pack[kAhead];
      for (int a = 0; a < kAhead; ++a)
        if (i + a * step < end) pack[a] = *reinterpret_cast<const Pack<T, kPack>*>(x + i + a * step);
      for (int a = 0; a < kAhead; ++a) {
        if (i + a * step >= end) continue;
        for (int j = 0; j < kPack; ++j) {
          const double v = static_cast<double>(pack[a].value[j]);
          sum = std::fma(v, v, sum);
        }
      }
    }
    sum = block_fold(sum, 0.0, Plus{});
    if (threadIdx.x == 0) partial[c] = sum;
  }
}

__global__ void fold_kernel(const double* partial, std::int64_t n, double* result) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += partial[i];
  sum = block_fold(sum, 0.0, Plus{});
  if (threadIdx.x == 0) *result = sum;
}

template <class T>
struct Average {
  T weight;
  __device__ T operator()(const T (&x)[2]) const { return std::fma(weight, x[1] - x[0], x[0]); }
};

}  // namespace

void sgd_update(const detail::DeviceUpdates& updates, const cpu::SgdScalars& scalars) {
  dispatch_float(updates.dtype, "Sgd", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!updates.items.empty() && updates.items[0].state[0] != nullptr) {
      run<T>("Sgd", updates, SgdRule<T, true>(scalars));
    } else {
      run<T>("Sgd", updates, SgdRule<T, false>(scalars));
    }
  });
}

void adam_update(const detail::DeviceUpdates& updates, const cpu::AdamScalars& scalars) {
  dispatch_float(updates.dtype, "Adam", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (!updates.items.empty() && updates.items[0].state[2] != nullptr) {
      run<T>("Adam", updates, AdamRule<T, true>(scalars));
    } else {
      run<T>("Adam", updates, AdamRule<T, false>(scalars));
    }
  });
}

void adamax_update(const detail::DeviceUpdates& updates, const cpu::AdamaxScalars& scalars) {
  dispatch_float(updates.dtype, "Adamax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    run<T>("Adamax", updates, AdamaxRule<T>(scalars));
  });
}

Tensor average_update(Tensor average, Tensor x, double weight) {
  return dispatch_float(average.dtype(), "Ema", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    return elementwise<T, T>("Ema", Average<T>{static_cast<T>(weight)}, {&average, &x});
  });
}

double sum_of_squares(const Tensors& tensors) {
  std::int64_t chunks = 0;
  for (const Tensor& t : tensors) chunks += (t.numel() + kNormChunk - 1) / kNormChunk;
  if (chunks == 0) return 0;
  const Device device = tensors[0].device();
  Tensor partial = engine::empty({chunks + 1}, DType::float64, device);
  double* const parts = engine::mutable_ptr<double>(partial);
  std::int64_t first = 1;
  for (const Tensor& t : tensors) {
    const std::int64_t n = t.numel();
    const std::int64_t own = (n + kNormChunk - 1) / kNormChunk;
    if (own == 0) continue;
    dispatch_float(t.dtype(), "global_norm", [&](auto tag) {
      using T = typename decltype(tag)::type;
      constexpr int kPack = kPackSize<T>;
      const T* const x = engine::ptr<T>(t);
      const Launch where = over_blocks("global_norm", own, device);
      if (is_aligned(x) && n % kPack == 0) return launch(where, squares_kernel<T, kPack>, x, n, own, parts + first);
      launch(where, squares_kernel<T, 1>, x, n, own, parts + first);
    });
    first += own;
  }
  launch(over_blocks("global_norm", 1, device, 1024), fold_kernel, parts + 1, chunks, parts);
  double sum = 0;
  copy_to_host(&sum, parts, sizeof(sum), device);
  return sum;
}

}  // namespace solvent::nn::cuda
