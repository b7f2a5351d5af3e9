#pragma once
/// What the calls of the walks over time have in common. Internal to solvers/cuda.

#include <cstdint>

namespace solvent::solvers::cuda {

/// A GRU over time in chunks: chunk c has the steps [c length, (c + 1) length) that there are.
template <class T>
struct GruWalk {
  std::int64_t steps, batch, hidden;
  std::int64_t length, chunks;
  const T* xw;      ///< (steps, batch, 3 hidden): projected inputs without the bias
  const T* w_hh;    ///< (3 hidden, hidden)
  const T* b;       ///< (3 hidden)
  const T* b_hn;    ///< (hidden)
  const T* before;  ///< (batch, hidden): state before the first step
};

}  // namespace solvent::solvers::cuda
