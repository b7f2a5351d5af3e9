#include "solvent/experiments/common/data/mnist.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

namespace {

constexpr std::int64_t kNumDigits = 10;

}  // namespace

ImageSet make_mnist(IdxData images, const IdxData& labels, const std::string& where) {
  if (images.shape.size() != 3 || images.element_bytes != 1 || images.is_signed || labels.shape.size() != 1 ||
      images.shape[0] != labels.shape[0]) {
    throw DataError(fmt::format("[read_mnist] {} have shapes ({}) and ({}); expected bytes (n, height, width) and (n)",
                                where, fmt::join(images.shape, ", "), fmt::join(labels.shape, ", ")));
  }
  ImageSet set;
  set.name = "mnist";
  set.height = images.shape[1];
  set.width = images.shape[2];
  set.class_names = numbered_classes(kNumDigits);
  set.origin = where;
  if (set.image_size() == 0) throw DataError(fmt::format("[read_mnist] {} hold images without pixels", where));
  for (std::int64_t i = 0; i < labels.size(); ++i) {
    const std::int64_t label = labels.integer(i);
    if (label < 0 || label >= kNumDigits) {
      throw DataError(fmt::format("[read_mnist] {}: label {} is {}; expected 0 to 9", where, i, label));
    }
    set.labels.push_back(label);
  }
  set.pixels = std::move(images.bytes);
  return set;
}

ImageSet read_mnist(const std::filesystem::path& images, const std::filesystem::path& labels,
                    const ReadProgress& progress) {
  ImageSet set = make_mnist(read_idx(images, progress), read_idx(labels),
                            fmt::format("{} and {}", images.string(), labels.filename().string()));
  set.origin = images.parent_path().string();
  return set;
}

SequenceData pixel_series(const ImageSet& images, std::int64_t max_series) {
  const std::int64_t steps = images.height * images.width, channels = images.channels;
  SequenceData data;
  data.name = images.name;
  data.num_channels = channels;
  data.class_names = images.class_names;
  const std::int64_t count = max_series > 0 ? std::min(max_series, images.size()) : images.size();
  data.values.reserve(static_cast<std::size_t>(count * images.image_size()));
  std::vector<float> series(static_cast<std::size_t>(images.image_size()));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::span<const std::uint8_t> image = images.image(i);
    for (std::int64_t t = 0; t < steps; ++t) {
      for (std::int64_t c = 0; c < channels; ++c) {
        series[static_cast<std::size_t>(t * channels + c)] =
            static_cast<float>(image[static_cast<std::size_t>(c * steps + t)]) / static_cast<float>(images.max_value);
      }
    }
    data.append(series, images.labels[static_cast<std::size_t>(i)]);
  }
  return data;
}

}  // namespace solvent::experiments
