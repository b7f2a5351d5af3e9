#pragma once
/// Functions of the rows of dense (rows, columns) matrices: each element of the result depends on its row through a summary
/// (softmax, layer normalisation). For `.cu` files only.
///
///     struct RowFn {
///       using Element = T;                   // of inputs and output
///       using Summary = ...;                 // of a part of a row; trivially copyable, whole 4-byte words
///       using Factors = ...;                 // what finish() needs of the whole row's summary
///       static constexpr int kInputs = 1;
///       static constexpr bool kWrites = true;  // false: one result per row, stored by prepare()
///       // Of the elements x[i][0 .. count) that the team's threads hold; the same in all of them. May replace the elements.
///       template <class Team, class Columns, int kHeld>
///       __device__ Summary summarise(const Team& team, T (&x)[kInputs][kHeld], int count, const Columns& columns) const;
///       __device__ Summary neutral() const;
///       __device__ Summary merge(const Summary& a, const Summary& b) const;  // of parts of one row
///       __device__ Factors prepare(const Summary& s, std::int64_t row, bool is_first) const;
///       // Parameters per column, read as packs like the inputs: NoParameters, or OneParameter, TwoParameters below.
///       using Parameters = NoParameters;
///       Parameters parameters;
///       // kKept: x as summarise() left it; else x as in memory.
///       template <bool kKept>
///       __device__ T finish(const Factors& f, const T (&x)[kInputs], const Parameters::Values& p, std::int64_t column) const;
///     };
///     cuda::map_rows("softmax", device, f, {x}, y, rows, columns);
///
/// Bound by memory. A row of at most kLongestRow elements is held in registers: 8 or 32 lanes per row up to 1024
/// columns, then a block per row with as few warps as hold it: one read and one write. Longer rows are cut into chunks, a
/// block for each: one launch summarises them, the next one merges the summaries of its row in each block (in the same
/// order) and writes: two reads, one write. Deterministic: everything depends on the number of columns and on whether rows start
/// at multiples of 16 bytes, where accesses are that wide.

#include <algorithm>
#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/reduce.h"
#include "solvent/core/cuda/strided.h"

