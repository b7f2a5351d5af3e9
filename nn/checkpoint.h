#pragma once
/// Training state in one safetensors file. (`nn::checkpoint` in functional.h is something else: recomputation.)

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "solvent/nn/module.h"
#include "solvent/nn/optim/optimizer.h"

namespace solvent::nn {

/// Texts by name, stored in the file's header.
using Metadata = std::map<std::string, std::string>;

/// What a checkpoint holds. Names become prefixes: tensor "model/encoder.weight", "adam/exp_avg.0".
struct CheckpointParts {
  std::vector<std::pair<std::string, Module*>> modules = {};        ///< parameters and buffers by name
  std::vector<std::pair<std::string, Optimizer*>> optimizers = {};  ///< their state dicts
  /// Any other tensors by name, such as a solver's warm starts or averaged weights. Loading replaces the whole list by
  /// what the file has (nothing, if it was empty).
  std::vector<std::pair<std::string, StateDict*>> tensors = {};
};

/// Writes all parts and the metadata (any strings: numbers, JSON) atomically: a full disk or a crash leaves the
/// previous file intact. @throws IoError; ValueError for names that are used twice or contain "/"
SOLVENT_API void save_checkpoint(const std::string& path, const CheckpointParts& parts, const Metadata& metadata = {});

/// Reads, verifies all parts, then assigns them; on any error nothing has changed. Returns the metadata.
/// @throws IoError for files that are missing, damaged or do not fit the parts, listing all differences
SOLVENT_API Metadata load_checkpoint(const std::string& path, const CheckpointParts& parts);

/// Only the metadata, e.g. to find out what to build.
SOLVENT_API Metadata read_checkpoint_metadata(const std::string& path);

}  // namespace solvent::nn
