#pragma once
/// Reductions over any set of axes of a strided array. For `.cu` files only.
///
/// A Reducer says what is folded:
///
///     template <class T>
///     struct SumOf {
///       using Input = T;                     // element type of the inputs, which are all read at the same offsets
///       using State = double;                // trivially copyable, a multiple of 4 bytes
///       struct Local {};                     // what add() needs to know of its result; formed once per result
///       static constexpr int kInputs = 1;
///       T* y;
///       __device__ State neutral() const { return 0.0; }
///       __device__ Local local(std::int64_t result) const { return {}; }
///       __device__ void add(State& s, const T (&x)[1], std::int64_t k, const Local&) const { s += x[0]; }  // addend k
///       __device__ State merge(const State& a, const State& b) const { return a + b; }  // associative
///       __device__ void store(std::int64_t result, const State& s) const { y[result] = static_cast<T>(s); }
///     };
///     cuda::reduce("sum", device, SumOf<float>{y}, {x}, kept, reduced, results, addends);
///
/// Bound by memory: one read of the inputs. Layouts of work, chosen by sizes and strides alone:
/// - rows (addends lie side by side): 1, 8 or 32 lanes or a block of 256 threads per result, 16-byte reads where all offsets
///   allow it, four of them in flight per thread;
/// - columns (results lie side by side): 2^k lanes along the results, the rest of the block's threads along the addends, folded
///   in shared memory.
/// Where the results alone would not fill the machine, addends are cut into chunks whose states a second launch merges. The
/// numbers of chunks do not depend on the device, so sums have the same bits everywhere.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"

namespace solvent::cuda {

// --- folds of any state within warps and blocks ---------------------------------------------------------------------------------

/// `value` of the lane whose number differs by the bits of `mask`; any trivially copyable type of whole 4-byte words.
template <class T>
__device__ T shuffle_xor(const T& value, int mask) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);
  constexpr int kWords = static_cast<int>(sizeof(T) / 4);
  unsigned word[kWords];
  memcpy(word, &value, sizeof(T));
  for (int i = 0; i < kWords; ++i) word[i] = __shfl_xor_sync(kAllLanes, word[i], mask);
  T other = value;
  memcpy(&other, word, sizeof(T));
  return other;
}

/// Folds over groups of kLanes neighbouring lanes (a power of two), the result in every one of them. Op: `T operator()(const
/// T&, const T&)`. All 32 lanes must call it.
template <int kLanes, class T, class Op>
__device__ T lanes_fold(T value, const Op& op) {
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  return value;
}

/// The same over a block of whole warps, the result in every thread. Lanes beyond the warps' number fold `neutral`.
template <class T, class Op>
__device__ T whole_block_fold(T value, const T& neutral, const Op& op) {
  constexpr int kWords = static_cast<int>((sizeof(T) + 7) / 8);
  __shared__ double of_warp[32 * kWords];  // memory only: T may have member initialisers
  const unsigned lane = threadIdx.x % 32;
  value = lanes_fold<32>(value, op);
  const unsigned warps = blockDim.x / 32;
  if (warps == 1) return value;
  __syncthreads();  // the array may still be read from the last call
  if (lane == 0) memcpy(of_warp + threadIdx.x / 32 * kWords, &value, sizeof(T));
  __syncthreads();
  value = neutral;
  if (lane < warps) memcpy(&value, of_warp + lane * kWords, sizeof(T));
  return lanes_fold<32>(value, op);
}

// --- kernels --------------------------------------------------------------------------------------------------------------------

/// Positions of a reduction.
template <class Reducer>
struct ReduceCall {
  Reducer reducer;
  const typename Reducer::Input* x[Reducer::kInputs];
  StridedIndex<1> kept;     // offset of a result's first addend
  StridedIndex<1> reduced;  // offset of an addend from there
  std::int64_t results;
  std::int64_t addends;
  std::int64_t chunk;   // addends per chunk
  std::int64_t chunks;  // per result
  // Of each result and chunk where there are several; otherwise the reducer stores the result.
  typename Reducer::State* partial;
};

