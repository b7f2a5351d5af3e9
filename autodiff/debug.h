#pragma once
/// Looking at tapes.

#include <map>
#include <string>

#include "solvent/autodiff/transforms.h"

namespace solvent::debug {

/// One line per recorded operation: "%5 = tanh(%3)  (2, 3) float32".
SOLVENT_API std::string dump_text(const Pullback& pullback);
/// The same graph for Graphviz.
SOLVENT_API std::string dump_dot(const Pullback& pullback);
/// Number of recorded calls by operation name.
SOLVENT_API std::map<std::string, std::int64_t> node_counts(const Pullback& pullback);

}  // namespace solvent::debug
