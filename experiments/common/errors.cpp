#include "solvent/experiments/common/errors.h"

#include <exception>
#include <new>
#include <ostream>

namespace solvent::experiments {

UsageError::~UsageError() = default;
DataError::~DataError() = default;
MissingDataError::~MissingDataError() = default;
NumericalError::~NumericalError() = default;

ExitCode report_current_exception(std::ostream& err) noexcept {
  const auto report = [&err](const char* text, ExitCode code) {
    err << "error: " << text << std::endl;
    return code;
  };
  try {
    throw;
  } catch (const UsageError& e) {
    return report(e.what(), ExitCode::wrong_usage);
  } catch (const DataError& e) {
    return report(e.what(), ExitCode::missing_data);
  } catch (const SolverError& e) {
    return report(e.what(), ExitCode::numerical_failure);
  } catch (const std::bad_alloc&) {
    return report("out of memory; try a smaller batch or a shorter sequence", ExitCode::failed);
  } catch (const std::exception& e) {
    return report(e.what(), ExitCode::failed);
  } catch (...) {
    return report("unknown exception", ExitCode::failed);
  }
}

}  // namespace solvent::experiments
