#pragma once
/// Labelled series of possibly unequal length, and batches of them.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace solvent::experiments {

/// A set of multivariate series with one class each. Series lie back to back, time-major:
/// channel c of step t of series i is `values[(starts[i] + t) * num_channels + c]`.
struct SequenceData {
  std::string name;
  std::int64_t num_channels = 1;
  std::vector<float> values;
  std::vector<std::int64_t> starts;   ///< (n) first step of each series
  std::vector<std::int64_t> lengths;  ///< (n) steps of each series
  std::vector<std::int64_t> labels;   ///< (n) index into class_names
  std::vector<std::string> class_names;

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(lengths.size()); }
  [[nodiscard]] std::int64_t num_classes() const { return static_cast<std::int64_t>(class_names.size()); }
  [[nodiscard]] std::int64_t min_length() const;
  [[nodiscard]] std::int64_t max_length() const;
  /// (lengths[i] * num_channels) values of one series.
  [[nodiscard]] std::span<const float> series(std::int64_t i) const;
  /// Number of series of each class.
  [[nodiscard]] std::vector<std::int64_t> class_counts() const;
  /// Adds a series of `series.size() / num_channels` steps. @throws ValueError if empty or the label is unknown.
  void append(std::span<const float> series, std::int64_t label);
};

/// Training and test set with the same classes and channels.
struct DataSplits {
  SequenceData train, test;
  std::string origin;  ///< where they come from: a folder, or "generated"
};

/// A batch padded to a common length.
struct SequenceBatch {
  std::int64_t num_steps = 0, batch = 0, num_channels = 0;
  std::vector<float> values;          ///< (num_steps, batch, num_channels), zero behind the end of a series
  std::vector<std::int64_t> lengths;  ///< (batch)
  std::vector<std::int64_t> labels;   ///< (batch)
};

/// Gathers series into a batch, padded to `num_steps` (0: to the longest of them).
/// @throws ValueError for an index out of range, no index, or a series longer than `num_steps`.
SequenceBatch gather_batch(const SequenceData& data, std::span<const std::int64_t> indices, std::int64_t num_steps = 0);

/// The given series, in this order. @throws ValueError for an index out of range.
SequenceData subset(const SequenceData& data, std::span<const std::int64_t> indices);

/// Mean over each `factor` consecutive steps; a shorter last window is averaged over its own length.
/// Shortens long series for quick runs. @throws ValueError if factor < 1.
SequenceData mean_pool(const SequenceData& data, std::int64_t factor);

/// Mean and standard deviation of every channel over all steps of all series.
struct ChannelStatistics {
  std::vector<double> mean, stddev;
};
ChannelStatistics channel_statistics(const SequenceData& data);
/// (x - mean) / stddev per channel; a constant channel is only centred. Fit on the training set, apply to both.
void standardize(SequenceData& data, const ChannelStatistics& statistics);

}  // namespace solvent::experiments
