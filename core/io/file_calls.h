#pragma once
/// The system calls that AtomicFile writes with, behind a table so that tests can make each of them fail. Not installed.

#include <cstddef>

#include <sys/types.h>

#include "solvent/core/export.h"

namespace solvent::detail {

/// Functions with the signatures and error reporting (`errno`) of the system's.
struct FileCalls {
  ssize_t (*write)(int descriptor, const void* data, std::size_t bytes);
  int (*fsync)(int descriptor);
  int (*close)(int descriptor);
  int (*rename)(const char* from, const char* to);
};

/// The table in use; at first the system's functions. Change it only while no file is being written.
SOLVENT_API FileCalls& file_calls() noexcept;

}  // namespace solvent::detail
