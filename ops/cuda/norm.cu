// Batch normalisation on (samples, channels, size) arrays, the tensors' side of layer normalisation with weight and bias, and
// dropout. Bound by memory throughout: statistics read their operands once (core/cuda/reduce.h: channels lie side by side for
// size 1, otherwise runs of `size` elements are added), results are one pass more with 16-byte accesses; the constants of a
// channel come from the caches. Deterministic: sums in double, in an order that depends on sizes only.
//
// Variances are formed from sums of x - s and (x - s)^2 in double, where s is the channel's first element: the cancellation in
// their difference loses (mean - s)^2 / var, of the order of 1 unless s is an outlier, and then at most the count of elements,
// times the accuracy of double.

#include "solvent/ops/cuda/norm.h"

#include <cmath>
#include <cstdint>

#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/elementwise.h"
#include "solvent/core/cuda/reduce.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/rng.h"
#include "solvent/ops/cpu/norm.h"
#include "solvent/ops/cpu/norm_operands.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/cuda/row_kernels.h"

namespace solvent::cuda {
namespace {

using cpu::channels_of;
using cpu::ChannelShape;
using cpu::NormGrads;
using cpu::Shared;

// 1 / sqrt(var + eps), rounded once.
template <class T>
__device__ T reciprocal_deviation(T var, double eps) {
  return static_cast<T>(1.0 / std::sqrt(static_cast<double>(var) + eps));
}

// --- sums over the elements of each channel -------------------------------------------------------------------------------------

template <class Reducer>
void reduce_channels(Device device, const ChannelShape& s, const Reducer& f,
                     const typename Reducer::Input* const (&x)[Reducer::kInputs]) {
  const Strides along_channels{s.size};
  const Strides along_elements{s.channels * s.size, 1};
  const Strides* const kept[] = {&along_channels};
  const Strides* const reduced[] = {&along_elements};
  reduce("batch_norm", device, f, x, StridedIndex<1>(Shape{s.channels}, kept),
         StridedIndex<1>(Shape{s.samples, s.size}, reduced), s.channels, s.samples * s.size);
}

struct TwoSums {
  double first;
  double second;
};

__device__ inline TwoSums added(const TwoSums& a, const TwoSums& b) { return {a.first + b.first, a.second + b.second}; }

template <class T>
struct ChannelMoments {
  using Input = T;
  using State = TwoSums;  // of x - s and its square
  struct Local {
    double shift;
  };
  static constexpr int kInputs = 1;
  const T* x;
  std::int64_t size;
  double count;
  T* mean;
  T* var;
  __device__ State neutral() const { return {0.0, 0.0}; }
  __device__ Local local(std::int64_t channel) const {
    const T first = x[channel * size];
    return {first - first == T{0} ? static_cast<double>(first) : 0.0};  // the mean of infinities is one
  }
  __device__ void add(State& s, const T (&v)[1], std::int64_t, const Local& l) const {
    const double d = static_cast<double>(v[0]) - l.shift;
    s.first += d;
    s.second += d * d;
  }
  __device__ State merge(const State& a, const State& b) const { return added(a, b); }
  __device__ void store(std::int64_t channel, const State& s) const {
    const double d = s.first / count;
    const double v = s.second / count - d * d;
    mean[channel] = static_cast<T>(local(channel).shift + d);
    var[channel] = static_cast<T>(v < 0.0 ? 0.0 : v);
  }
};

// gx = a (g - b - (x - mean) c) for each channel; gradients of weight and bias.
template <class T>
struct BackwardConstants {
  T* a;
  T* b;
  T* c;
  T* g_weight;
  T* g_bias;
};

// Of g, x: sums of g and g (x - mean), and from them the constants of the backward pass.
template <class T>
struct ChannelSums {
  using Input = T;
  using State = TwoSums;
  struct Local {
    T mean;
  };
  static constexpr int kInputs = 2;
  const T* mean;
  const T* var;
  const T* weight;
  double eps;
  T inverse_count;
  BackwardConstants<T> out;
  __device__ State neutral() const { return {0.0, 0.0}; }
  __device__ Local local(std::int64_t channel) const { return {mean[channel]}; }
  __device__ void add(State& s, const T (&v)[2], std::int64_t, const Local& l) const {
    s.first += static_cast<double>(v[0]);
    s.second += static_cast<double>(v[0]) * static_cast<double>(v[1] - l.mean);
  }
  __device__ State merge(const State& a, const State& b) const { return added(a, b); }
  __device__ void store(std::int64_t channel, const State& s) const {
    const T rstd = reciprocal_deviation(var[channel], eps);
    const T sum_g = static_cast<T>(s.first);
    const T sum_gx = static_cast<T>(s.second);
    out.a[channel] = weight[channel] * rstd;
    out.b[channel] = sum_g * inverse_count;
    out.c[channel] = rstd * rstd * sum_gx * inverse_count;
    out.g_weight[channel] = sum_gx * rstd;
    out.g_bias[channel] = sum_g;
  }
};

// --- functions of elements and constants of their channel -----------------------------------------------------------------------

// Channel of element i.
struct ChannelIndex {
  std::int64_t size;
  std::int64_t channels;
  bool small;  // fewer than 2^31 elements
  Divider by_size;
  Divider by_channels;

