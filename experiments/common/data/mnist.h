#pragma once
/// MNIST and the sets of the same form (Fashion-MNIST): an idx file of images and one of labels.

#include <filesystem>
#include <string>

#include "solvent/experiments/common/data/idx.h"
#include "solvent/experiments/common/data/image_set.h"
#include "solvent/experiments/common/data/sequence_data.h"

namespace solvent::experiments {

/// Puts the arrays of the two files together: images (n, height, width) of bytes, labels (n) of 0 to 9.
/// @param where  names of the two files for messages.  @throws DataError if they do not belong together
ImageSet make_mnist(IdxData images, const IdxData& labels, const std::string& where);

/// Reads both files, plain, gzip or xz. @throws DataError, MissingDataError
ImageSet read_mnist(const std::filesystem::path& images, const std::filesystem::path& labels,
                    const ReadProgress& progress = {});

/// Images as series of height * width steps, row by row, one step per pixel with all its channels, values 0 to 1 (the
/// sequential MNIST and CIFAR tasks). The first `max_series` of them, 0 for all.
/// @throws ValueError for images of floats or without pixels
SequenceData pixel_series(const ImageSet& images, std::int64_t max_series = 0);

}  // namespace solvent::experiments
