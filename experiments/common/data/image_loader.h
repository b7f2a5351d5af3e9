#pragma once
/// Batches of images for training: shuffled, augmented, normalised, prepared in the background.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "solvent/core/tensor.h"
#include "solvent/experiments/common/data/batch_prefetcher.h"
#include "solvent/experiments/common/data/image_set.h"
#include "solvent/experiments/common/data/sampler.h"

namespace solvent::experiments {

/// (x / max_value - mean) / stddev per channel.
struct Normalization {
  std::vector<double> mean = {}, stddev = {};  ///< one number per channel; empty: x / max_value
};

/// Constants of the experiments, with their sources.
namespace normalization {
/// Values in [0, 1].
Normalization unit();
/// Values in [-1, 1] (PixelCNN++ and MADE samplers: 2 x - 1).
Normalization signed_unit(std::int64_t channels);
/// CIFAR-10 statistics of the infinite-width experiments (Yang, Santacroce and Hu 2022, released code).
Normalization pilimit_cifar10();
/// ImageNet statistics of the infinite-width transfer experiment.
Normalization pilimit_imagenet32();
/// CIFAR-10 and CIFAR-100 in the equilibrium propagation experiments (Nest and Ernoult 2024): three times the usual
/// standard deviation, for both sets.
Normalization equilibrium_cifar();
/// ImageNet32 in the same experiments: one and a half times the usual standard deviation.
Normalization equilibrium_imagenet32();
/// Sequential CIFAR-10 of the DEER experiments, "normtype 1" (true deviations) and "normtype 2".
/// @{
Normalization deer_cifar10();
Normalization deer_cifar10_type2();
/// @}
}  // namespace normalization

/// Random changes of training images, drawn anew for each image in each epoch.
struct Augmentation {
  enum class Padding { edge, zero };
  bool flip = false;                ///< mirror left and right with probability 1/2
  std::int64_t crop_padding = 0;    ///< cut out the original size after padding by so many pixels on each side
  Padding padding = Padding::edge;  ///< repeat the outermost pixels, or put zeros (before normalisation)
};

struct ImageLoaderSettings {
  std::int64_t batch_size = 128;
  std::uint64_t seed = 0;
  bool shuffle = true;
  bool drop_last = false;  ///< leave out an incomplete last batch of an epoch
  Augmentation augmentation = {};
  Normalization normalization = {};
  std::int64_t prefetch = 2;  ///< batches prepared ahead by a background thread; 0: prepared when asked for
  Device device = {};         ///< where batches arrive; copied to a GPU beside the training step (batch_prefetcher.h)
};

/// What a step of training consumes.
struct ImageBatch {
  Tensor images;  ///< (B, channels, height, width) float32
  Tensor labels;  ///< (B) int64
  std::int64_t step = 0, epoch = 0;
};

/// What a loader for a GPU copies.
std::vector<Tensor*> tensors_of(ImageBatch& batch);

/// An endless sequence of batches. Batch `step` is a pure function of the settings and the step: the order comes from
/// (seed, epoch), the changes of image i from (seed, epoch, i). So the bits are the same for any number of threads and any
/// prefetch depth, on any device, and a resumed run needs the step only.
///
///     ImageLoader loader(train, {.batch_size = 128, .seed = seed, .augmentation = {.flip = true, .crop_padding = 4}});
///     for (std::int64_t step = 0; step < num_steps; ++step) train_step(loader.next());
class ImageLoader {
 public:
  /// @throws ValueError if there are no images, the batch is not positive, drop_last leaves no batch, or the numbers of the
  /// normalisation do not fit the channels; DeviceError if this build or machine does not have the device.
  ImageLoader(std::shared_ptr<const ImageSet> images, const ImageLoaderSettings& settings);
  ~ImageLoader();

  /// The next batch. On a GPU for the stream that is current now.
  ImageBatch next() { return prefetcher_->next(); }
  /// Number of the next batch, counted over all epochs.
  [[nodiscard]] std::int64_t step() const { return prefetcher_->step(); }
  [[nodiscard]] std::int64_t epoch() const { return step() / batches_per_epoch(); }
  [[nodiscard]] std::int64_t batches_per_epoch() const;
  /// Goes on from batch `step`. @throws ValueError for a negative step
  void seek(std::int64_t step);

  /// The position, with what it depends on, as JSON text for a checkpoint.
  [[nodiscard]] std::string state() const;
  /// Goes on from a position that state() described. @throws ValueError if it is no such text, or comes from a loader with
  /// another seed, batch size, order or number of images (naming what differs).
  void restore(const std::string& state);

 private:
  class Maker;
  std::shared_ptr<Maker> maker_;
  std::unique_ptr<BatchPrefetcher<ImageBatch>> prefetcher_;
};

}  // namespace solvent::experiments
