#pragma once
/// The record of a reverse-mode level: nodes in execution order, which is already a topological order, so the sweep is a
/// loop and destroying a long tape needs no recursion. Internal to autodiff/.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "solvent/autodiff/op.h"

namespace solvent::detail {

/// One recorded call. Up to three inputs are stored inline; value ids of the outputs are consecutive.
struct Node {
  const OpDef* op = nullptr;
  std::unique_ptr<Attrs> attrs;
  std::int32_t first_output = 0;
  std::int32_t num_inputs = 0;
  std::int32_t num_outputs = 0;
  std::int32_t input_value[3] = {-1, -1, -1};
  Tensor saved_input[3];
  Tensor saved_output;  // inline when there is one output

  struct More {
    std::vector<std::int32_t> input_value;
    std::vector<Tensor> saved_input;
    std::vector<Tensor> saved_output;
  };
  std::unique_ptr<More> more;  // used for more than three inputs or more than one output

  [[nodiscard]] bool large() const noexcept { return more != nullptr; }
  [[nodiscard]] const std::int32_t* values() const noexcept { return more ? more->input_value.data() : input_value; }
  [[nodiscard]] const Tensor* inputs() const noexcept { return more ? more->saved_input.data() : saved_input; }
  [[nodiscard]] const Tensor* outputs() const noexcept { return more ? more->saved_output.data() : &saved_output; }
  /// Drops saved tensors and attributes.
  void release() noexcept;
};

class Tape {
 public:
  Tape() = default;
  ~Tape() {
    for (std::int64_t i = num_nodes_; i-- > 0;) std::destroy_at(&node(i));
  }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Makes the value id of a function input.
  std::int32_t new_value() noexcept { return num_values_++; }
  /// Appends a node; `outputs` are its (peeled) results. Returns the id of the first output.
  std::int32_t record(const OpDef& op, const Attrs* attrs, std::span<const std::int32_t> values,
                      std::span<Tensor> saved_inputs, std::span<const Tensor> outputs);

  /// Reverse sweep: adds up cotangents from the last node to the first. `seeds[i]` belongs to value `seed_ids[i]`.
  /// Returns the cotangents of `wanted` (empty handles where zero). Releases nodes as it passes unless `retain`.
  Tensors sweep(std::span<const std::int32_t> seed_ids, std::span<const Tensor> seeds,
                std::span<const std::int32_t> wanted, bool retain);

  /// Forward replay with the jvp rules (linearize). `seeds` are tangents of `seed_ids`.
  Tensors replay(std::span<const std::int32_t> seed_ids, std::span<const Tensor> seeds,
                 std::span<const std::int32_t> wanted, std::int64_t directions) const;

  [[nodiscard]] std::int64_t num_nodes() const noexcept { return num_nodes_; }
  [[nodiscard]] std::int32_t num_values() const noexcept { return num_values_; }
  [[nodiscard]] const Node& node(std::int64_t i) const noexcept { return *const_cast<Tape*>(this)->address(i); }
  [[nodiscard]] bool consumed() const noexcept { return consumed_; }

 private:
  static constexpr std::int64_t kChunk = 128;
  // Room for nodes, which are made one by one: a short tape does not pay for a whole chunk.
  struct Chunk {
    alignas(Node) std::byte memory[static_cast<std::size_t>(kChunk) * sizeof(Node)];
  };
  Node* address(std::int64_t i) noexcept {
    std::byte* const memory = chunks_[static_cast<std::size_t>(i / kChunk)]->memory;
    return std::launder(reinterpret_cast<Node*>(memory) + i % kChunk);
  }
  Node& node(std::int64_t i) noexcept { return *address(i); }

  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::int64_t num_nodes_ = 0;
  std::int32_t num_values_ = 0;
  bool consumed_ = false;
};

}  // namespace solvent::detail
