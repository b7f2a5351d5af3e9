#pragma once
/// Layers made of recurrent cells: one direction, both, heads that read the sequence with different strides, stacks.
///
///     nn::Stacked<nn::Bidirectional<nn::LstmCell>> layers;          // modules are values: build them as you like
///     layers.layers.emplace_back(nn::LstmCell(6, 32, key.fold_in(0)), nn::LstmCell(6, 32, key.fold_in(1)));
///     layers.layers.emplace_back(nn::LstmCell(64, 32, key.fold_in(2)), nn::LstmCell(64, 32, key.fold_in(3)));
///     Tensor y = layers(xs);                                        // (T, B, 6) -> (T, B, 64)
///
/// Every layer is a function (xs (T, B, I), run) -> (T, B, O) from zero initial states. `run` evaluates the recurrences; the
/// default goes step by step. To solve them in parallel over time, hand over a solver:
///
///     layers(xs, [](const nn::RecurrentCell& cell, const Tensor& h0, const Tensor& x) {
///       return solve_sequence(cell, h0, x, Deer{}).value;
///     });

#include <concepts>
#include <functional>
#include <optional>
#include <vector>

#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// Evaluates a recurrence: cell, h0 (B, n), xs (T, B, m) -> states after every step (T, B, n).
using Recurrence = std::function<Tensor(const RecurrentCell& cell, const Tensor& h0, const Tensor& xs)>;

/// The recurrence step by step, by the fused operation for a GRU. @throws ShapeError
SOLVENT_API Tensor run_steps(const RecurrentCell& cell, const Tensor& h0, const Tensor& xs);

/// Direction in which a layer walks through time; outputs are always in the order of the inputs.
enum class Direction : bool { forward, backward };

/// Outputs (T, B, O) of a cell from the zero state. @throws ShapeError unless xs is (T, B, I) with T >= 1
SOLVENT_API Tensor run_outputs(const RecurrentCell& cell, const Tensor& xs, const Recurrence& run = run_steps,
                               Direction direction = Direction::forward);

/// A cell module: it hands out its functions.
template <class C>
concept CellModule = std::derived_from<C, Module> && requires(const C& cell) {
  { cell.functions() } -> std::same_as<RecurrentCell>;
};

/// A layer that maps sequences: (T, B, I) -> (T, B, O).
template <class L>
concept SequenceLayer = std::derived_from<L, Module> &&
    requires(const L& layer, const Tensor& xs, const Recurrence& run) {
  { layer(xs, run) } -> std::same_as<Tensor>;
};

/// One cell over the sequence.
template <CellModule Cell>
class Rnn : public Module {
 public:
  /// A layer of this cell.
  explicit Rnn(Cell c) : cell(std::move(c)) {}

  /// xs (T, B, I) -> (T, B, O). @throws ShapeError
  Tensor operator()(const Tensor& xs, const Recurrence& run = run_steps) const {
    return run_outputs(cell.functions(), xs, run);
  }
  void visit(Visitor& visitor) override { visitor("cell", cell); }

  Cell cell;  ///< the cell
};

/// How the outputs of the two directions become one.
enum class Merge : std::uint8_t {
  concat,  ///< (T, B, 2 O), forward first
  mean     ///< (T, B, O)
};

/// Joins outputs of two directions. @throws ShapeError
SOLVENT_API Tensor merge(const Tensor& forward, const Tensor& backward, Merge how);

/// The sequence read in both directions, by two cells or by one and the same.
template <CellModule Cell>
class Bidirectional : public Module {
 public:
  /// Weights of its own for each direction.
  Bidirectional(Cell forward_cell, Cell backward_cell, Merge how = Merge::concat)
      : forward(std::move(forward_cell)), backward(std::move(backward_cell)), merge_(how) {}
  /// The same weights for both.
  explicit Bidirectional(Cell shared, Merge how = Merge::mean) : forward(std::move(shared)), merge_(how) {}

  /// xs (T, B, I) -> (T, B, O). @throws ShapeError
  Tensor operator()(const Tensor& xs, const Recurrence& run = run_steps) const {
    const RecurrentCell back = (backward ? *backward : forward).functions();
    return merge(run_outputs(forward.functions(), xs, run), run_outputs(back, xs, run, Direction::backward), merge_);
  }
  void visit(Visitor& visitor) override {
    visitor("forward", forward);
    visitor("backward", backward);
  }

  Cell forward;                  ///< reads from the first step to the last
  std::optional<Cell> backward;  ///< empty: shared weights

 private:
  Merge merge_;
};

/// xs (T, B, I) cut into the `stride` interleaved sequences t = j, j + stride, ..., each of which becomes a sequence of the
/// batch: (T / stride, stride B, I). @throws ShapeError unless stride divides T
SOLVENT_API Tensor interleaved(const Tensor& xs, std::int64_t stride);
/// The inverse: (T / stride, stride B, O) -> (T, B, O).
SOLVENT_API Tensor joined(const Tensor& ys, std::int64_t stride);

namespace detail {
/// @throws ValueError unless there are heads and 1 <= num_strides <= 32
SOLVENT_API void check_heads(std::int64_t heads, std::int64_t num_strides);
/// concat along the last axis.
SOLVENT_API Tensor side_by_side(Tensors outputs);
}  // namespace detail

/// Heads that read the same input with different strides, outputs side by side: head h runs on the 2^(h mod num_strides)
/// interleaved subsequences by themselves (Lim et al. 2024, arXiv:2309.12252, multi-head GRU of section 4.4). Long strides
/// see far back in few steps.
template <SequenceLayer Layer>
class StridedHeads : public Module {
 public:
  /// @throws ValueError unless there are heads and 1 <= num_strides <= 32
  explicit StridedHeads(std::vector<Layer> h, std::int64_t num_strides = 8)
      : heads(std::move(h)), num_strides_(num_strides) {
    detail::check_heads(static_cast<std::int64_t>(heads.size()), num_strides);
  }

  /// 2^(head mod num_strides).
  [[nodiscard]] std::int64_t stride(std::size_t head) const {
    return std::int64_t{1} << (static_cast<std::int64_t>(head) % num_strides_);
  }

  /// xs (T, B, I), T divisible by the largest stride -> (T, B, heads O). @throws ShapeError
  Tensor operator()(const Tensor& xs, const Recurrence& run = run_steps) const {
    Tensors outputs;
    for (std::size_t h = 0; h < heads.size(); ++h)
      outputs.push_back(joined(heads[h](interleaved(xs, stride(h)), run), stride(h)));
    return detail::side_by_side(std::move(outputs));
  }
  void visit(Visitor& visitor) override { visitor("heads", heads); }

  std::vector<Layer> heads;  ///< in the order of their outputs

 private:
  std::int64_t num_strides_;
};

/// Layers one after the other.
template <SequenceLayer Layer>
class Stacked : public Module {
 public:
  /// No layers: the identity.
  Stacked() = default;
  /// From the first to the last.
  explicit Stacked(std::vector<Layer> l) : layers(std::move(l)) {}

  /// xs (T, B, I) -> (T, B, O). @throws ShapeError
  Tensor operator()(const Tensor& xs, const Recurrence& run = run_steps) const {
    Tensor y = xs;
    for (const Layer& layer : layers) y = layer(y, run);
    return y;
  }
  void visit(Visitor& visitor) override { visitor("layers", layers); }

  std::vector<Layer> layers;  ///< from the first to the last
};

}  // namespace solvent::nn
