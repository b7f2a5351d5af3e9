#pragma once
/// Fused time-parallel evaluation of one GRU layer on raw memory: multiple shooting and windowed dense Newton (DEER).
///
/// Both return every state and a certificate computed from the states they return: the largest defect of the recurrence
/// |f(h_{t-1}, x_t) - h_t|, per sequence. Neither ever reports a NaN as success: a non-finite defect is returned as it is.
/// Results have the same bits for any number of threads; the partition depends on sizes only.
/// Layouts, weights and the cell are those of ops/cpu/gru_kernels.h.

#include <cstdint>
#include <vector>

#include "solvent/core/export.h"
#include "solvent/ops/cpu/gru_kernels.h"

namespace solvent::cpu {

/// What a fused solve did, and how far its result is from a solution.
struct GruSolveReport {
  std::vector<double> residual;  ///< (B) largest defect |r|; NaN or infinity as they are
  std::vector<double> ratio;     ///< (B) largest |r| / (atol + rtol |h|): <= 1 is convergence
  int passes = 0;                ///< shooting passes, or Newton steps of the slowest window
  int max_passes = 0;            ///< limit that was in force
  std::int64_t windows = 1;      ///< Newton windows (1 for shooting)
  std::int64_t chunks = 1;       ///< time chunks per sequence (per window for Newton)
  std::int64_t steps = 0;        ///< Newton: steps summed over windows (their mean is steps / windows)

  /// True if every sequence's ratio is at most 1 (false for NaN).
  bool converged() const {
    for (const double r : ratio) {
      if (!(r <= 1)) return false;
    }
    return true;
  }
};

/// Settings of `gru_shooting`.
struct GruShootingOptions {
  double atol = 1e-6;
  double rtol = 0;
  int max_passes = 0;         ///< 0: as many as chunks, which always suffice (the result then has sequential bits)
  std::int64_t chunk = 0;     ///< steps per chunk; 0: chosen from T, B and H
  std::int64_t burn_in = -1;  ///< steps rolled out from a zero state before each chunk in the first pass; < 0: 128
};

/// Multiple shooting: time is cut into chunks that are rolled out side by side, one per vector lane, first from a zero
/// state `burn_in` steps before the chunk. For a contracting cell that state has been forgotten when the chunk begins.
/// The defect is zero inside chunks by construction; at the borders it is |end of chunk c-1 - start of chunk c|. While
/// that exceeds the tolerance, the chunks behind the first wrong border are rolled out again from their predecessors'
/// ends. Chunk by chunk the bits become those of `gru_forward`.
///
/// Source: multiple shooting as in Bellen and Zennaro 1989; specs of DEER, section 3.6.
template <class T>
SOLVENT_API GruSolveReport gru_shooting(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0,
                                        T* hs, const GruShootingOptions& options);

/// Largest H for which `gru_newton` exists; its work and memory grow with H^3.
inline constexpr std::int64_t kGruNewtonMaxHidden = 16;

/// Settings of `gru_newton`.
struct GruNewtonOptions {
  double atol = 1e-6;
  double rtol = 0;
  int max_steps = 0;        ///< Newton steps per window; 0: the window's length, which always suffices
  std::int64_t window = 0;  ///< steps per window; 0: chosen so that a window's Jacobians stay in the L2 caches
};

/// Windowed dense Newton on the trajectory in delta form (DEER): per window and step, r = f(shift(h)) - h and J for all
/// t, then d_t = J_t d_{t-1} + r_t by a three-phase scan over chunks (one per vector lane), h += d; a window ends when
/// every defect meets the tolerance, and hands its last state to the next one. Newton starts from the constant
/// continuation of that state. H <= kGruNewtonMaxHidden.
///
/// Source: Lim et al. 2024 (arXiv:2309.12252); delta form and windows as in specs of DEER, sections 1.2 and 3.6.
template <class T>
SOLVENT_API GruSolveReport gru_newton(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0,
                                      T* hs, const GruNewtonOptions& options);

}  // namespace solvent::cpu