/// Reducer::merge as a function object.
template <class Reducer>
struct MergeStates {
  const Reducer& reducer;
  __device__ typename Reducer::State operator()(const typename Reducer::State& a,
                                                const typename Reducer::State& b) const {
    return reducer.merge(a, b);
  }
};

/// Packs that a thread has in flight.
inline constexpr int kPacksAhead = 4;

/// Folds addends first, first + step, ... below `end`. Where the packs lie along the addends, each one is kPack addends of the
/// same result; otherwise one addend of kPack results.
template <int kPack, bool kAlongAddends, class Reducer>
__device__ void fold_addends(const ReduceCall<Reducer>& call, std::int64_t start, std::int64_t first, std::int64_t end,
                             std::int64_t step, const typename Reducer::Local (&local)[kAlongAddends ? 1 : kPack],
                             typename Reducer::State (&state)[kAlongAddends ? 1 : kPack]) {
  constexpr int kInputs = Reducer::kInputs;
  using Input = typename Reducer::Input;
  Pack<Input, kPack> pack[kPacksAhead][kInputs];
  SOLVENT_ROLLED
  for (std::int64_t k = first; k < end; k += kPacksAhead * step) {
    for (int a = 0; a < kPacksAhead; ++a) {
      if (k + a * step >= end) continue;
      std::int64_t offset[1];
      call.reduced.locate(k + a * step, offset);
      for (int i = 0; i < kInputs; ++i)
        pack[a][i] = *reinterpret_cast<const Pack<Input, kPack>*>(call.x[i] + start + offset[0]);
    }
    for (int a = 0; a < kPacksAhead; ++a) {
      if (k + a * step >= end) continue;
      for (int j = 0; j < kPack; ++j) {
        Input x[kInputs];
        for (int i = 0; i < kInputs; ++i) x[i] = pack[a][i].value[j];
        if constexpr (kAlongAddends) {
          call.reducer.add(state[0], x, k + a * step + j, local[0]);
        } else {
          call.reducer.add(state[j], x, k + a * step, local[j]);
        }
      }
    }
  }
}

/// kThreadsEach threads per result and chunk: 1, 8, 32, or 0 for the whole block.
template <int kThreadsEach, int kPack, class Reducer>
__global__ void reduce_rows_kernel(ReduceCall<Reducer> call) {
  const std::int64_t each = kThreadsEach == 0 ? blockDim.x : kThreadsEach;
  const std::int64_t items = call.results * call.chunks;
  const std::int64_t per_block = blockDim.x / each;
  const std::int64_t rank = threadIdx.x % each;
  // Whole warps stay in the loop together: folds need all lanes.
  SOLVENT_ROLLED
  for (std::int64_t base = blockIdx.x * per_block; base < items; base += gridDim.x * per_block) {
    const std::int64_t item = base + threadIdx.x / each;
    const std::int64_t result = call.chunks == 1 ? item : item / call.chunks;
    const std::int64_t begin = (item - result * call.chunks) * call.chunk;
    typename Reducer::State state[1] = {call.reducer.neutral()};
    if (item < items) {
      std::int64_t start[1];
      call.kept.locate(result, start);
      const std::int64_t end = begin + call.chunk < call.addends ? begin + call.chunk : call.addends;
      const typename Reducer::Local local[1] = {call.reducer.local(result)};
      fold_addends<kPack, true>(call, start[0], begin + rank * kPack, end, each * kPack, local, state);
    }
    const MergeStates<Reducer> merge{call.reducer};
    if constexpr (kThreadsEach == 0) {
      state[0] = whole_block_fold(state[0], call.reducer.neutral(), merge);
    } else {
      state[0] = lanes_fold<kThreadsEach>(state[0], merge);
    }
    if (rank != 0 || item >= items) continue;
    if (call.partial != nullptr) {
      call.partial[item] = state[0];
    } else {
      call.reducer.store(result, state[0]);
    }
  }
}

