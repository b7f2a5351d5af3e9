#include "solvent/experiments/common/data/image_loader.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::experiments {

namespace normalization {

Normalization unit() { return {}; }
Normalization signed_unit(std::int64_t channels) {
  const auto n = static_cast<std::size_t>(std::max<std::int64_t>(channels, 0));
  return {std::vector<double>(n, 0.5), std::vector<double>(n, 0.5)};
}
Normalization pilimit_cifar10() { return {{0.49137255, 0.48235294, 0.44666667}, {0.24705882, 0.24352941, 0.26156863}}; }
Normalization pilimit_imagenet32() { return {{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}; }
Normalization equilibrium_cifar() { return {{0.4914, 0.4822, 0.4465}, {3 * 0.2023, 3 * 0.1994, 3 * 0.2010}}; }
Normalization equilibrium_imagenet32() { return {{0.485, 0.456, 0.406}, {1.5 * 0.229, 1.5 * 0.224, 1.5 * 0.225}}; }
Normalization deer_cifar10() { return {{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}}; }
Normalization deer_cifar10_type2() { return {{0.4914, 0.4822, 0.4465}, {0.2023, 0.1994, 0.2010}}; }

}  // namespace normalization

namespace {

constexpr std::uint64_t kAugmentStream = 0x6175676d656e74;  // "augment": apart from order, initialisation, dropout
constexpr std::int64_t kOutside = -1;

/// What happens to one image.
struct Draw {
  bool flip = false;
  std::int64_t shift_y = 0, shift_x = 0;  ///< output (y, x) comes from (y + shift_y, x + shift_x), then flipped
};

}  // namespace

/// Makes batches; used by one thread at a time.
class ImageLoader::Maker {
 public:
  Maker(std::shared_ptr<const ImageSet> images, const ImageLoaderSettings& settings)
      : images_(std::move(images)),
        settings_(settings),
        sampler_({.num_examples = images_ ? images_->size() : 0,
                  .batch_size = settings.batch_size,
                  .seed = settings.seed,
                  .shuffle = settings.shuffle,
                  .drop_last = settings.drop_last}) {
    const auto channels = static_cast<std::size_t>(images_->channels);
    Normalization& n = settings_.normalization;
    const bool is_default = n.mean.empty() && n.stddev.empty();
    if (is_default) n = {std::vector<double>(channels, 0.0), std::vector<double>(channels, 1.0)};
    const bool fits = n.mean.size() == channels && n.stddev.size() == channels &&
                      std::all_of(n.stddev.begin(), n.stddev.end(), [](double s) { return s > 0; });
    if (!fits || settings_.augmentation.crop_padding < 0 || settings_.prefetch < 0) {
      throw ValueError(fmt::format(
          "[ImageLoader] got {} means and {} deviations for {} channels, crop padding {}, prefetch {}; "
          "expected one positive deviation and one mean per channel, and numbers >= 0",
          n.mean.size(), n.stddev.size(), channels, settings_.augmentation.crop_padding, settings_.prefetch));
    }
    make_table();
  }

  [[nodiscard]] const EpochSampler& sampler() const { return sampler_; }
  [[nodiscard]] const ImageSet& images() const { return *images_; }
  [[nodiscard]] const ImageLoaderSettings& settings() const { return settings_; }

  ImageBatch make(std::int64_t step) {
    const std::vector<std::int64_t> indices = sampler_.batch(step);
    const auto count = static_cast<std::int64_t>(indices.size());
    ImageBatch batch;
    batch.step = step;
    batch.epoch = sampler_.epoch_of(step);
    batch.images = engine::empty({count, images_->channels, images_->height, images_->width}, DType::float32);
    float* out = engine::mutable_ptr<float>(batch.images);
    const Key key = Key(settings_.seed, kAugmentStream).fold_in(static_cast<std::uint64_t>(batch.epoch));
    std::vector<std::int64_t> labels(indices.size());
    const auto fill = [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int64_t> columns(static_cast<std::size_t>(images_->width));
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t i = indices[static_cast<std::size_t>(b)];
        labels[static_cast<std::size_t>(b)] = images_->labels[static_cast<std::size_t>(i)];
        write_image(i, draw(key.fold_in(static_cast<std::uint64_t>(i))), columns, out + b * images_->image_size());
      }
    };
    // A background thread has one core's worth of work and leaves the other threads to the training step.
    if (settings_.prefetch > 0) {
      fill(0, count);
    } else {
      parallel_for(count, kImagesPerBlock, fill);
    }
    batch.labels = from_vector(labels, {count});
    return batch;
  }

 private:
  static constexpr std::int64_t kImagesPerBlock = 32;

  /// Normalised value of every byte: one rounding from the exact value, the same on every machine.
  void make_table() {
    for (std::size_t c = 0; c < settings_.normalization.mean.size(); ++c) {
      for (int byte = 0; byte < 256; ++byte) table_.push_back(normalized(byte, c));
    }
  }

  [[nodiscard]] float normalized(double value, std::size_t channel) const {
    const Normalization& n = settings_.normalization;
    return static_cast<float>((value / images_->max_value - n.mean[channel]) / n.stddev[channel]);
  }

