// Text of tensors: values aligned in columns, long axes elided in the middle, dtype and shape behind the values.
#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/host_access.h"
#include "solvent/core/tensor.h"

namespace solvent {
namespace {

constexpr std::int64_t kMaxShown = 1000;  // values in total, whatever max_per_axis asks for

double value_at(const detail::TensorImpl& impl, std::int64_t offset) {
  return dispatch_all(impl.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return static_cast<double>(static_cast<const T*>(impl.storage->data)[offset]);
  });
}

std::string integer_at(const detail::TensorImpl& impl, std::int64_t offset) {
  // Not through double: int64 has more digits.
  if (impl.dtype == DType::int64) return std::to_string(static_cast<const std::int64_t*>(impl.storage->data)[offset]);
  if (impl.dtype == DType::uint8) return std::to_string(static_cast<const std::uint8_t*>(impl.storage->data)[offset]);
  return static_cast<const bool*>(impl.storage->data)[offset] ? "true" : "false";
}

// How all values of one tensor are written, so that decimal points line up.
struct FloatFormat {
  bool scientific = false;
  int decimals = 0;

  FloatFormat(const std::vector<double>& values, int precision) {
    double largest = 0;
    double smallest = HUGE_VAL;
    for (const double v : values) {
      if (!std::isfinite(v) || v == 0) continue;
      largest = std::max(largest, std::abs(v));
      smallest = std::min(smallest, std::abs(v));
    }
    scientific = largest >= 1e8 || (largest > 0 && largest < 1e-4) || (smallest < 1e-4 && largest / smallest > 1e4);
    if (scientific) {
      decimals = std::max(precision - 1, 0);
      return;
    }
    // The fewest decimals that lose nothing of the requested precision.
    for (const double v : values) {
      if (!std::isfinite(v)) continue;
      while (decimals < precision) {
        const double scale = std::pow(10.0, decimals);
        if (std::abs(std::nearbyint(v * scale) / scale - v) < 0.5 * std::pow(10.0, -precision)) break;
        ++decimals;
      }
    }
  }

  [[nodiscard]] std::string text(double v) const {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    return scientific ? fmt::format("{:.{}e}", v, decimals) : fmt::format("{:.{}f}", v, decimals);
  }
};

class Printer {
 public:
  Printer(const detail::TensorImpl& impl, int precision, std::int64_t per_axis) : impl_(impl), per_axis_(per_axis) {
    if (impl.shape.product() == 0) return;
    collect(0, impl.offset, precision);
    if (is_floating(impl.dtype)) {
      const FloatFormat format(values_, precision);
      for (const double v : values_) texts_.push_back(format.text(v));
    }
    for (const std::string& text : texts_) width_ = std::max(width_, text.size());
  }

  std::string print() {
    if (impl_.shape.product() == 0) return "[]";
    print_axis(0);
    return std::move(out_);
  }

 private:
  // Calls visit(i) for the shown indices of an axis and gap() where some are left out.
  template <class Visit, class Gap>
  void for_shown(int axis, Visit&& visit, Gap&& gap) {
    const std::int64_t n = impl_.shape[axis];
    const std::int64_t head = n <= per_axis_ ? n : (per_axis_ + 1) / 2;
    const std::int64_t tail = n <= per_axis_ ? 0 : per_axis_ / 2;
    for (std::int64_t i = 0; i < head; ++i) visit(i);
    if (head + tail < n) gap();
    for (std::int64_t i = n - tail; i < n; ++i) visit(i);
  }

  void collect(int axis, std::int64_t offset, int precision) {
    if (axis == impl_.shape.rank()) {
      if (is_floating(impl_.dtype))
        values_.push_back(value_at(impl_, offset));
      else
        texts_.push_back(integer_at(impl_, offset));
      return;
    }
    for_shown(
        axis, [&](std::int64_t i) { collect(axis + 1, offset + i * impl_.strides[axis], precision); }, [] {});
  }

  void separate(int axis) {
    const int inner = impl_.shape.rank() - 1 - axis;
    if (inner == 0) {
      out_ += ", ";
      return;
    }
    out_ += ',';
    out_.append(static_cast<std::size_t>(inner), '\n');  // one blank line more per nesting level
    out_.append(static_cast<std::size_t>(axis + 1), ' ');
  }

  void print_axis(int axis) {
    if (axis == impl_.shape.rank()) {
      out_ += fmt::format("{:>{}}", texts_[next_++], width_);
      return;
    }
    out_ += '[';
    bool first = true;
    const auto next_entry = [&] {
      if (!first) separate(axis);
      first = false;
    };
    for_shown(
        axis,
        [&](std::int64_t) {
          next_entry();
          print_axis(axis + 1);
        },
        [&] {
          next_entry();
          out_ += "...";
        });
    out_ += ']';
  }

  const detail::TensorImpl& impl_;
  std::int64_t per_axis_;
  std::vector<double> values_;
  std::vector<std::string> texts_;
  std::size_t width_ = 0;
  std::size_t next_ = 0;
  std::string out_;
};

std::int64_t shown_values(const Shape& shape, std::int64_t per_axis) {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= std::min(extent, per_axis);
  return n;
}

}  // namespace

std::string describe(const Tensor& t) {
  if (!t.defined()) return "an empty handle";
  return std::string(to_string(t.dtype())) + to_string(t.shape());
}

std::string to_string(const Tensor& t, int precision, int max_per_axis) {
  if (precision < 0 || max_per_axis < 1)
    throw ValueError(fmt::format("[to_string] got precision {} and max_per_axis {}; expected at least 0 and 1.",
                                 precision, max_per_axis));
  if (!t.defined()) return "(empty handle)";
  if (!t.impl()->storage) return "(no data) " + describe(t);
  if (t.device() != cpu_device) return to_string(detail::host_contiguous("to_string", t), precision, max_per_axis);
  std::int64_t per_axis = max_per_axis;
  while (per_axis > 1 && shown_values(t.shape(), per_axis) > kMaxShown) --per_axis;
  return Printer(*t.impl(), precision, per_axis).print() + ' ' + describe(t);
}

std::ostream& operator<<(std::ostream& os, const Tensor& t) { return os << to_string(t); }

}  // namespace solvent
