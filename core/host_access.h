#pragma once
/// Values of tensors on the host, for printing and files. Internal to core.

#include <cstddef>

#include "solvent/core/tensor.h"

namespace solvent::detail {

/// `t` itself or a contiguous CPU copy without derivative information. @throws Error naming `op` for tensors without data.
Tensor host_contiguous(const char* op, const Tensor& t);

/// The elements of a contiguous CPU tensor.
inline const std::byte* host_bytes(const Tensor& t) noexcept {
  const TensorImpl& impl = *t.impl();
  return static_cast<const std::byte*>(impl.storage->data) +
         impl.offset * static_cast<std::int64_t>(size_of(impl.dtype));
}

}  // namespace solvent::detail
