#pragma once
/// Results of a pure function of the step number, computed ahead in a background thread.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace solvent::experiments {

/// Delivers make(first), make(first + 1), ... in order. Up to `depth` results wait ready; depth 0 computes each one when
/// it is asked for, in the calling thread. Since `make` depends on the step only, the results are the same for any depth.
///
/// An exception of `make` comes out of the next() that asks for its result. At most one thread runs `make` at a time.
template <class T>
class Prefetcher {
 public:
  Prefetcher(std::function<T(std::int64_t)> make, std::int64_t first, std::int64_t depth)
      : make_(std::move(make)), step_(first), depth_(depth) {
    start();
  }
  ~Prefetcher() { stop(); }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The step whose result next() returns.
  [[nodiscard]] std::int64_t step() const { return step_; }

  /// The result of step(), which then moves on; also when `make` threw.
  T next() {
    const std::int64_t step = step_++;
    if (depth_ <= 0) return make_(step);
    Slot slot;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !ready_.empty(); });
      slot = std::move(ready_.front());
      ready_.pop_front();
    }
    changed_.notify_all();
    if (slot.error) {
      stop();  // the thread ended with the error: go on behind it if asked to
      start();
      std::rethrow_exception(slot.error);
    }
    return std::move(slot.value);
  }

  /// Forgets what was computed ahead and goes on from `step`.
  void seek(std::int64_t step) {
    stop();
    step_ = step;
    start();
  }

 private:
  struct Slot {
    T value{};
    std::exception_ptr error;
  };

  void start() {
    if (depth_ <= 0) return;
    is_stopping_ = false;
    ready_.clear();
    thread_ = std::thread([this, step = step_]() mutable { run(step); });
  }

  void stop() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void run(std::int64_t step) {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return is_stopping_ || static_cast<std::int64_t>(ready_.size()) < depth_; });
        if (is_stopping_) return;
      }
      Slot slot;
      try {
        slot.value = make_(step++);
      } catch (...) {
        slot.error = std::current_exception();
      }
      const bool is_last = slot.error != nullptr;
      {
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(slot));
      }
      changed_.notify_all();
      if (is_last) return;
    }
  }

  std::function<T(std::int64_t)> make_;
  std::int64_t step_, depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Slot> ready_;    // guarded by mutex_
  bool is_stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace solvent::experiments
