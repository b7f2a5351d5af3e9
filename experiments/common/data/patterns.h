#pragma once
/// A classification task of small noisy images that needs no download (the synthetic task of the equilibrium propagation
/// experiments): each class has a smooth random template; an image is its template plus noise, shifted a little.

#include <cstdint>

#include "solvent/experiments/common/data/image_set.h"

namespace solvent::experiments {

struct PatternSettings {
  std::int64_t num_classes = 10, num_train = 4000, num_test = 1000;
  std::int64_t channels = 3, size = 16;  ///< images are size x size
  double template_scale = 1.5;           ///< of standard normal numbers averaged over 3 x 3 pixels (zeros outside)
  double noise = 1;                      ///< standard deviation
  std::int64_t max_shift = 2;            ///< images are rolled by at most so many pixels in both directions
  std::uint64_t seed = 0;
};

/// Images of floats, about -4 to 4, not to be scaled or normalised. Classes take turns, so they are balanced. Template k
/// depends on (seed, k), image i of a part on (seed, part, i) only; the bits are the same for any number of threads.
/// @throws ValueError for counts below 1, a negative scale, or a shift that is not below the size
ImageSplits make_patterns(const PatternSettings& settings);

}  // namespace solvent::experiments
