#pragma once
/// Memory and exceptions of the convolutions' parallel loops. Internal to ops/cpu.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>

#include "solvent/core/allocator.h"

namespace solvent::cpu {

/// Uninitialised memory of the caching allocator.
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::size_t bytes) : data_(detail::allocate(bytes, cpu_device)), bytes_(bytes) {}
  Scratch(Scratch&& o) noexcept : data_(std::exchange(o.data_, nullptr)), bytes_(o.bytes_) {}
  Scratch& operator=(Scratch&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~Scratch() {
    if (data_) detail::deallocate(data_, bytes_, cpu_device);
  }
  template <class T>
  [[nodiscard]] T* as() const noexcept {
    return static_cast<T*>(data_);
  }
  template <class T>
  static Scratch of(std::int64_t count) {
    return Scratch(static_cast<std::size_t>(count) * sizeof(T));
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Keeps the first exception of a parallel loop, whose body must not throw, until the loop is over.
class LoopError {
 public:
  template <class F>
  void guard(F&& body) noexcept {
    try {
      body();
    } catch (...) {
      if (!taken_.test_and_set()) error_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
  std::exception_ptr error_;
};

}  // namespace solvent::cpu
