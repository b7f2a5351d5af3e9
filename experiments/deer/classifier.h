#pragma once
/// The sequence classifier of the DEER paper (Lim et al. 2024, section 4.3, EigenWorms): encoder MLP, blocks of layer norm,
/// GRU, layer norm and MLP with a residual, classifier MLP, mean over time.

#include <cstdint>
#include <string>
#include <vector>

#include "solvent/nn/gru.h"
#include "solvent/nn/layer_norm.h"
#include "solvent/nn/mlp.h"
#include "solvent/solvers/sequence.h"

namespace solvent::experiments {

/// How the recurrent layers are evaluated, and what that cost so far.
struct RecurrenceSolver {
  solvers::SequenceMethod method = solvers::Sequential{};
  solvers::Options options;
  mutable int max_steps = 0;        ///< largest iteration count of any layer since the last reset
  mutable double max_residual = 0;  ///< largest residual of any solve since the last reset

  /// xs (T, B, I) -> states (T, B, H), from the zero state. @throws SolverError if a solve does not converge
  Tensor operator()(const nn::GruCell& cell, const Tensor& xs) const;
  void reset() const { max_steps = 0, max_residual = 0; }
};

/// "sequential", "deer", "quasi-deer", "shooting" as a method. @throws ValueError for other names
solvers::SequenceMethod parse_method(const std::string& name, std::int64_t window_or_chunk);

struct ClassifierSizes {
  std::int64_t channels = 1;
  std::int64_t classes = 2;
  std::int64_t hidden = 32;
  std::int64_t layers = 5;
};

/// One recurrent block: u = norm(x); v = norm(gru(u) + u); v + mlp(v).
class RecurrentBlock : public nn::Module {
 public:
  RecurrentBlock(std::int64_t hidden, Key key);
  Tensor operator()(const Tensor& x, const RecurrenceSolver& solve) const;
  void visit(nn::Visitor& visitor) override;

  nn::GruCell gru;
  nn::Mlp mlp;
};

class SequenceClassifier : public nn::Module {
 public:
  SequenceClassifier(const ClassifierSizes& sizes, Key key);

  /// xs (T, B, channels), time_weights (T, B, 1) that sum to one over each series -> logits (B, classes).
  Tensor operator()(const Tensor& xs, const Tensor& time_weights, const RecurrenceSolver& solve) const;
  void visit(nn::Visitor& visitor) override;

  nn::Mlp encoder;
  std::vector<RecurrentBlock> blocks;
  nn::Mlp head;
};

}  // namespace solvent::experiments
