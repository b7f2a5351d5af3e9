#pragma once
/// The optimizers that tests of GPUs go through.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "solvent/nn/nn.h"

namespace solvent::testing {

/// Makes a new one.
using MakeOptimizer = std::function<std::unique_ptr<nn::Optimizer>()>;

/// All that the library has, with every option that changes the update.
inline std::vector<std::pair<std::string, MakeOptimizer>> optimizers() {
  using namespace nn;
  return {
      {"sgd", [] { return std::make_unique<Sgd>(SgdOptions{.learning_rate = 0.05, .weight_decay = 0.02}); }},
      {"sgd momentum",
       [] {
         return std::make_unique<Sgd>(
             SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.02});
       }},
      {"sgd nesterov",
       [] { return std::make_unique<Sgd>(SgdOptions{.learning_rate = 0.05, .momentum = 0.8, .nesterov = true}); }},
      {"adam", [] { return std::make_unique<Adam>(AdamOptions{.learning_rate = 0.02, .weight_decay = 0.05}); }},
      {"adam amsgrad", [] { return std::make_unique<Adam>(AdamOptions{.learning_rate = 0.02, .amsgrad = true}); }},
      {"adamw", [] { return std::make_unique<AdamW>(AdamOptions{.learning_rate = 0.02, .weight_decay = 0.1}); }},
      {"adamax", [] { return std::make_unique<Adamax>(AdamaxOptions{.learning_rate = 0.02, .weight_decay = 0.05}); }}};
}

}  // namespace solvent::testing
