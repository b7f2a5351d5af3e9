#pragma once
/// Shows how far long reads are.

#include <functional>
#include <iosfwd>

#include "solvent/experiments/common/data/input_stream.h"

namespace solvent::experiments {

/// A progress callback for readers: on a terminal one redrawn line, "reading test_batch.bin.xz  43%", that disappears at
/// the end of a file; elsewhere a plain line at most every ten seconds. Nothing for reads of less than half a second.
/// `out` must outlive it. @param clock  seconds, the steady clock if empty
ReadProgress show_read_progress(std::ostream& out, bool is_terminal, std::function<double()> clock = {});

}  // namespace solvent::experiments
