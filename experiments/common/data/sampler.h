#pragma once
/// Order in which a training loop visits its data.

#include <cstdint>
#include <vector>

namespace solvent::experiments {

/// A new permutation of 0..n-1 in every epoch, cut into batches.
///
/// There is no state: batch number `step` of the whole training is a pure function of (seed, step), so a resumed run
/// needs to know its step only, and any step can be asked for in any order.
class EpochSampler {
 public:
  struct Settings {
    std::int64_t num_examples = 0;
    std::int64_t batch_size = 1;
    std::uint64_t seed = 0;
    bool shuffle = true;
    bool drop_last = false;  ///< leave out an incomplete last batch of an epoch
  };

  /// @throws ValueError if there are no examples, the batch is not positive, or drop_last leaves no batch at all.
  explicit EpochSampler(const Settings& settings);

  [[nodiscard]] std::int64_t batches_per_epoch() const { return batches_per_epoch_; }
  [[nodiscard]] std::int64_t epoch_of(std::int64_t step) const { return step / batches_per_epoch_; }
  /// Indices of batch `step` (counted over all epochs); the last one of an epoch may be shorter.
  /// @throws ValueError for a negative step.
  [[nodiscard]] std::vector<std::int64_t> batch(std::int64_t step) const;
  /// The whole order of one epoch.
  [[nodiscard]] std::vector<std::int64_t> permutation(std::int64_t epoch) const;

 private:
  Settings settings_;
  std::int64_t batches_per_epoch_ = 0;
  mutable std::int64_t cached_epoch_ = -1;  // the order last computed: 60 000 swaps per step would be a waste
  mutable std::vector<std::int64_t> cached_;
};

}  // namespace solvent::experiments