namespace solvent::cuda {

/// The threads that work on one row or chunk: kLanes lanes of a warp, or the block (kLanes = 0).
template <int kLanes>
struct Team {
  __device__ int size() const { return kLanes == 0 ? static_cast<int>(blockDim.x) : kLanes; }
  __device__ int rank() const { return static_cast<int>(threadIdx.x) % size(); }
  /// Over the team's threads; see whole_block_fold. All threads of the block call it.
  template <class T, class Op>
  __device__ T fold(const T& value, const T& neutral, const Op& op) const {
    if constexpr (kLanes == 0) {
      return whole_block_fold(value, neutral, op);
    } else {
      return lanes_fold<kLanes>(value, op);
    }
  }
};

/// Columns of the elements that a thread holds: packs of kPack, a team's width apart.
template <int kPack>
struct Columns {
  static constexpr int kPackOf = kPack;
  std::int64_t first;  // column of element 0
  std::int64_t step;   // columns between packs
  std::int64_t total;  // elements that the team holds
  __device__ std::int64_t of(int element) const { return first + element / kPack * step + element % kPack; }
};

/// No parameters per column.
struct NoParameters {
  struct Values {};
  template <int kPack>
  struct Packed {
    __device__ Values operator[](int) const { return {}; }
  };
  template <int kPack>
  __device__ Packed<kPack> at(std::int64_t) const {
    return {};
  }
  [[nodiscard]] bool allow_packs() const { return true; }
};

/// A factor and a summand per column, or 1 and 0 if both pointers are null.
template <class T>
struct TwoParameters {
  struct Values {
    T scale, shift;
  };
  template <int kPack>
  struct Packed {
    Pack<T, kPack> scale, shift;
    __device__ Values operator[](int j) const { return {scale.value[j], shift.value[j]}; }
  };
  const T* scale;
  const T* shift;
  template <int kPack>
  __device__ Packed<kPack> at(std::int64_t column) const {
    Packed<kPack> p;
    if (scale != nullptr) {
      p.scale = *reinterpret_cast<const Pack<T, kPack>*>(scale + column);
      p.shift = *reinterpret_cast<const Pack<T, kPack>*>(shift + column);
    } else {
      for (int j = 0; j < kPack; ++j) p.scale.value[j] = T(1);
      for (int j = 0; j < kPack; ++j) p.shift.value[j] = T(0);
    }
    return p;
  }
  [[nodiscard]] bool allow_packs() const { return is_aligned(scale) && is_aligned(shift); }
};

/// A factor per column, or 1 if the pointer is null.
template <class T>
struct OneParameter {
  using Values = T;
  template <int kPack>
  struct Packed {
    Pack<T, kPack> scale;
    __device__ T operator[](int j) const { return scale.value[j]; }
  };
  const T* scale;
  template <int kPack>
  __device__ Packed<kPack> at(std::int64_t column) const {
    Packed<kPack> p;
    if (scale != nullptr) {
      p.scale = *reinterpret_cast<const Pack<T, kPack>*>(scale + column);
    } else {
      for (int j = 0; j < kPack; ++j) p.scale.value[j] = T(1);
    }
    return p;
  }
  [[nodiscard]] bool allow_packs() const { return is_aligned(scale); }
};

/// Operands of a call.
template <class RowFn>
struct RowsCall {
  RowFn f;
  const typename RowFn::Element* x[RowFn::kInputs];
  typename RowFn::Element* y;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t chunks;               // of a longer row
  typename RowFn::Summary* partial;  // (rows, chunks)
};

/// Reads the elements of `columns` below `end` of one row, at most kHeld; returns their number.
template <int kHeld, int kPack, class RowFn>
__device__ int load_held(const RowsCall<RowFn>& call, std::int64_t row, const Columns<kPack>& columns, std::int64_t end,
                         typename RowFn::Element (&x)[RowFn::kInputs][kHeld]) {
  using T = typename RowFn::Element;
  int count = 0;
  for (int p = 0; p < kHeld / kPack; ++p) {
    const std::int64_t column = columns.first + p * columns.step;
    if (column >= end) continue;
    count = (p + 1) * kPack;
    for (int i = 0; i < RowFn::kInputs; ++i) {
      const auto pack = *reinterpret_cast<const Pack<T, kPack>*>(call.x[i] + row * call.columns + column);
      for (int j = 0; j < kPack; ++j) x[i][p * kPack + j] = pack.value[j];
    }
  }
  return count;
}

/// Writes what finish() makes of the elements held.
template <bool kKept, int kHeld, int kPack, class RowFn>
__device__ void store_held(const RowsCall<RowFn>& call, const typename RowFn::Factors& factors, std::int64_t row,
                           const Columns<kPack>& columns, int count,
                           const typename RowFn::Element (&x)[RowFn::kInputs][kHeld]) {
  using T = typename RowFn::Element;
  for (int p = 0; p < kHeld / kPack; ++p) {
    if (p * kPack >= count) continue;
    const std::int64_t column = columns.first + p * columns.step;
    const auto parameters = call.f.parameters.template at<kPack>(column);
    Pack<T, kPack> out;
    for (int j = 0; j < kPack; ++j) {
      T element[RowFn::kInputs];
      for (int i = 0; i < RowFn::kInputs; ++i) element[i] = x[i][p * kPack + j];
      out.value[j] = call.f.template finish<kKept>(factors, element, parameters[j], column + j);
    }
    store_pack(reinterpret_cast<Pack<T, kPack>*>(call.y + row * call.columns + column), out);
  }
}

/// Most threads of a block that holds a row. Single elements take more registers than packs, for their addresses.
template <int kPack>
inline constexpr int kMostThreads = kPack == 1 ? 512 : 1024;

/// A team per row, which it holds.
template <int kLanes, int kHeld, int kPack, class RowFn>
__global__ void __launch_bounds__(kLanes == 0 ? kMostThreads<kPack> : 256) held_rows_kernel(RowsCall<RowFn> call) {
  const Team<kLanes> team;
  const std::int64_t per_block = blockDim.x / team.size();
  const Columns<kPack> columns{team.rank() * kPack, team.size() * kPack, call.columns};
  // All threads stay in the loop together: folds need whole warps.
  SOLVENT_ROLLED
  for (std::int64_t base = blockIdx.x * per_block; base < call.rows; base += gridDim.x * per_block) {
    const std::int64_t row = base + threadIdx.x / team.size();
    const bool has_row = row < call.rows;
    typename RowFn::Element x[RowFn::kInputs][kHeld];
    const int count = load_held<kHeld>(call, row, columns, has_row ? call.columns : 0, x);
    const auto summary = call.f.summarise(team, x, count, columns);
    if (!has_row) continue;
    const auto factors = call.f.prepare(summary, row, team.rank() == 0);
    if constexpr (RowFn::kWrites) store_held<true>(call, factors, row, columns, count, x);
  }
}

/// A block per chunk: its summary.
template <int kHeld, int kPack, class RowFn>
__global__ void __launch_bounds__(256) summarise_chunks_kernel(RowsCall<RowFn> call) {
  const Team<0> team;
  const std::int64_t length = static_cast<std::int64_t>(team.size()) * kHeld;
  SOLVENT_ROLLED
  for (std::int64_t item = blockIdx.x; item < call.rows * call.chunks; item += gridDim.x) {
    const std::int64_t row = item / call.chunks;
    const std::int64_t begin = (item - row * call.chunks) * length;
    const std::int64_t end = begin + length < call.columns ? begin + length : call.columns;
    const Columns<kPack> columns{begin + team.rank() * kPack, team.size() * kPack, end - begin};
    typename RowFn::Element x[RowFn::kInputs][kHeld];
    const int count = load_held<kHeld>(call, row, columns, end, x);
    const auto summary = call.f.summarise(team, x, count, columns);
    if (threadIdx.x == 0) call.partial[item] = summary;
  }
}

/// RowFn::merge as a function object.
template <class RowFn>
struct MergeSummaries {
  const RowFn& f;
  __device__ typename RowFn::Summary operator()(const typename RowFn::Summary& a,
                                                const typename RowFn::Summary& b) const {
    return f.merge(a, b);
  }
};

/// A block per chunk: merges the summaries of its row, then writes. Without writing, a block per row.
template <int kHeld, int kPack, class RowFn>
__global__ void __launch_bounds__(256) finish_chunks_kernel(RowsCall<RowFn> call) {
  const Team<0> team;
  const std::int64_t length = static_cast<std::int64_t>(team.size()) * kHeld;
  const std::int64_t per_row = RowFn::kWrites ? call.chunks : 1;
  SOLVENT_ROLLED
  for (std::int64_t item = blockIdx.x; item < call.rows * per_row; item += gridDim.x) {
    const std::int64_t row = item / per_row;
    typename RowFn::Summary summary = call.f.neutral();
    for (std::int64_t k = threadIdx.x; k < call.chunks; k += blockDim.x)
      summary = call.f.merge(summary, call.partial[row * call.chunks + k]);
    summary = team.fold(summary, call.f.neutral(), MergeSummaries<RowFn>{call.f});
    const auto factors = call.f.prepare(summary, row, threadIdx.x == 0 && item % per_row == 0);
    if constexpr (RowFn::kWrites) {
      const std::int64_t begin = (item - row * per_row) * length;
      const std::int64_t end = begin + length < call.columns ? begin + length : call.columns;
      const Columns<kPack> columns{begin + team.rank() * kPack, team.size() * kPack, end - begin};
      typename RowFn::Element x[RowFn::kInputs][kHeld];
      const int count = load_held<kHeld>(call, row, columns, end, x);
      store_held<false>(call, factors, row, columns, count, x);
    }
  }
}

/// Elements that a thread of a block holds: 64 bytes of its inputs. A block of 1024 threads leaves 64 registers to each, which
/// more elements overflow; 1024 threads on a multiprocessor have 64 KiB in flight.
template <class RowFn>
inline constexpr int kHeldPerThread = static_cast<int>(64 / sizeof(typename RowFn::Element) / RowFn::kInputs);
/// Longest row that one block holds.
template <class RowFn, int kPack>
inline constexpr std::int64_t kLongestRow = std::int64_t{kMostThreads<kPack>} * kHeldPerThread<RowFn>;
/// Threads of a block for one chunk of longer rows; chunks are small enough that few rows make many.
inline constexpr unsigned kChunkThreads = 256;

template <int kPack, class RowFn>
void launch_rows_of(const char* name, Device device, RowsCall<RowFn>& call) {
  constexpr int kHeld = kHeldPerThread<RowFn>;
  const auto by_lanes = [&](std::int64_t lanes) {
    return over_blocks(name, (call.rows * lanes + kThreads - 1) / kThreads, device);
  };
  if (call.columns <= 32) return launch(by_lanes(8), held_rows_kernel<8, 4, kPack, RowFn>, call);
  if (call.columns <= 128) return launch(by_lanes(32), held_rows_kernel<32, 4, kPack, RowFn>, call);
  if (call.columns <= 512) return launch(by_lanes(32), held_rows_kernel<32, 16, kPack, RowFn>, call);
  if (call.columns <= 1024) return launch(by_lanes(32), held_rows_kernel<32, 32, kPack, RowFn>, call);
  const std::int64_t threads = ((call.columns + kHeld - 1) / kHeld + 31) / 32 * 32;
  if (call.columns <= kLongestRow<RowFn, kPack>)
    return launch(over_blocks(name, call.rows, device, static_cast<unsigned>(threads)),
                  held_rows_kernel<0, kHeld, kPack, RowFn>, call);
  const std::int64_t length = std::int64_t{kChunkThreads} * kHeld;
  call.chunks = (call.columns + length - 1) / length;
  const auto bytes = static_cast<std::int64_t>(sizeof(typename RowFn::Summary)) * call.rows * call.chunks;
  Tensor memory = engine::empty(Shape{bytes}, DType::uint8, device);
  call.partial = reinterpret_cast<typename RowFn::Summary*>(engine::mutable_ptr<std::uint8_t>(memory));
  launch(over_blocks(name, call.rows * call.chunks, device, kChunkThreads),
         summarise_chunks_kernel<kHeld, kPack, RowFn>, call);
  launch(over_blocks(name, call.rows * (RowFn::kWrites ? call.chunks : 1), device, kChunkThreads),
         finish_chunks_kernel<kHeld, kPack, RowFn>, call);
}

/// y = f(x) for dense (rows, columns) matrices with at least one element; y may be one of the inputs. Null if f does not
/// write.
template <class RowFn>
void map_rows(const char* name, Device device, const RowFn& f,
              const typename RowFn::Element* const (&x)[RowFn::kInputs], typename RowFn::Element* y, std::int64_t rows,
              std::int64_t columns) {
  constexpr int kPack = kPackSize<typename RowFn::Element>;
  RowsCall<RowFn> call{};
  call.f = f;
  std::copy_n(x, RowFn::kInputs, call.x);
  call.y = y;
  call.rows = rows;
  call.columns = columns;
  bool packed = columns % kPack == 0 && is_aligned(y) && f.parameters.allow_packs();
  for (int i = 0; i < RowFn::kInputs; ++i) packed = packed && is_aligned(x[i]);
  if (packed) {
    launch_rows_of<kPack>(name, device, call);
  } else {
    launch_rows_of<1>(name, device, call);
  }
}

}  // namespace solvent::cuda
