#pragma once
/// A folder of checkpoints of one run: written so that a kill, a crash or a full disk at any moment costs at most the
/// steps since the last one.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "solvent/nn/checkpoint.h"
#include "solvent/nn/state_values.h"

namespace solvent::nn {

/// Checkpoints `step-00000120.safetensors` (tensors) with `step-00000120.json` (small values, size and checksum of the
/// tensors, and a checksum of its own). The JSON file appears last: it marks the checkpoint as complete.
///
///     CheckpointStore store("runs/a/checkpoint");
///     CheckpointParts parts{.modules = {{"model", &model}}, .optimizers = {{"adam", &adam}}, .tensors = {{"guess", &guess}}};
///     std::int64_t step = 0;
///     if (auto found = store.load(parts)) {
///       step = found->step;
///       key = found->state.key("key");
///       for (const std::string& warning : found->warnings) std::cerr << warning << '\n';
///     }
///     ...
///     store.save(step, parts, state);
///
/// Every file is written under another name, flushed to disk and renamed; the files of an earlier checkpoint are removed
/// only when enough later ones are complete. One process may write to a folder at a time.
class SOLVENT_API CheckpointStore {
 public:
  /// What a store keeps.
  struct Options {
    int keep = 2;  ///< complete checkpoints to keep, the newest ones; at least 1
  };

  /// The folder need not exist yet. @throws ValueError for keep < 1
  explicit CheckpointStore(std::string directory) : CheckpointStore(std::move(directory), Options{}) {}
  /// The same with options. @throws ValueError for keep < 1
  CheckpointStore(std::string directory, Options options);

  /// Writes a checkpoint after `step` steps; makes the folder. The same step may be saved again.
  /// @throws IoError (disk full, ...), after which the earlier checkpoints are as they were; ValueError for a negative
  /// step or one below that of an existing checkpoint, and as save_checkpoint
  void save(std::int64_t step, const CheckpointParts& parts, const StateValues& state = {});

  /// What load found besides the parts.
  struct Loaded {
    std::int64_t step = 0;              ///< steps taken when it was saved
    StateValues state;                  ///< what save was given
    std::vector<std::string> warnings;  ///< damaged or unfinished checkpoints that were passed over, one line each
  };
  /// Loads the newest checkpoint that is complete and undamaged; nothing if there is none at all.
  /// @throws IoError if all are damaged, or if the newest undamaged one does not fit the parts (nothing changes then)
  std::optional<Loaded> load(const CheckpointParts& parts);

  /// Steps of the checkpoints that are marked complete, newest first.
  [[nodiscard]] std::vector<std::int64_t> steps() const;
  /// The folder.
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }

 private:
  struct Entry {
    std::int64_t step = 0;
    std::int64_t repeat = 1;  ///< counts checkpoints of the same step
    std::string stem;         ///< file name without its ending
  };
  struct Listing;
  struct Manifest;
  [[nodiscard]] Listing list() const;
  [[nodiscard]] std::string file(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] bool is_damaged(const Entry& entry) const;
  [[nodiscard]] Manifest read_intact(const Entry& entry) const;
  void remove(const Entry& entry) const;

  std::string directory_;
  Options options_;
  std::vector<std::string> damaged_;  // stems that load() found damaged: save() removes them
};

}  // namespace solvent::nn
