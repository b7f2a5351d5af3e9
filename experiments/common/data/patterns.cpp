#include "solvent/experiments/common/data/patterns.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/ops/random.h"

namespace solvent::experiments {

namespace {

constexpr std::uint64_t kTemplates = 0, kTrain = 1, kTest = 2;  // streams

std::vector<float> normals(const Key& key, const PatternSettings& s) {
  return normal(key, {s.channels, s.size, s.size}, 0, 1, float32).to_vector<float>();
}

/// Mean over the 3 x 3 pixels around each one; pixels outside count as zeros.
std::vector<float> smooth(const std::vector<float>& image, const PatternSettings& s) {
  std::vector<float> result(image.size());
  const auto at = [&](std::int64_t c, std::int64_t y, std::int64_t x) {
    const bool inside = y >= 0 && y < s.size && x >= 0 && x < s.size;
    return inside ? static_cast<double>(image[static_cast<std::size_t>((c * s.size + y) * s.size + x)]) : 0.0;
  };
  std::size_t next = 0;
  for (std::int64_t c = 0; c < s.channels; ++c) {
    for (std::int64_t y = 0; y < s.size; ++y) {
      for (std::int64_t x = 0; x < s.size; ++x) {
        double sum = 0;
        for (std::int64_t dy = -1; dy <= 1; ++dy) {
          for (std::int64_t dx = -1; dx <= 1; ++dx) sum += at(c, y + dy, x + dx);
        }
        result[next++] = static_cast<float>(s.template_scale * sum / 9);
      }
    }
  }
  return result;
}

/// Uniform in [-max_shift, max_shift].
std::int64_t draw_shift(const Key& key, std::uint64_t i, std::int64_t max_shift) {
  return static_cast<std::int64_t>(key.uniform(i) * static_cast<double>(2 * max_shift + 1)) - max_shift;
}

ImageSet make_part(const PatternSettings& s, const std::vector<std::vector<float>>& templates, std::int64_t count,
                   const Key& key) {
  ImageSet set;
  set.name = "patterns";
  set.origin = "generated";
  set.channels = s.channels;
  set.height = set.width = s.size;
  set.max_value = 1;
  set.class_names = numbered_classes(s.num_classes);
  set.values.reserve(static_cast<std::size_t>(count * set.image_size()));
  for (std::int64_t i = 0; i < count; ++i) {
    const Key own = key.fold_in(static_cast<std::uint64_t>(i));
    const std::int64_t label = i % s.num_classes;
    std::vector<float> image = normals(own.fold_in(0), s);
    const std::vector<float>& pattern = templates[static_cast<std::size_t>(label)];
    for (std::size_t k = 0; k < image.size(); ++k) image[k] = pattern[k] + static_cast<float>(s.noise) * image[k];
    const Key shift = own.fold_in(1);
    const std::int64_t dy = draw_shift(shift, 0, s.max_shift), dx = draw_shift(shift, 1, s.max_shift);
    for (std::int64_t c = 0; c < s.channels; ++c) {
      for (std::int64_t y = 0; y < s.size; ++y) {
        for (std::int64_t x = 0; x < s.size; ++x) {
          const std::int64_t from_y = (y - dy + s.size) % s.size, from_x = (x - dx + s.size) % s.size;
          set.values.push_back(image[static_cast<std::size_t>((c * s.size + from_y) * s.size + from_x)]);
        }
      }
    }
    set.labels.push_back(label);
  }
  return set;
}

}  // namespace

ImageSplits make_patterns(const PatternSettings& s) {
  if (s.num_classes < 1 || s.num_train < 1 || s.num_test < 1 || s.channels < 1 || s.size < 1 ||
      !(s.template_scale >= 0) || !(s.noise >= 0) || s.max_shift < 0 || s.max_shift >= s.size) {
    throw ValueError(fmt::format(
        "[make_patterns] got {} classes, {} + {} images of {} x {} x {}, scales {} and {}, shift {}; expected "
        "at least 1 of each, scales >= 0, 0 <= shift < size",
        s.num_classes, s.num_train, s.num_test, s.channels, s.size, s.size, s.template_scale, s.noise, s.max_shift));
  }
  const Key key(s.seed, 0x7061747465726e73);  // "patterns"
  std::vector<std::vector<float>> templates;
  for (std::int64_t k = 0; k < s.num_classes; ++k) {
    templates.push_back(smooth(normals(key.fold_in(kTemplates).fold_in(static_cast<std::uint64_t>(k)), s), s));
  }
  return {make_part(s, templates, s.num_train, key.fold_in(kTrain)),
          make_part(s, templates, s.num_test, key.fold_in(kTest))};
}

}  // namespace solvent::experiments