  explicit ChannelIndex(const ChannelShape& s)
      : size(s.size), channels(s.channels), small(s.samples * s.channels * s.size < (std::int64_t{1} << 31)) {
    if (!small) return;
    by_size = Divider(static_cast<std::uint32_t>(size));
    by_channels = Divider(static_cast<std::uint32_t>(channels));
  }
  __device__ std::int64_t of(std::int64_t i) const {
    if (!small) return i / size % channels;
    const std::uint32_t plane = by_size.divide(static_cast<std::uint32_t>(i));
    return plane - by_channels.divide(plane) * by_channels.divisor;
  }
};

// (x - mean) scale + shift
template <class T>
struct ChannelAffine {
  static constexpr int kInputs = 1;
  struct Constants {
    T mean, scale, shift;
  };
  const T* mean;
  const T* scale;
  const T* shift;
  __device__ Constants of(std::int64_t c) const { return {mean[c], scale[c], shift[c]}; }
  __device__ T operator()(const Constants& k, const T (&x)[1]) const {
    return std::fma(x[0] - k.mean, k.scale, k.shift);
  }
};

// a (g - b - (x - mean) c)
template <class T>
struct ChannelBackward {
  static constexpr int kInputs = 2;
  struct Constants {
    T mean, a, b, c;
  };
  const T* mean;
  const T* a;
  const T* b;
  const T* c;
  __device__ Constants of(std::int64_t i) const { return {mean[i], a[i], b[i], c[i]}; }
  __device__ T operator()(const Constants& k, const T (&x)[2]) const {
    return k.a * (x[0] - k.b - (x[1] - k.mean) * k.c);
  }
};

// kUniform: the elements of a pack have one channel.
template <class T, class F, int kPack, bool kUniform>
__global__ void channel_kernel(F f, ChannelIndex index, DenseOperands<T, F::kInputs> x, T* y, std::int64_t n) {
  constexpr int kInputs = F::kInputs;
  for (std::int64_t p = global_thread(); p < n / kPack; p += grid_threads()) {
    Pack<T, kPack> in[kInputs];
    for (int k = 0; k < kInputs; ++k) in[k] = reinterpret_cast<const Pack<T, kPack>*>(x.data[k])[p];
    typename F::Constants constants = f.of(index.of(p * kPack));
    Pack<T, kPack> out;
    for (int j = 0; j < kPack; ++j) {
      if (!kUniform && j > 0) constants = f.of(index.of(p * kPack + j));
      T element[kInputs];
      for (int k = 0; k < kInputs; ++k) element[k] = in[k].value[j];
      out.value[j] = f(constants, element);
    }
    reinterpret_cast<Pack<T, kPack>*>(y)[p] = out;
  }
}

template <class T, class F>
void map_channels(Device device, const ChannelShape& s, const F& f, const T* const (&x)[F::kInputs], T* y) {
  constexpr int kPack = kPackSize<T>;
  const std::int64_t n = s.samples * s.channels * s.size;
  const ChannelIndex index(s);
  DenseOperands<T, F::kInputs> operands{};
  bool packed = n % kPack == 0 && is_aligned(y);
  for (int k = 0; k < F::kInputs; ++k) {
    operands.data[k] = x[k];
    packed = packed && is_aligned(x[k]);
  }
  const Launch where = over_elements("batch_norm", n, device, packed ? kPack : 1);
  if (!packed) {
    launch(where, channel_kernel<T, F, 1, true>, f, index, operands, y, n);
  } else if (s.size % kPack == 0) {
    launch(where, channel_kernel<T, F, kPack, true>, f, index, operands, y, n);
  } else {
    launch(where, channel_kernel<T, F, kPack, false>, f, index, operands, y, n);
  }
}

// weight / sqrt(var + eps)
template <class T>
struct ScaleOf {
  double eps;
  __device__ T operator()(const T (&x)[2]) const { return x[0] * reciprocal_deviation(x[1], eps); }
};

// --- dropout --------------------------------------------------------------------------------------------------------------------

template <class T>
struct DropoutCall {
  std::uint64_t seed;
  std::uint64_t stream;
  std::uint32_t limit;  // dropped below it
  T factor;
  std::int64_t inner;
  std::int64_t period;
  const T* x;
  T* y;
  std::int64_t n;
};

// One decision per element: a thread makes the four words of a counter and masks the elements they belong to.
template <class T, int kPack>
__global__ void dropout_kernel(DropoutCall<T> call) {
  const std::int64_t per_period = (call.period + 3) / 4;
  const std::int64_t items = call.n / call.period * per_period;
  for (std::int64_t item = global_thread(); item < items; item += grid_threads()) {
    const std::int64_t lead = call.n == call.period ? 0 : item / per_period;
    const std::int64_t block = item - lead * per_period;
    const philox::Words words = philox::words(call.seed, call.stream, static_cast<std::uint64_t>(block));
    const std::int64_t first = lead * call.period + 4 * block;
    const std::int64_t end = (lead + 1) * call.period;
    for (int j = 0; j < 4; j += kPack) {
      if (first + j >= end) continue;
      auto pack = *reinterpret_cast<const Pack<T, kPack>*>(call.x + first + j);
      for (int i = 0; i < kPack; ++i)
        pack.value[i] = words.word[j + i] < call.limit ? T{0} : pack.value[i] * call.factor;
      *reinterpret_cast<Pack<T, kPack>*>(call.y + first + j) = pack;
    }
  }
}

// One decision for `inner` elements, a multiple of kPack.
template <class T, int kPack>
__global__ void dropout_groups_kernel(DropoutCall<T> call) {
  for (std::int64_t p = global_thread(); p < call.n / kPack; p += grid_threads()) {
    const std::int64_t decision = p * kPack / call.inner % call.period;
    const philox::Words words = philox::words(call.seed, call.stream, static_cast<std::uint64_t>(decision / 4));
    const std::int64_t lane = decision % 4;
    // Not indexed by a variable: the words stay in registers.
    const std::uint32_t word = lane == 0   ? words.word[0]
                               : lane == 1 ? words.word[1]
                               : lane == 2 ? words.word[2]
                                           : words.word[3];
    auto pack = reinterpret_cast<const Pack<T, kPack>*>(call.x)[p];
    for (int i = 0; i < kPack; ++i) pack.value[i] = word < call.limit ? T{0} : pack.value[i] * call.factor;
    reinterpret_cast<Pack<T, kPack>*>(call.y)[p] = pack;
  }
}

template <class T>
void dropout(const DropoutCall<T>& call, Device device) {
  constexpr int kPack = kPackSize<T>;
  const bool aligned = is_aligned(call.x) && is_aligned(call.y);
  if (call.inner > 1) {
    const bool packed = aligned && call.inner % kPack == 0;
    const Launch where = over_elements("dropout", call.n, device, packed ? kPack : 1);
    if (packed) return launch(where, dropout_groups_kernel<T, kPack>, call);
    return launch(where, dropout_groups_kernel<T, 1>, call);
  }
  const Launch where = over_elements("dropout", call.n / call.period * ((call.period + 3) / 4), device);
  if (aligned && call.period % 4 == 0) return launch(where, dropout_kernel<T, kPack>, call);
  launch(where, dropout_kernel<T, 1>, call);
}

}  // namespace

TensorVec batch_moments(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "batch_norm", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Tensor x = engine::contiguous(inputs[0]);
    const ChannelShape s = channels_of(x.shape());
    Tensor mean = engine::empty(Shape{1, s.channels, 1}, dtype_of<T>, x.device());
    Tensor var = engine::empty(Shape{1, s.channels, 1}, dtype_of<T>, x.device());
    if (s.channels == 0) return {std::move(mean), std::move(var)};
    const T* const src = engine::ptr<T>(x);
    const ChannelMoments<T> f{src, s.size, static_cast<double>(s.samples * s.size), engine::mutable_ptr<T>(mean),
                              engine::mutable_ptr<T>(var)};
    reduce_channels(x.device(), s, f, {src});
    return {std::move(mean), std::move(var)};
  });
}