/// `width` lanes (a power of two) with kPack results each, blockDim.x / width of them along the addends of a chunk.
template <int kPack, class Reducer>
__global__ void reduce_columns_kernel(ReduceCall<Reducer> call, int width) {
  using State = typename Reducer::State;
  State* const shared = dynamic_shared<State>();  // [depth][width * kPack]
  const int depth = static_cast<int>(blockDim.x) / width;
  const int across = static_cast<int>(threadIdx.x) % width;
  const int down = static_cast<int>(threadIdx.x) / width;
  const std::int64_t groups = (call.results + width * kPack - 1) / (width * kPack);
  SOLVENT_ROLLED
  for (std::int64_t item = blockIdx.x; item < groups * call.chunks; item += gridDim.x) {
    const std::int64_t chunk = item / groups;
    const std::int64_t result = (item - chunk * groups) * width * kPack + across * kPack;
    const bool has_work = result < call.results;
    State state[kPack];
    for (int j = 0; j < kPack; ++j) state[j] = call.reducer.neutral();
    if (has_work) {
      typename Reducer::Local local[kPack];
      for (int j = 0; j < kPack; ++j) local[j] = call.reducer.local(result + j);
      std::int64_t start[1];
      call.kept.locate(result, start);
      const std::int64_t begin = chunk * call.chunk;
      const std::int64_t end = begin + call.chunk < call.addends ? begin + call.chunk : call.addends;
      fold_addends<kPack, false>(call, start[0], begin + down, end, depth, local, state);
    }
    for (int half = depth / 2; half > 0; half /= 2) {
      if (down >= half && down < 2 * half)
        for (int j = 0; j < kPack; ++j) shared[(down * width + across) * kPack + j] = state[j];
      __syncthreads();
      if (down < half)
        for (int j = 0; j < kPack; ++j)
          state[j] = call.reducer.merge(state[j], shared[((down + half) * width + across) * kPack + j]);
      __syncthreads();
    }
    if (down != 0 || !has_work) continue;
    for (int j = 0; j < kPack; ++j) {
      if (call.partial != nullptr) {
        call.partial[chunk * call.results + result + j] = state[j];
      } else {
        call.reducer.store(result + j, state[j]);
      }
    }
  }
}

// --- choice of layout -----------------------------------------------------------------------------------------------------------

/// The states of chunks as addends.
template <class Reducer>
struct OfPartials {
  using Input = typename Reducer::State;
  using State = typename Reducer::State;
  struct Local {};
  static constexpr int kInputs = 1;
  Reducer reducer;
  __device__ State neutral() const { return reducer.neutral(); }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const Input (&x)[1], std::int64_t, const Local&) const { s = reducer.merge(s, x[0]); }
  __device__ State merge(const State& a, const State& b) const { return reducer.merge(a, b); }
  __device__ void store(std::int64_t result, const State& s) const { reducer.store(result, s); }
};

template <class Reducer>
inline constexpr bool is_of_partials = false;
template <class Reducer>
inline constexpr bool is_of_partials<OfPartials<Reducer>> = true;

/// Chunks are made until there are that many blocks: several times what fits on any GPU of today at once (an H200 holds 400 to
/// 1000 of them), so that the last ones, which share it with fewer, are a small part. A constant, so that the order of sums
/// does not depend on the device.
inline constexpr std::int64_t kBlocksWanted = 4096;

/// True if packs of n elements start at multiples of n elements for every index of these axes, and along the last axis n
/// neighbours make a pack if `is_dense`.
inline bool allows_packs(const StridedIndex<1>& index, int n, bool is_dense) {
  for (int axis = 0; axis < index.rank; ++axis) {
    const bool last = is_dense && axis == index.rank - 1;
    if (last ? index.stride[0][axis] != 1 || index.extent[axis] % n != 0 : index.stride[0][axis] % n != 0) return false;
  }
  return !is_dense || index.rank > 0;
}

