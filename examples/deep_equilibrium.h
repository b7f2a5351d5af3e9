#pragma once
/// The layer of deep_equilibrium.cpp.

#include "solvent/solvent.h"

namespace solvent::examples {

using namespace solvent::solvers;

// [layer]
struct Equilibrium : nn::Module {
  nn::Linear input;    // U x + b
  nn::Parameter w;     // (n, n)
  nn::Linear readout;  // fixed point -> logits
  Termination termination = {};

  Equilibrium(std::int64_t features, std::int64_t n, std::int64_t classes, Key key)
      : input(features, n, key.fold_in(0)),
        w(nn::init::uniform(key.fold_in(1), {n, n}, 0.5 / static_cast<double>(n))),
        readout(n, classes, key.fold_in(2)) {}

  Tensor operator()(const Tensor& x) const {
    // What the solution depends on goes through theta; the map captures nothing.
    const auto map = [](const Tensor& z, const Tensors& theta) { return tanh(matmul(z, mT(theta[0])) + theta[1]); };
    // Rows of W scaled to sum |w| <= 0.95: the map contracts, so the fixed point exists, is unique, and is found.
    const Tensor sums = sum(abs(w), {1}, true);
    const Tensor contracting = w / maximum(sums / 0.95, ones_like(sums));
    const Tensor start = zeros({x.size(0), w.value().size(0)}, {x.dtype(), x.device()});
    const Options options = {.termination = termination};
    return readout(solve_fixed_point(map, start, {contracting, input(x)}, Anderson{}, options, Batch::rows).value);
  }
  void visit(nn::Visitor& v) override {
    v("input", input);
    v("w", w);
    v("readout", readout);
  }
};
// [layer]

}  // namespace solvent::examples
