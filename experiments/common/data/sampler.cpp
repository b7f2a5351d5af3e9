#include "solvent/experiments/common/data/sampler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"

namespace solvent::experiments {

namespace {

// Keeps data order apart from the other uses of a run's seed (initialisation, dropout).
constexpr std::uint64_t kSamplerStream = 0x73616d706c6572;  // "sampler"

}  // namespace

EpochSampler::EpochSampler(const Settings& settings) : settings_(settings) {
  const std::int64_t n = settings.num_examples, batch = settings.batch_size;
  if (n < 1 || batch < 1) {
    throw ValueError(
        fmt::format("[EpochSampler] got {} examples and a batch of {}; expected at least 1 of both", n, batch));
  }
  batches_per_epoch_ = settings.drop_last ? n / batch : (n - 1) / batch + 1;
  if (batches_per_epoch_ == 0) {
    throw ValueError(
        fmt::format("[EpochSampler] a batch of {} from {} examples leaves nothing with drop_last; use a "
                    "batch of at most {}",
                    batch, n, n));
  }
}

std::vector<std::int64_t> EpochSampler::permutation(std::int64_t epoch) const {
  std::vector<std::int64_t> order(static_cast<std::size_t>(settings_.num_examples));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  if (!settings_.shuffle) return order;
  const Key key = Key(settings_.seed, kSamplerStream).fold_in(static_cast<std::uint64_t>(epoch));
  // Fisher-Yates. floor(uniform * (i + 1)) is biased by less than 2^-30 for any number of examples that fits memory.
  for (std::size_t i = order.size() - 1; i > 0; --i) {
    const double u = key.uniform(i);
    const auto j = std::min(i, static_cast<std::size_t>(u * static_cast<double>(i + 1)));
    std::swap(order[i], order[j]);
  }
  return order;
}

std::vector<std::int64_t> EpochSampler::batch(std::int64_t step) const {
  if (step < 0) throw ValueError(fmt::format("[EpochSampler] got step {}; expected a step >= 0", step));
  const std::int64_t epoch = epoch_of(step);
  if (epoch != cached_epoch_) {
    cached_ = permutation(epoch);
    cached_epoch_ = epoch;
  }
  const std::int64_t begin = (step % batches_per_epoch_) * settings_.batch_size;
  const std::int64_t end = std::min(begin + settings_.batch_size, settings_.num_examples);
  return {cached_.begin() + begin, cached_.begin() + end};
}

}  // namespace solvent::experiments
