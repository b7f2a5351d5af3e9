#include "solvent/experiments/common/data/sequence_data.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::experiments {

std::int64_t SequenceData::min_length() const {
  return lengths.empty() ? 0 : *std::min_element(lengths.begin(), lengths.end());
}

std::int64_t SequenceData::max_length() const {
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

std::span<const float> SequenceData::series(std::int64_t i) const {
  if (i < 0 || i >= size()) throw ValueError(fmt::format("[SequenceData] no series {} among {}", i, size()));
  const auto k = static_cast<std::size_t>(i);
  return {values.data() + starts[k] * num_channels, static_cast<std::size_t>(lengths[k] * num_channels)};
}

std::vector<std::int64_t> SequenceData::class_counts() const {
  std::vector<std::int64_t> counts(class_names.size(), 0);
  for (const std::int64_t label : labels) ++counts[static_cast<std::size_t>(label)];
  return counts;
}

void SequenceData::append(std::span<const float> series, std::int64_t label) {
  const auto channels = static_cast<std::size_t>(num_channels);
  if (series.empty() || series.size() % channels != 0) {
    throw ValueError(fmt::format("[SequenceData] got {} values for {} channels; expected a positive multiple",
                                 series.size(), num_channels));
  }
  if (label < 0 || label >= num_classes()) {
    throw ValueError(fmt::format("[SequenceData] got label {}; expected 0 to {}", label, num_classes() - 1));
  }
  starts.push_back(static_cast<std::int64_t>(values.size() / channels));
  lengths.push_back(static_cast<std::int64_t>(series.size() / channels));
  labels.push_back(label);
  values.insert(values.end(), series.begin(), series.end());
}

SequenceBatch gather_batch(const SequenceData& data, std::span<const std::int64_t> indices, std::int64_t num_steps) {
  if (indices.empty()) throw ValueError("[gather_batch] got no index; expected at least one");
  SequenceBatch batch;
  batch.batch = static_cast<std::int64_t>(indices.size());
  batch.num_channels = data.num_channels;
  std::int64_t longest = 0;
  for (const std::int64_t i : indices) {
    (void)data.series(i);  // checks the index
    longest = std::max(longest, data.lengths[static_cast<std::size_t>(i)]);
  }
  batch.num_steps = num_steps == 0 ? longest : num_steps;
  if (longest > batch.num_steps) {
    throw ValueError(
        fmt::format("[gather_batch] a series has {} steps; expected at most num_steps = {}", longest, num_steps));
  }
  batch.values.assign(static_cast<std::size_t>(batch.num_steps * batch.batch * batch.num_channels), 0.0F);
  const auto channels = static_cast<std::size_t>(data.num_channels);
  const std::size_t row = indices.size() * channels;  // values of one time step
  for (std::size_t b = 0; b < indices.size(); ++b) {
    const std::span<const float> series = data.series(indices[b]);
    for (std::size_t t = 0; t * channels < series.size(); ++t) {
      std::copy_n(series.data() + t * channels, channels, batch.values.data() + t * row + b * channels);
    }
    const auto i = static_cast<std::size_t>(indices[b]);
    batch.lengths.push_back(data.lengths[i]);
    batch.labels.push_back(data.labels[i]);
  }
  return batch;
}

namespace {

SequenceData like(const SequenceData& data) {
  SequenceData result;
  result.name = data.name;
  result.num_channels = data.num_channels;
  result.class_names = data.class_names;
  return result;
}

}  // namespace

SequenceData subset(const SequenceData& data, std::span<const std::int64_t> indices) {
  SequenceData result = like(data);
  for (const std::int64_t i : indices) {
    const std::span<const float> series = data.series(i);
    result.append(series, data.labels[static_cast<std::size_t>(i)]);
  }
  return result;
}

SequenceData mean_pool(const SequenceData& data, std::int64_t factor) {
  if (factor < 1) throw ValueError(fmt::format("[mean_pool] got factor {}; expected at least 1", factor));
  SequenceData result = like(data);
  const std::int64_t channels = data.num_channels;
  std::vector<float> pooled;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const std::span<const float> series = data.series(i);
    const std::int64_t length = data.lengths[static_cast<std::size_t>(i)];
    pooled.clear();
    for (std::int64_t begin = 0; begin < length; begin += factor) {
      const std::int64_t end = std::min(begin + factor, length);
      for (std::int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (std::int64_t t = begin; t < end; ++t) sum += series[static_cast<std::size_t>(t * channels + c)];
        pooled.push_back(static_cast<float>(sum / static_cast<double>(end - begin)));
      }
    }
    result.append(pooled, data.labels[static_cast<std::size_t>(i)]);
  }
  return result;
}

ChannelStatistics channel_statistics(const SequenceData& data) {
  const auto channels = static_cast<std::size_t>(data.num_channels);
  ChannelStatistics statistics{std::vector<double>(channels, 0), std::vector<double>(channels, 0)};
  const std::size_t steps = data.values.size() / channels;
  if (steps == 0) return statistics;
  // Two passes: the one-pass formula loses all digits when the mean is large against the spread.
  for (std::size_t k = 0; k < data.values.size(); ++k) statistics.mean[k % channels] += data.values[k];
  for (double& mean : statistics.mean) mean /= static_cast<double>(steps);
  for (std::size_t k = 0; k < data.values.size(); ++k) {
    const double deviation = data.values[k] - statistics.mean[k % channels];
    statistics.stddev[k % channels] += deviation * deviation;
  }
  for (double& stddev : statistics.stddev) stddev = std::sqrt(stddev / static_cast<double>(steps));
  return statistics;
}

void standardize(SequenceData& data, const ChannelStatistics& statistics) {
  const auto channels = static_cast<std::size_t>(data.num_channels);
  if (statistics.mean.size() != channels || statistics.stddev.size() != channels) {
    throw ValueError(
        fmt::format("[standardize] statistics of {} channels for data of {}", statistics.mean.size(), channels));
  }
  for (std::size_t k = 0; k < data.values.size(); ++k) {
    const std::size_t c = k % channels;
    const double scale = statistics.stddev[c] > 0 ? 1 / statistics.stddev[c] : 1;
    data.values[k] = static_cast<float>((data.values[k] - statistics.mean[c]) * scale);
  }
}

}  // namespace solvent::experiments
