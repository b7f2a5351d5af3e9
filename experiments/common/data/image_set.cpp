#include "solvent/experiments/common/data/image_set.h"

#include <algorithm>

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::experiments {

std::span<const std::uint8_t> ImageSet::image(std::int64_t i) const {
  if (i < 0 || i >= size() || pixels.empty()) {
    throw ValueError(fmt::format("[ImageSet] no image {} of bytes among {}", i, pixels.empty() ? 0 : size()));
  }
  return std::span(pixels).subspan(static_cast<std::size_t>(i * image_size()), static_cast<std::size_t>(image_size()));
}

std::vector<std::int64_t> ImageSet::class_counts() const {
  std::vector<std::int64_t> counts(class_names.size(), 0);
  for (const std::int64_t label : labels) ++counts[static_cast<std::size_t>(label)];
  return counts;
}

namespace {

/// All but the images themselves.
ImageSet like(const ImageSet& data) {
  ImageSet result;
  result.name = data.name;
  result.channels = data.channels;
  result.height = data.height;
  result.width = data.width;
  result.max_value = data.max_value;
  result.class_names = data.class_names;
  result.coarse_class_names = data.coarse_class_names;
  result.origin = data.origin;
  return result;
}

}  // namespace

ImageSet subset(const ImageSet& data, std::span<const std::int64_t> indices) {
  ImageSet result = like(data);
  const std::int64_t size = data.image_size();
  for (const std::int64_t i : indices) {
    if (i < 0 || i >= data.size()) throw ValueError(fmt::format("[subset] no image {} among {}", i, data.size()));
    const std::int64_t begin = i * size, end = begin + size;
    if (!data.pixels.empty()) {
      result.pixels.insert(result.pixels.end(), data.pixels.begin() + begin, data.pixels.begin() + end);
    }
    if (!data.values.empty()) {
      result.values.insert(result.values.end(), data.values.begin() + begin, data.values.begin() + end);
    }
    result.labels.push_back(data.labels[static_cast<std::size_t>(i)]);
    if (!data.coarse_labels.empty()) result.coarse_labels.push_back(data.coarse_labels[static_cast<std::size_t>(i)]);
  }
  return result;
}

ImageSet select_classes(const ImageSet& data, std::span<const std::int64_t> classes) {
  std::vector<std::int64_t> new_label(data.class_names.size(), -1);
  std::vector<std::string> names;
  for (const std::int64_t c : classes) {
    if (c < 0 || c >= data.num_classes() || new_label[static_cast<std::size_t>(c)] >= 0) {
      throw ValueError(
          fmt::format("[select_classes] got class {}; expected distinct classes 0 to {}", c, data.num_classes() - 1));
    }
    new_label[static_cast<std::size_t>(c)] = static_cast<std::int64_t>(names.size());
    names.push_back(data.class_names[static_cast<std::size_t>(c)]);
  }
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    if (new_label[static_cast<std::size_t>(data.labels[static_cast<std::size_t>(i)])] >= 0) kept.push_back(i);
  }
  ImageSet result = subset(data, kept);
  for (std::int64_t& label : result.labels) label = new_label[static_cast<std::size_t>(label)];
  result.class_names = std::move(names);
  return result;
}

std::vector<std::string> numbered_classes(std::int64_t count) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace solvent::experiments
