// The image loader on CIFAR-like data: shuffled, flipped, cut, normalised; batches of 128 on one thread. Peer: the same work
// written as plain loops.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/tests/bench/compare.h"

namespace solvent::bench {
namespace {

using namespace solvent::experiments;

constexpr std::int64_t kBatch = 128, kImages = 20000;
constexpr double kImagesPerSecond = 30000;  // on one core, beside training

std::shared_ptr<const ImageSet> cifar_like() {
  auto set = std::make_shared<ImageSet>();
  set->channels = 3;
  set->height = set->width = 32;
  set->class_names = numbered_classes(10);
  const Key key(1);
  for (std::int64_t i = 0; i < kImages; ++i) set->labels.push_back(i % 10);
  set->pixels.resize(static_cast<std::size_t>(kImages * set->image_size()));
  for (std::size_t k = 0; k < set->pixels.size(); ++k)
    set->pixels[k] = static_cast<std::uint8_t>(key.bits(k / 4) >> k % 4 * 8);
  return set;
}

ImageLoaderSettings settings_of(std::int64_t prefetch) {
  return {.batch_size = kBatch,
          .seed = 7,
          .augmentation = {.flip = true, .crop_padding = 4},
          .normalization = normalization::equilibrium_cifar(),
          .prefetch = prefetch};
}

/// Flip, padding with the edge, cut and normalisation pixel by pixel.
void by_definition(const ImageSet& set, std::int64_t step, std::vector<float>& out) {
  const Normalization n = normalization::equilibrium_cifar();
  const Key key = Key(7).fold_in(static_cast<std::uint64_t>(step));
  std::size_t next = 0;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    const Key own = key.fold_in(static_cast<std::uint64_t>(b));
    const std::int64_t i = own.bits(3) % kImages;
    const bool flip = own.bits(0) % 2 == 1;
    const std::int64_t dy = own.bits(1) % 9 - std::int64_t{4}, dx = own.bits(2) % 9 - std::int64_t{4};
    for (std::int64_t c = 0; c < 3; ++c) {
      const auto mean = static_cast<float>(n.mean[static_cast<std::size_t>(c)]);
      const auto scale = static_cast<float>(1 / n.stddev[static_cast<std::size_t>(c)]);
      for (std::int64_t y = 0; y < 32; ++y) {
        for (std::int64_t x = 0; x < 32; ++x) {
          const std::int64_t row = std::clamp<std::int64_t>(y + dy, 0, 31);
          std::int64_t column = std::clamp<std::int64_t>(x + dx, 0, 31);
          if (flip) column = 31 - column;
          const std::uint8_t pixel = set.pixels[static_cast<std::size_t>(((i * 3 + c) * 32 + row) * 32 + column)];
          out[next++] = (static_cast<float>(pixel) / 255 - mean) * scale;
        }
      }
    }
  }
}

/// One batch, made by the calling thread; items are images.
Row batch_row() {
  const auto images = cifar_like();
  const auto loader = std::make_shared<ImageLoader>(images, settings_of(0));
  const auto out = std::make_shared<std::vector<float>>(static_cast<std::size_t>(kBatch * 3072));
  const auto step = std::make_shared<std::int64_t>(0);
  Row row;
  row.run = [loader] {
    const NumThreadsGuard one(1);
    keep(loader->next().images);
  };
  row.items = static_cast<double>(kBatch);
  row.at_most = 1 / kImagesPerSecond;
  row.rounds = 301;  // 20,000 images: two epochs, so the shuffle is in the figure
  row.note = "flip, edge-padded cut, normalise; one thread";
  row.peers = {{.name = "plain loops", .run = [images, out, step] {
                  by_definition(*images, (*step)++, *out);
                  benchmark::DoNotOptimize(out->data());
                }}};
  return row;
}

const bool kRegistered = add_row("loader/cifar_augmented_B128", batch_row);

}  // namespace
}  // namespace solvent::bench
