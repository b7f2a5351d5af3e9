#pragma once
/// CIFAR-10 and CIFAR-100, "binary version" (Krizhevsky 2009): records of the label byte (CIFAR-100: coarse label, fine
/// label), then 1024 red, 1024 green and 1024 blue bytes, row by row.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "solvent/experiments/common/data/image_set.h"

namespace solvent::experiments {

enum class Cifar { ten, hundred };

/// Images of one file (`.bin`, also compressed by gzip or xz), with numbers as class names.
/// @throws DataError naming file and record for a label out of range or an incomplete record; MissingDataError.
ImageSet read_cifar(const std::filesystem::path& file, Cifar kind, const ReadProgress& progress = {});

/// The same from bytes in memory; `name` stands for the path in messages.
ImageSet parse_cifar(std::span<const std::byte> bytes, Cifar kind, const std::string& name = "memory");

/// Training and test images with class names from what `folder` holds: the distributor's `.bin` files, each also as
/// `.bin.gz` or `.bin.xz`, in the folder itself or in `cifar10/`, `cifar-10-batches-bin/` (`cifar100/`,
/// `cifar-100-binary/`); or his archive `cifar-10-binary.tar.gz`, read as a stream and never unpacked to disk.
/// Training batches that are missing are left out, unless the archive is there too: `train.origin` says how many were found.
/// @throws MissingDataError if there is no training batch or no test file; DataError as read_cifar().
ImageSplits load_cifar(const std::filesystem::path& folder, Cifar kind, const ReadProgress& progress = {});

/// Whether load_cifar() would find a training and a test file.
bool has_cifar(const std::filesystem::path& folder, Cifar kind);

}  // namespace solvent::experiments
