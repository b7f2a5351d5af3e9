#pragma once
/// What the kernels that walk over chunks of a GRU have in common. For `.cu` files only.
///
/// Up to 4 units a thread has a chunk, all in registers. Up to 32, kLanes lanes have one: a lane has kN / kLanes units and as
/// many columns of matrices. Vectors, J (row by row) and W_hh are in shared memory, where the lanes of a chunk read J at one
/// address; what belongs to a chunk there is kPack words off the multiple of 32 that would put all chunks of a warp on the
/// same banks.

#include <cstddef>
#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/ops/cuda/gru_cell.h"
#include "solvent/ops/cuda/unroll.h"
#include "solvent/solvers/cuda/gru_walk.h"

namespace solvent::solvers::cuda {
namespace {

using namespace solvent::cuda;

constexpr const char* kName = "solve_sequence";

/// A chunk of one sequence.
struct TimeChunk {
  std::int64_t number, sequence, begin, end;

  template <class T>
  __device__ TimeChunk(const GruWalk<T>& call, std::int64_t item)
      : number(item / call.batch),
        sequence(item % call.batch),
        begin(number * call.length),
        end(begin + call.length < call.steps ? begin + call.length : call.steps) {}
};

/// The projected inputs of one unit in a row of (steps, batch).
template <class T>
__device__ void load_projected(const GruWalk<T>& call, std::int64_t row, std::int64_t unit, T (&x)[3]) {
  for (int g = 0; g < 3; ++g) x[g] = call.xw[(row * 3 + g) * call.hidden + unit];
}

// --- a thread per chunk -------------------------------------------------------------------------------------------------

/// Weights of the states and biases, in shared memory.
template <class T, int kN>
struct SmallWeights {
  T w[3][kN][kN], b[3][kN], q_bias[kN];

  /// By all threads of a block, which then need a barrier.
  __device__ void load(const GruWalk<T>& call) {
    for (int e = static_cast<int>(threadIdx.x); e < 3 * kN * kN; e += static_cast<int>(blockDim.x))
      w[e / (kN * kN)][e / kN % kN][e % kN] = call.w_hh[e];
    for (int e = static_cast<int>(threadIdx.x); e < 3 * kN; e += static_cast<int>(blockDim.x))
      b[e / kN][e % kN] = call.b[e];
    for (int e = static_cast<int>(threadIdx.x); e < kN; e += static_cast<int>(blockDim.x)) q_bias[e] = call.b_hn[e];
  }

  /// Row i of J except for the order of the factors of W_hh: r, z, q.
  __device__ void jacobian_row(int i, T z, const GruSlopes<T>& slopes, T (&row)[kN]) const {
    SOLVENT_UNROLL
    for (int k = 0; k < kN; ++k)
      row[k] = std::fma(slopes.r, w[0][i][k],
                        std::fma(slopes.z, w[1][i][k], std::fma(slopes.q, w[2][i][k], i == k ? z : T(0))));
  }
};

/// Steps that are loaded ahead, so that one thread has several loads under way.
template <int kN>
inline constexpr int kDepth = kN == 1   ? 4
                              : kN == 2 ? 2
                                        : 1;

/// A thread per item; few threads per block, so that the items spread over all multiprocessors.
template <class Call>
void launch_threads(std::int64_t items, const Call& call, Device device, void (*kernel)(Call)) {
  constexpr unsigned kThreads = 64;
  launch(over_blocks(kName, (items + kThreads - 1) / kThreads, device, kThreads), kernel, call);
}

// --- several lanes per chunk --------------------------------------------------------------------------------------------

/// One lane of the kLanes that have a chunk. W_hh is shared by the block as [gate][k][unit] with rows of kRow values.
template <class T, int kN, int kLanes, int kRow>
struct LaneGroup {
  static constexpr int kCols = kN / kLanes;                            // units and columns of a lane
  static constexpr int kPack = kPackSize<T>;                           // values read at once
  static constexpr int kStride = kN + kPack;                           // of rows of J: fewer bank conflicts
  static constexpr int kWeights = 3 * kN * kRow;                       // a multiple of kPack
  static constexpr unsigned kThreads = 128;                            // of a block
  static constexpr int kChunks = static_cast<int>(kThreads) / kLanes;  // of a block

  int lane;
  unsigned mask;  // the lanes of this chunk
  const T* w;
  T* own;  // what belongs to this chunk: `scratch` values

