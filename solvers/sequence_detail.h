#pragma once
/// Pieces shared by the sequence methods and their driver. Internal to solvers/.

#include "solvent/solvers/sequence.h"

namespace solvent::solvers::detail {

/// States before the first step of every chunk: h0, then h at times chunk - 1, 2 chunk - 1, ...: (C, B, n).
Tensor chunk_starts(const SequenceProblem& problem, const Tensor& hs, std::int64_t chunk);

/// Runs all chunks from their start states (C, B, n), in parallel over chunks: (T, B, n).
Tensor roll_out(const SequenceProblem& problem, const Tensor& starts, std::int64_t chunk);

/// All states (T, B, n) by one call of the cell after the other.
Tensor step_by_step(const SequenceProblem& problem);

/// Start states found by running `burn_in` steps before every chunk from h0: (C, B, n).
Tensor burn_in_starts(const SequenceProblem& problem, std::int64_t chunk, std::int64_t burn_in);

/// State after a roll-out: the residual at the chunk borders, zero elsewhere by construction.
SequenceState chunk_state(const SequenceProblem& problem, Tensor hs, std::int64_t chunk, Stats& stats);

/// Chunk length of a shooting solve; a function of sizes only.
std::int64_t chunk_length(const Shooting& method, std::int64_t length, std::int64_t batch);

}  // namespace solvent::solvers::detail
