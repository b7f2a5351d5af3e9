#pragma once
/// Errors of experiment programs and the process exit codes they end in.

#include <iosfwd>

#include "solvent/core/error.h"

namespace solvent::experiments {

/// Exit codes of every experiment program.
enum class ExitCode : int {
  done = 0,
  failed = 1,             ///< anything without a code of its own: a full disk, a bug
  wrong_usage = 2,        ///< unknown option or key, wrong type or range, unreadable config file
  missing_data = 3,       ///< data or checkpoint absent, truncated or corrupt; the message says how to get it
  numerical_failure = 4,  ///< a solve failed or a loss became non-finite; the message names step and checkpoint
  check_failed = 5,       ///< --check: a result is not within its tolerance
};

/// The command line or a config file asks for something that does not exist or is out of range.
class UsageError : public Error {
 public:
  using Error::Error;
  ~UsageError() override;
};

/// A data file is unreadable: truncated, corrupt, or in a form the reader does not support.
class DataError : public IoError {
 public:
  using IoError::IoError;
  ~DataError() override;
};

/// A data file is absent; the message holds the command that fetches it.
class MissingDataError : public DataError {
 public:
  using DataError::DataError;
  ~MissingDataError() override;
};

/// Training cannot go on: a non-finite loss, or a solve that failed where it must not.
class NumericalError : public SolverError {
 public:
  using SolverError::SolverError;
  ~NumericalError() override;
};

/// Writes the message of the exception being handled to `err` and returns the exit code it stands for.
/// Call inside a catch block only.
ExitCode report_current_exception(std::ostream& err) noexcept;

}  // namespace solvent::experiments