TensorVec batch_normalise(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "batch_norm", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const ChannelShape s = channels_of(inputs[0].shape());
    const Tensor scale = elementwise<T, T>("batch_norm", ScaleOf<T>{eps}, {&inputs[1], &inputs[4]});
    const T* const src = engine::ptr<T>(inputs[0]);
    const Device device = inputs[0].device();
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    const ChannelAffine<T> f{engine::ptr<T>(inputs[3]), engine::ptr<T>(scale), engine::ptr<T>(inputs[2])};
    if (y.numel() > 0) map_channels<T>(device, s, f, {src}, engine::mutable_ptr<T>(y));
    return y;
  });
}

TensorVec channel_affine_map(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "batch_norm_eval", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const ChannelShape s = channels_of(inputs[0].shape());
    const T* const src = engine::ptr<T>(inputs[0]);
    const Device device = inputs[0].device();
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    const ChannelAffine<T> f{engine::ptr<T>(inputs[1]), engine::ptr<T>(inputs[2]), engine::ptr<T>(inputs[3])};
    if (y.numel() > 0) map_channels<T>(device, s, f, {src}, engine::mutable_ptr<T>(y));
    return y;
  });
}

TensorVec batch_normalise_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "batch_norm_grad", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    const ChannelShape s = channels_of(shape);
    const Device device = inputs[0].device();
    NormGrads grads(inputs[0], {-3, -1});
    if (grads.is_empty()) return grads.take();
    const std::int64_t each = s.samples * s.channels * s.size;
    const Shared<T> g(inputs[0], each), x(inputs[1], each);
    const Shared<T> weight(inputs[2], s.channels), mean(inputs[3], s.channels), var(inputs[4], s.channels);
    Tensor constants = engine::empty(Shape{3, s.channels}, dtype_of<T>, device);
    T* const a = engine::mutable_ptr<T>(constants);
    for (std::int64_t lead = 0; lead < shape.product() / each; ++lead) {
      const BackwardConstants<T> out{a, a + s.channels, a + 2 * s.channels,
                                     engine::mutable_ptr<T>(grads.weight) + lead * s.channels,
                                     engine::mutable_ptr<T>(grads.bias) + lead * s.channels};
      const ChannelSums<T> sums{
          mean.data(lead), var.data(lead), weight.data(lead), eps, T{1} / static_cast<T>(s.samples * s.size), out};
      reduce_channels(device, s, sums, {g.data(lead), x.data(lead)});
      map_channels<T>(device, s, ChannelBackward<T>{mean.data(lead), out.a, out.b, out.c}, {g.data(lead), x.data(lead)},
                      engine::mutable_ptr<T>(grads.x) + lead * each);
    }
    return grads.take();
  });
}