  __device__ LaneGroup(T* shared, int scratch) : lane(static_cast<int>(threadIdx.x) % kLanes), w(shared) {
    const unsigned first = threadIdx.x % 32 / kLanes * kLanes;
    mask = (kLanes == 32 ? kAllLanes : (1u << kLanes % 32) - 1u) << first;
    own = shared + kWeights + static_cast<int>(threadIdx.x) / kLanes * scratch;
  }

  /// By all threads of the block, which then need a barrier.
  __device__ static void load_weights(const GruWalk<T>& call, T* shared) {
    const auto hidden = static_cast<int>(call.hidden);
    for (int e = static_cast<int>(threadIdx.x); e < 3 * kN * kN; e += static_cast<int>(blockDim.x)) {
      const int k = e % kN, i = e / kN % kN, g = e / (kN * kN);
      shared[(g * kN + k) * kRow + i] = i < hidden && k < hidden ? call.w_hh[(g * hidden + i) * hidden + k] : T(0);
    }
  }

  [[nodiscard]] __device__ int unit(int c) const { return lane + c * kLanes; }
  [[nodiscard]] __device__ T weight(int gate, int k, int unit) const { return w[(gate * kN + k) * kRow + unit]; }
  __device__ static Pack<T, kPack> read(const T* from) { return *reinterpret_cast<const Pack<T, kPack>*>(from); }

  /// Entry (i, k) of J.
  [[nodiscard]] __device__ T jacobian(int i, int k, T z, const GruSlopes<T>& slopes) const {
    T value = k == i ? z : T(0);
    value = std::fma(slopes.q, weight(2, k, i), value);
    value = std::fma(slopes.z, weight(1, k, i), value);
    return std::fma(slopes.r, weight(0, k, i), value);
  }

  /// This block's first chunk for this lane, and the distance to its next one.
  __device__ static std::int64_t first_item() {
    return static_cast<std::int64_t>(blockIdx.x) * kChunks + threadIdx.x / kLanes;
  }
  __device__ static std::int64_t stride() { return static_cast<std::int64_t>(gridDim.x) * kChunks; }
};

/// Biases of a lane's units; zeros for those that the cell does not have.
template <class T, int kCols>
struct LaneBiases {
  T bias[3][kCols], q_bias[kCols];
  bool is_unit[kCols];

  template <class Lanes>
  __device__ LaneBiases(const GruWalk<T>& call, const Lanes& lanes) {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      is_unit[c] = lanes.unit(c) < call.hidden;
      for (int g = 0; g < 3; ++g) bias[g][c] = is_unit[c] ? call.b[g * call.hidden + lanes.unit(c)] : T(0);
      q_bias[c] = is_unit[c] ? call.b_hn[lanes.unit(c)] : T(0);
    }
  }
};

/// `Lanes` has kChunks, kThreads and kBytes.
template <class Lanes, class Call>
void launch_lanes(std::int64_t items, const Call& call, Device device, void (*kernel)(Call)) {
  Launch shape = over_blocks(kName, (items + Lanes::kChunks - 1) / Lanes::kChunks, device, Lanes::kThreads);
  shape.shared_bytes = Lanes::kBytes;
  launch(shape, kernel, call);
}

/// Lanes of a chunk of up to 32 units: as many as registers allow.
template <class T>
inline constexpr int kWideLanes = sizeof(T) == 4 ? 16 : 32;

/// Blocks that a multiprocessor must have room for: 168 registers per thread. 10,000 steps of 16 sequences of 16 units have 313
/// blocks, so with two of them on each of 132 multiprocessors they would not all run at once.
template <class T, int kN>
inline constexpr int kBlocksAtOnce = sizeof(T) == 4 && kN <= 16 ? 3 : 1;

/// Launches `Walk`'s kernel for the number of units: `threads<units>` or `lanes<units at most, lanes>`.
template <class Walk, class T>
void launch_walk(const GruWalk<T>& call, const Walk& walk) {
  switch (call.hidden) {
    case 1: return walk.template threads<1>();
    case 2: return walk.template threads<2>();
    case 3: return walk.template threads<3>();
    case 4: return walk.template threads<4>();
    default: break;
  }
  if (call.hidden <= 8) return walk.template lanes<8, 4>();
  if (call.hidden <= 16) return walk.template lanes<16, 8>();
  walk.template lanes<32, kWideLanes<T>>();
}

}  // namespace
}  // namespace solvent::solvers::cuda