  [[nodiscard]] Draw draw(const Key& key) const {
    const Augmentation& a = settings_.augmentation;
    Draw d;
    if (a.flip) d.flip = (key.bits(0) & 1U) != 0;
    if (a.crop_padding > 0) {
      // The remainder favours small numbers by less than 2^-27.
      const auto choices = static_cast<std::uint64_t>(2 * a.crop_padding + 1);
      d.shift_y = static_cast<std::int64_t>(key.bits(1) % choices) - a.crop_padding;
      d.shift_x = static_cast<std::int64_t>(key.bits(2) % choices) - a.crop_padding;
    }
    return d;
  }

  /// Position in the image that padding repeats, or kOutside.
  [[nodiscard]] std::int64_t source(std::int64_t position, std::int64_t extent) const {
    const bool is_inside = position >= 0 && position < extent;
    if (!is_inside && settings_.augmentation.padding == Augmentation::Padding::zero) return kOutside;
    return std::clamp<std::int64_t>(position, 0, extent - 1);
  }

  void write_image(std::int64_t i, const Draw& d, std::vector<std::int64_t>& columns, float* out) const {
    const std::int64_t height = images_->height, width = images_->width;
    bool has_outside = false;
    for (std::int64_t x = 0; x < width; ++x) {
      // The image is flipped first: cutting then counts from the other side.
      const std::int64_t from = source(x + d.shift_x, width);
      columns[static_cast<std::size_t>(x)] = from == kOutside ? kOutside : d.flip ? width - 1 - from : from;
      has_outside = has_outside || from == kOutside;
    }
    for (std::int64_t c = 0; c < images_->channels; ++c) {
      const std::int64_t plane = (i * images_->channels + c) * height * width;
      for (std::int64_t y = 0; y < height; ++y, out += width) {
        const std::int64_t from = source(y + d.shift_y, height);
        if (images_->pixels.empty()) {
          write_row(images_->values.data(), plane, from, columns, static_cast<std::size_t>(c), out);
        } else if (from != kOutside && !has_outside) {
          const float* table = table_.data() + c * 256;
          const std::uint8_t* row = images_->pixels.data() + plane + from * width;
          for (std::size_t x = 0; x < columns.size(); ++x) out[x] = table[row[columns[x]]];
        } else {
          write_row(images_->pixels.data(), plane, from, columns, static_cast<std::size_t>(c), out);
        }
      }
    }
  }

  /// The general row: floats, or zeros outside.
  template <class T>
  void write_row(const T* values, std::int64_t plane, std::int64_t row, const std::vector<std::int64_t>& columns,
                 std::size_t channel, float* out) const {
    for (std::size_t x = 0; x < columns.size(); ++x) {
      const bool is_outside = row == kOutside || columns[x] == kOutside;
      const std::int64_t at = plane + row * images_->width + columns[x];
      out[x] = normalized(is_outside ? 0.0 : static_cast<double>(values[at]), channel);
    }
  }

  std::shared_ptr<const ImageSet> images_;
  ImageLoaderSettings settings_;
  EpochSampler sampler_;
  std::vector<float> table_;  // (channels, 256)
};

ImageLoader::ImageLoader(std::shared_ptr<const ImageSet> images, const ImageLoaderSettings& settings) {
  if (!images) throw ValueError("[ImageLoader] got no images");
  maker_ = std::make_shared<Maker>(std::move(images), settings);
  prefetcher_ = std::make_unique<BatchPrefetcher<ImageBatch>>(
      [maker = maker_](std::int64_t step) { return maker->make(step); }, 0, settings.prefetch, settings.device);
}

ImageLoader::~ImageLoader() = default;

std::int64_t ImageLoader::batches_per_epoch() const { return maker_->sampler().batches_per_epoch(); }

void ImageLoader::seek(std::int64_t step) {
  if (step < 0) throw ValueError(fmt::format("[ImageLoader] got step {}; expected a step >= 0", step));
  prefetcher_->seek(step);
}

namespace {

/// What must agree between the loader that wrote a state and the one that reads it.
nlohmann::json identity_of(const ImageSet& images, const ImageLoaderSettings& s) {
  return {{"num_images", images.size()},
          {"batch_size", s.batch_size},
          {"seed", s.seed},
          {"shuffle", s.shuffle},
          {"drop_last", s.drop_last}};
}

}  // namespace

std::string ImageLoader::state() const {
  nlohmann::json state = identity_of(maker_->images(), maker_->settings());
  state["kind"] = "image_loader";
  state["step"] = step();
  return state.dump();
}

void ImageLoader::restore(const std::string& text) {
  const nlohmann::json state = nlohmann::json::parse(text, nullptr, false);
  const bool is_state = state.is_object() && state.value("kind", nlohmann::json()) == "image_loader" &&
                        state.contains("step") && state["step"].is_number_integer();
  if (!is_state)
    throw ValueError("[ImageLoader] got a text that is no state of an image loader; expected one of state()");
  const nlohmann::json expected = identity_of(maker_->images(), maker_->settings());
  for (const auto& [key, value] : expected.items()) {
    if (!state.contains(key) || state[key] != value) {
      throw ValueError(
          fmt::format("[ImageLoader] the state has {} {}, this loader {}; resume with the same data and "
                      "settings",
                      key, state.contains(key) ? state[key].dump() : "(none)", value.dump()));
    }
  }
  seek(state["step"].get<std::int64_t>());
}

std::vector<Tensor*> tensors_of(ImageBatch& batch) { return {&batch.images, &batch.labels}; }

}  // namespace solvent::experiments
