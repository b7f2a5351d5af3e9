#pragma once
/// Labelled images of one size.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/data/input_stream.h"

namespace solvent::experiments {

/// Images with one class each, in the order (n, channels, height, width). Files have bytes, generators have floats.
struct ImageSet {
  std::string name;
  std::int64_t channels = 1, height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  ///< (n, channels, height, width), or empty
  std::vector<float> values;         ///< the same for generated images, or empty
  double max_value = 255;            ///< of a pixel; images are scaled by 1 / max_value
  std::vector<std::int64_t> labels;  ///< (n) index into class_names
  std::vector<std::string> class_names;
  std::vector<std::int64_t> coarse_labels;      ///< (n) index into coarse_class_names; CIFAR-100 only
  std::vector<std::string> coarse_class_names;  ///< CIFAR-100 only
  std::string origin;                           ///< file or folder, and how much of the set was found there

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  /// Numbers per image.
  [[nodiscard]] std::int64_t image_size() const { return channels * height * width; }
  [[nodiscard]] std::int64_t num_classes() const { return static_cast<std::int64_t>(class_names.size()); }
  /// Pixels of one image. @throws ValueError for an index out of range, or if the images are floats
  [[nodiscard]] std::span<const std::uint8_t> image(std::int64_t i) const;
  /// Number of images of each class.
  [[nodiscard]] std::vector<std::int64_t> class_counts() const;
};

/// Training and test images with the same classes and size.
struct ImageSplits {
  ImageSet train, test;
};

/// The given images, in this order. @throws ValueError for an index out of range.
ImageSet subset(const ImageSet& data, std::span<const std::int64_t> indices);

/// Images of the given classes only, relabelled 0, 1, ... in the order of `classes`.
/// @throws ValueError for a class out of range or given twice.
ImageSet select_classes(const ImageSet& data, std::span<const std::int64_t> classes);

/// "0", "1", ..., as names of classes that have none.
std::vector<std::string> numbered_classes(std::int64_t count);

}  // namespace solvent::experiments