template <class Reducer>
bool are_aligned(const ReduceCall<Reducer>& call) {
  return std::all_of(call.x, call.x + Reducer::kInputs, [](const auto* p) { return is_aligned(p); });
}

/// Elements read at once.
template <class Reducer>
inline constexpr int kReducePack = sizeof(typename Reducer::Input) < 16 && !is_of_partials<Reducer>
                                       ? kPackSize<typename Reducer::Input>
                                       : 1;

/// Cuts the addends into chunks of whole `unit`s, at most `wanted` of them.
template <class Reducer>
void cut(ReduceCall<Reducer>& call, std::int64_t wanted, std::int64_t unit) {
  if (is_of_partials<Reducer>) wanted = 1;
  const std::int64_t units = (call.addends + unit - 1) / unit;
  wanted = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(units, 1));
  call.chunk = std::max<std::int64_t>((units + wanted - 1) / wanted, 1) * unit;
  call.chunks = std::max<std::int64_t>((call.addends + call.chunk - 1) / call.chunk, 1);
}

template <class Reducer>
void merge_partials(const char* name, Device device, const ReduceCall<Reducer>& call, bool by_result);

/// Memory for the states of chunks.
template <class Reducer>
Tensor partials_for(ReduceCall<Reducer>& call, Device device) {
  if (call.chunks == 1) return {};
  const auto bytes = static_cast<std::int64_t>(sizeof(typename Reducer::State)) * call.results * call.chunks;
  Tensor memory = engine::empty(Shape{bytes}, DType::uint8, device);
  call.partial = reinterpret_cast<typename Reducer::State*>(engine::mutable_ptr<std::uint8_t>(memory));
  return memory;
}

template <int kThreadsEach, class Reducer>
void launch_rows(const Launch& where, const ReduceCall<Reducer>& call, bool packed) {
  if constexpr (kReducePack < Reducer >> 1)
    if (packed) return launch(where, reduce_rows_kernel<kThreadsEach, kReducePack<Reducer>, Reducer>, call);
  launch(where, reduce_rows_kernel<kThreadsEach, 1, Reducer>, call);
}

template <class Reducer>
void reduce_rows(const char* name, Device device, ReduceCall<Reducer>& call) {
  constexpr int kPack = kReducePack<Reducer>;
  const bool packed = kPack > 1 && are_aligned(call) && allows_packs(call.reduced, kPack, true) &&
                      allows_packs(call.kept, kPack, false);
  const std::int64_t reads = packed ? (call.addends + kPack - 1) / kPack : call.addends;
  const std::int64_t each = reads <= 4 ? 1 : reads <= 32 ? 8 : reads <= 512 ? 32 : kThreads;
  // A chunk is worth at least eight turns of its block.
  if (each == kThreads) {
    cut(call, std::min(kBlocksWanted / call.results, reads / (8 * kThreads)), kThreads * kPack);
  } else {
    cut(call, 1, std::max<std::int64_t>(call.addends, 1));
  }
  const Tensor memory = partials_for(call, device);
  const Launch where = over_blocks(name, (call.results * call.chunks * each + kThreads - 1) / kThreads, device);
  switch (each) {
    case 1: launch_rows<1>(where, call, packed); break;
    case 8: launch_rows<8>(where, call, packed); break;
    case 32: launch_rows<32>(where, call, packed); break;
    default: launch_rows<0>(where, call, packed);
  }
  merge_partials(name, device, call, true);
}