TensorVec layer_norm_affine_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "layer_norm", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const Shape shape = inputs[0].shape();
    const Rows rows{inputs[0].device(), shape[0], shape[1]};
    const T* const x = engine::ptr<T>(inputs[0]);
    Tensor y = engine::take_or_empty(inputs[0], shape, dtype_of<T>);
    if (y.numel() > 0)
      layer_norm(rows, x, engine::ptr<T>(inputs[1]), engine::ptr<T>(inputs[2]), eps, engine::mutable_ptr<T>(y));
    return y;
  });
}

TensorVec layer_norm_affine_rows_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "layer_norm_grad", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    const std::int64_t count = shape.at(-2) * shape.at(-1);
    const std::int64_t columns = shape.at(-1);
    const Device device = inputs[0].device();
    NormGrads grads(inputs[0], {-2});
    if (grads.is_empty()) return grads.take();
    const Rows rows{device, shape.at(-2), columns};
    Tensor statistics = engine::empty(Shape{2, rows.rows}, dtype_of<T>, device);
    T* const stats = engine::mutable_ptr<T>(statistics);
    const Shared<T> g(inputs[0], count, 2), x(inputs[1], count, 2), weight(inputs[2], columns, 2);
    for (std::int64_t lead = 0; lead < shape.product() / count; ++lead) {
      layer_norm_backward(rows, g.data(lead), x.data(lead), weight.data(lead), eps,
                          engine::mutable_ptr<T>(grads.x) + lead * count, stats);
      layer_norm_parameter_sums(rows, g.data(lead), x.data(lead), static_cast<const T*>(stats),
                                engine::mutable_ptr<T>(grads.weight) + lead * columns,
                                engine::mutable_ptr<T>(grads.bias) + lead * columns);
    }
    return grads.take();
  });
}

TensorVec dropout_mask(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const DropoutAttrs*>(attrs);
  return dispatch_float(inputs[0].dtype(), "dropout", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    inputs[0] = engine::contiguous(inputs[0]);
    const T* const src = engine::ptr<T>(inputs[0]);
    const std::int64_t n = inputs[0].numel();
    const Device device = inputs[0].device();
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    const auto threshold = static_cast<std::uint64_t>(std::ceil(a.p * 0x1p32));
    if (n == 0) return y;
    if (threshold >> 32 != 0) {  // p = 1
      fill(y, 0.0);
      return y;
    }
    dropout(DropoutCall<T>{a.key.seed, a.key.stream, static_cast<std::uint32_t>(threshold),
                           static_cast<T>(1.0 / (1.0 - a.p)), a.inner, a.period, src, engine::mutable_ptr<T>(y), n},
            device);
    return y;
  });
}

}  // namespace solvent::cuda
