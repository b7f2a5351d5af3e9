#pragma once
/// Parameters from other programs: names are rewritten and layouts changed by rules, then compared with the module.
///
///     nn::ImportRules rules;
///     rules.drop_prefix("module.")                              // torch.nn.DataParallel
///          .rename(R"(fc(\d+)\.(.*))", "layers.$1.$2")
///          .transpose(R"(layers\.\d+\.weight)")                 // (in, out) there, (out, in) here
///          .ignore(R"(.*\.num_batches_tracked)");
///     nn::LoadReport report = nn::compare_import(model, "model.safetensors", rules);   // look before loading
///     nn::import_file(model, "model.safetensors", rules);

#include <functional>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

/// A state dict that does not fit a module, with the differences as data.
class SOLVENT_API StateDictError : public ValueError {
 public:
  /// `what` is the whole message.
  StateDictError(const std::string& what, LoadReport differences);
  ~StateDictError() override;
  /// The differences.
  [[nodiscard]] const LoadReport& report() const noexcept { return report_; }

 private:
  LoadReport report_;
};

/// What to do with the names and layouts of a foreign state dict. Rules apply in the order in which they were added, each
/// to what the ones before it left. Patterns are ECMAScript regular expressions that must match a whole name.
class SOLVENT_API ImportRules {
 public:
  /// Names that match become `replacement`, in which $1, $2, ... stand for the groups. @throws ValueError for a bad pattern
  ImportRules& rename(const std::string& pattern, const std::string& replacement);
  /// Removes `prefix` where a name starts with it, or puts one in front of all names. No patterns.
  /// @{
  ImportRules& drop_prefix(const std::string& prefix);
  ImportRules& add_prefix(const std::string& prefix);
  /// @}
  /// Leaves out names that match.
  ImportRules& ignore(const std::string& pattern);
  /// Exchanges the last two axes of tensors whose name matches. @throws ShapeError when applied to fewer than 2 axes
  ImportRules& transpose(const std::string& pattern);
  /// Axis i of the result is axis axes[i] of the tensor, as ops' permute. @throws as permute when applied
  ImportRules& permute(const std::string& pattern, const Axes& axes);
  /// Same elements in another shape, e.g. (n, 1) -> (n). @throws as reshape when applied
  ImportRules& reshape(const std::string& pattern, const Shape& shape);
  /// The parameters `<from>weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` of a PyTorch GRU cell (or, with the suffix
  /// "_l0", of the first layer of torch.nn.GRU) become `<to>w_ih`, `w_hh`, `b`, `b_hn` of a GruCell.
  /// Prefixes end in a dot. @throws ValueError when one of the four is missing
  ImportRules& gru(const std::string& from, const std::string& to, const std::string& suffix = "");
  /// Any other change of the whole list.
  ImportRules& custom(std::function<StateDict(StateDict)> change);

  /// The list after all rules. @throws ValueError if two tensors get the same name
  [[nodiscard]] StateDict apply(StateDict state) const;

 private:
  std::vector<std::function<StateDict(StateDict)>> rules_;
};

/// How strictly a foreign state dict has to fit.
struct ImportOptions {
  Strict strict = Strict::yes;  ///< no: load what fits, report the rest
  bool cast = false;            ///< convert floating types, from bfloat16 too; otherwise another dtype is a mismatch
};

/// Tensors of a `.safetensors` or `.npz` file, or of one `.npy` file under its name without ending.
/// @throws IoError; ValueError for other endings
SOLVENT_API StateDict read_state_dict(const std::string& path);

/// What import_state_dict would find missing, unexpected or mis-shaped; changes nothing. A mis-shaped tensor that would
/// fit transposed is reported with that advice. @throws as ImportRules::apply
/// @{
SOLVENT_API LoadReport compare_import(const Module& module, const StateDict& state, const ImportRules& rules = {},
                                      const ImportOptions& options = {});
SOLVENT_API LoadReport compare_import(const Module& module, const std::string& path, const ImportRules& rules = {},
                                      const ImportOptions& options = {});
/// @}

/// Applies the rules and assigns the tensors to the module. Returns the differences (empty for Strict::yes).
/// @throws StateDictError with all differences if there are any and strict is yes; nothing has changed then
SOLVENT_API LoadReport import_state_dict(Module& module, const StateDict& state, const ImportRules& rules = {},
                                         const ImportOptions& options = {});
/// The same from a file. @throws IoError, StateDictError naming the file
SOLVENT_API LoadReport import_file(Module& module, const std::string& path, const ImportRules& rules = {},
                                   const ImportOptions& options = {});

}  // namespace solvent::nn