template <class Reducer>
void reduce_columns(const char* name, Device device, ReduceCall<Reducer>& call) {
  constexpr int kPack = kReducePack<Reducer>;
  const bool packed = kPack > 1 && are_aligned(call) && allows_packs(call.kept, kPack, true) &&
                      allows_packs(call.reduced, kPack, false);
  const std::int64_t lanes = packed ? call.results / kPack : call.results;
  int width = 1;
  while (width < 32 && width < lanes) width *= 2;
  int depth = static_cast<int>(kThreads) / width;
  while (depth * width > 32 && depth * kPacksAhead > call.addends) depth /= 2;
  const std::int64_t groups = (lanes + width - 1) / width;
  cut(call, kBlocksWanted / groups, std::int64_t{8} * depth);
  const Tensor memory = partials_for(call, device);
  Launch where = over_blocks(name, groups * call.chunks, device);
  where.block = dim3(static_cast<unsigned>(depth * width));
  where.shared_bytes = sizeof(typename Reducer::State) * where.block.x * (packed ? kPack : 1);
  if constexpr (kPack > 1) {
    if (packed) {
      launch(where, reduce_columns_kernel<kPack, Reducer>, call, width);
      return merge_partials(name, device, call, false);
    }
  }
  launch(where, reduce_columns_kernel<1, Reducer>, call, width);
  merge_partials(name, device, call, false);
}

/// The second launch: folds the chunks' states, (result, chunk) in memory if `by_result`, else (chunk, result).
template <class Reducer>
void merge_partials(const char* name, Device device, const ReduceCall<Reducer>& call, bool by_result) {
  if constexpr (!is_of_partials<Reducer>) {
    if (call.chunks == 1) return;
    ReduceCall<OfPartials<Reducer>> rest{};
    rest.reducer = {call.reducer};
    rest.x[0] = call.partial;
    rest.results = call.results;
    rest.addends = call.chunks;
    const Strides along_results{by_result ? call.chunks : 1};
    const Strides along_chunks{by_result ? 1 : call.results};
    const Strides* const kept[] = {&along_results};
    const Strides* const reduced[] = {&along_chunks};
    rest.kept = StridedIndex<1>(Shape{call.results}, kept);
    rest.reduced = StridedIndex<1>(Shape{call.chunks}, reduced);
    if (by_result) {
      reduce_rows(name, device, rest);
    } else {
      reduce_columns(name, device, rest);
    }
  }
}

/// Folds, for each of `results` results, `addends` elements of every input: element (r, k) lies at kept(r) + reduced(k). Both
/// numbers are at least 1.
template <class Reducer>
void reduce(const char* name, Device device, const Reducer& reducer,
            const typename Reducer::Input* const (&x)[Reducer::kInputs], const StridedIndex<1>& kept,
            const StridedIndex<1>& reduced, std::int64_t results, std::int64_t addends) {
  ReduceCall<Reducer> call{};
  call.reducer = reducer;
  std::copy_n(x, Reducer::kInputs, call.x);
  call.kept = kept;
  call.reduced = reduced;
  call.results = results;
  call.addends = addends;
  const auto step = [](const StridedIndex<1>& index) {
    return index.rank == 0 ? INT64_MAX : std::abs(index.stride[0][index.rank - 1]);
  };
  if (step(kept) < step(reduced)) {
    reduce_columns(name, device, call);
  } else {
    reduce_rows(name, device, call);
  }
}

/// The same for a dense array (outer, n, inner), over n.
template <class Reducer>
void reduce_middle(const char* name, Device device, const Reducer& reducer,
                   const typename Reducer::Input* const (&x)[Reducer::kInputs], std::int64_t outer, std::int64_t n,
                   std::int64_t inner) {
  const Strides along_kept{n * inner, 1};
  const Strides along_reduced{inner};
  const Strides* const kept[] = {&along_kept};
  const Strides* const reduced[] = {&along_reduced};
  reduce(name, device, reducer, x, StridedIndex<1>(Shape{outer, inner}, kept), StridedIndex<1>(Shape{n}, reduced),
         outer * inner, n);
}

}  // namespace solvent::cuda
