#pragma once
/// Typed errors. Every message has three parts: what was given, what was expected, how to fix it, and starts with the
/// name of the operation in brackets: `[matmul] got a (3, 4) and b (5, 6); expected a.shape[-1] == b.shape[-2]`.

#include <stdexcept>
#include <string>

#include "solvent/core/export.h"

namespace solvent {

/// Base of all exceptions thrown by Solvent.
class SOLVENT_API Error : public std::runtime_error {
 public:
  /// `what` is the whole message.
  explicit Error(const std::string& what) : std::runtime_error(what) {}
  ~Error() override;
};

/// Shapes, ranks, axes or sizes do not fit.
class SOLVENT_API ShapeError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~ShapeError() override;
};

/// Element types do not fit; Solvent never promotes silently.
class SOLVENT_API DtypeError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~DtypeError() override;
};

/// Tensors live on different devices, or the build has no kernel for the device.
class SOLVENT_API DeviceError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~DeviceError() override;
};

/// A value is outside the range an operation accepts (probabilities, step sizes, counts).
class SOLVENT_API ValueError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~ValueError() override;
};

/// Misuse of a transform: escaped or captured differentiable tensor, consumed pullback, missing rule.
class SOLVENT_API AutodiffError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~AutodiffError() override;
};

/// A solve did not reach its tolerance and the caller asked for an exception.
class SOLVENT_API SolverError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~SolverError() override;
};

/// Files: missing, truncated, corrupt, not writable.
class SOLVENT_API IoError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~IoError() override;
};

/// Memory limit reached; the message lists requested, active, cached and limit.
class SOLVENT_API OutOfMemoryError : public Error {
 public:
  using Error::Error;  ///< from a message
  ~OutOfMemoryError() override;
};

}  // namespace solvent
