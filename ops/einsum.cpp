// Einstein summation by other operations, which bring their derivatives. A call has three steps: name every axis (letters,
// and numbers for the axes of "..."), contract pairs of operands until one is left, bring its axes into order.

#include "solvent/ops/einsum.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/reduce.h"

namespace solvent {
namespace {

using Labels = std::vector<int>;

constexpr int kLetters = 52;  // further labels: the axes of "...", counted from the right

char letter_of(int label) { return static_cast<char>(label < 26 ? 'A' + label : 'a' + label - 26); }
int label_of(char c) { return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : -1; }

bool contains(const Labels& labels, int label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

[[noreturn]] void throw_equation(std::string_view equation, const std::string& problem, const char* expected) {
  throw ValueError(fmt::format("[einsum] got \"{}\", in which {}; expected {}.", equation, problem, expected));
}

// A tensor whose axes have names.
struct Named {
  Tensor value;
  Labels labels;

  [[nodiscard]] std::int64_t extent(int label) const {
    const auto at = std::find(labels.begin(), labels.end(), label) - labels.begin();
    return value.shape()[static_cast<int>(at)];
  }
};

// Sums over the axes that `keep` does not name.
Named summed(Named x, const Labels& keep) {
  Axes axes;
  Labels left;
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    if (contains(keep, x.labels[i])) {
      left.push_back(x.labels[i]);
    } else {
      axes.push_back(static_cast<std::int64_t>(i));
    }
  }
  if (axes.empty()) return x;
  return {sum(std::move(x.value), axes), std::move(left)};
}

Tensor permuted(const Named& x, const Labels& order) {
  Axes axes;
  bool sorted = true;
  for (const int label : order) {
    const auto at = std::find(x.labels.begin(), x.labels.end(), label) - x.labels.begin();
    sorted = sorted && at == axes.rank();
    axes.push_back(at);
  }
  return sorted ? x.value : permute(x.value, axes);
}

Labels joined(Labels a, const Labels& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::int64_t product_of(const Named& x, const Labels& labels) {
  std::int64_t p = 1;
  for (const int label : labels) p *= x.extent(label);
  return p;
}

// The roles of the axes of a pair.
struct Roles {
  Labels batch;       // in both and in the result
  Labels contracted;  // in both, summed over
  Labels left;
  Labels right;
};

Roles roles_of(const Labels& a, const Labels& b, const Labels& keep) {
  Roles r;
  for (const int label : a) {
    if (!contains(b, label)) {
      r.left.push_back(label);
    } else {
      (contains(keep, label) ? r.batch : r.contracted).push_back(label);
    }
  }
  for (const int label : b)
    if (!contains(a, label)) r.right.push_back(label);
  return r;
}

// The product of two operands, summed over what `keep` does not name: (b, m, k) x (b, k, n) -> (b, m, n).
Named contracted(Named a, Named b, const Labels& keep, std::string_view equation) {
  a = summed(std::move(a), joined(keep, b.labels));
  b = summed(std::move(b), joined(keep, a.labels));
  const Roles r = roles_of(a.labels, b.labels, keep);
  Named out;
  out.labels = joined(joined(r.batch, r.left), r.right);
  if (out.labels.size() > static_cast<std::size_t>(kMaxRank))
    throw ShapeError(
        fmt::format("[einsum] got \"{}\", whose product of two operands has {} axes; expected at most {}. "
                    "Merge axes with reshape.",
                    equation, out.labels.size(), kMaxRank));
  Shape shape;
  for (const int label : out.labels) shape.push_back(contains(a.labels, label) ? a.extent(label) : b.extent(label));
  const std::int64_t batch = product_of(a, r.batch);
  const std::int64_t rows = product_of(a, r.left);
  const std::int64_t columns = product_of(b, r.right);
  const std::int64_t inner = product_of(a, r.contracted);
  // Dot products: memory decides, not arithmetic. bfloat16 is not rounded before it is added.
  if (r.left.empty() && r.right.empty() && !is_storage_type(a.value.dtype())) {
    Tensor y = mul(permuted(a, joined(r.batch, r.contracted)), permuted(b, joined(r.batch, r.contracted)));
    Axes axes;
    for (int i = 0; i < static_cast<int>(r.contracted.size()); ++i) axes.push_back(-1 - i);
    out.value = axes.empty() ? std::move(y) : sum(std::move(y), axes);
    return out;
  }
  Tensor x = permuted(a, joined(joined(r.batch, r.left), r.contracted));
  Tensor y = permuted(b, joined(joined(r.batch, r.contracted), r.right));
  if (r.contracted.empty()) {
    out.value = mul(reshape(std::move(x), {batch, rows, 1}), reshape(std::move(y), {batch, 1, columns}));
  } else if (r.batch.empty()) {
    out.value = matmul(reshape(std::move(x), {rows, inner}), reshape(std::move(y), {inner, columns}));
  } else {
    out.value = matmul(reshape(std::move(x), {batch, rows, inner}), reshape(std::move(y), {batch, inner, columns}));
  }
  out.value = reshape(std::move(out.value), shape);
  return out;
}

// Labels that the result or an operand other than i and j has.
Labels needed(const std::vector<Named>& operands, const Labels& output, std::size_t i, std::size_t j) {
  Labels keep = output;
  for (std::size_t k = 0; k < operands.size(); ++k)
    if (k != i && k != j) keep = joined(std::move(keep), operands[k].labels);
  return keep;
}

// Elements of the product of i and j more than of its factors.
double growth(const std::vector<Named>& operands, const Labels& output, std::size_t i, std::size_t j) {
  const Named& a = operands[i];
  const Named& b = operands[j];
  const Labels keep = needed(operands, output, i, j);
  double size = 1.0;
  for (const int label : a.labels)
    if (contains(keep, label)) size *= static_cast<double>(a.extent(label));
  for (const int label : b.labels)
    if (contains(keep, label) && !contains(a.labels, label)) size *= static_cast<double>(b.extent(label));
  return size - static_cast<double>(a.value.numel()) - static_cast<double>(b.value.numel());
}

void contract_cheapest(std::vector<Named>& operands, const Labels& output, std::string_view equation) {
  std::size_t first = 0;
  std::size_t second = 1;
  double best = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; operands.size() > 2 && i < operands.size(); ++i)
    for (std::size_t j = i + 1; j < operands.size(); ++j) {
      const double cost = growth(operands, output, i, j);
      if (cost >= best) continue;
      best = cost;
      first = i;
      second = j;
    }
  const Labels keep = needed(operands, output, first, second);
  Named product = contracted(std::move(operands[first]), std::move(operands[second]), keep, equation);
  operands.erase(operands.begin() + static_cast<std::ptrdiff_t>(second));
  operands[first] = std::move(product);
}

// Axes that one operand names twice become one.
Named without_repeats(Named x, std::string_view equation, std::size_t operand) {
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    const auto again = std::find(x.labels.begin() + static_cast<std::ptrdiff_t>(i) + 1, x.labels.end(), x.labels[i]);
    if (again == x.labels.end()) continue;
    const auto j = static_cast<std::size_t>(again - x.labels.begin());
    const int label = x.labels[i];
    const Shape& shape = x.value.shape();
    if (shape[static_cast<int>(i)] != shape[static_cast<int>(j)])
      throw ShapeError(
          fmt::format("[einsum] got operand {} of shape {} for \"{}\", which names axes {} and {} \"{}\"; expected "
                      "equal extents.",
                      operand, to_string(shape), equation, i, j, letter_of(label)));
    x.value = diagonal(std::move(x.value), 0, static_cast<std::int64_t>(i), static_cast<std::int64_t>(j));
    x.labels.erase(x.labels.begin() + static_cast<std::ptrdiff_t>(j));
    x.labels.erase(x.labels.begin() + static_cast<std::ptrdiff_t>(i));
    x.labels.push_back(label);
    --i;
  }
  return x;
}

// Drops axes of "..." of extent 1 where another operand's axis is longer.
Named without_broadcast(Named x, const std::vector<std::int64_t>& extents) {
  Shape shape;
  Labels labels;
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    const std::int64_t own = x.value.shape()[static_cast<int>(i)];
    if (x.labels[i] >= kLetters && own == 1 && extents[static_cast<std::size_t>(x.labels[i])] != 1) continue;
    shape.push_back(own);
    labels.push_back(x.labels[i]);
  }
  if (labels.size() == x.labels.size()) return x;
  return {reshape(std::move(x.value), shape), std::move(labels)};
}

// Records the extents of an operand's axes, which must fit those seen before (0: none).
void record_extents(const Named& x, std::vector<std::int64_t>& extents, std::string_view equation,
                    std::size_t operand) {
  for (std::size_t i = 0; i < x.labels.size(); ++i) {
    std::int64_t& extent = extents[static_cast<std::size_t>(x.labels[i])];
    const std::int64_t own = x.value.shape()[static_cast<int>(i)];
    const bool letter = x.labels[i] < kLetters;
    if (extent < 0 || extent == own || (!letter && extent == 1)) {
      extent = own;
    } else if (letter || own != 1) {
      throw ShapeError(fmt::format("[einsum] got extent {} for {} in operand {} of \"{}\", and {} before; expected {}.",
                                   own, letter ? fmt::format("\"{}\"", letter_of(x.labels[i])) : "an axis of \"...\"",
                                   operand, equation, extent,
                                   letter ? "the same extent wherever a letter occurs" : "equal extents or 1"));
    }
  }
}

}  // namespace

// One application of an equation.
struct EinsumCall {
  // Labels of all axes of an operand (the result) with `further` axes for "...".
  static Labels expanded(const Einsum::Term& term, int further) {
    if (term.ellipsis < 0) return term.labels;
    Labels labels(term.labels.begin(), term.labels.begin() + term.ellipsis);
    for (int i = further - 1; i >= 0; --i) labels.push_back(kLetters + i);
    labels.insert(labels.end(), term.labels.begin() + term.ellipsis, term.labels.end());
    return labels;
  }

  // Letters, "..." and blanks.
  static Einsum::Term parse_term(std::string_view equation, std::size_t begin, std::size_t end) {
    Einsum::Term term;
    for (std::size_t i = begin; i < end; ++i) {
      const char c = equation[i];
      if (c == ' ') continue;
      if (c == '.') {
        if (equation.substr(i, 3) != "..." || i + 3 > end || term.ellipsis >= 0)
          throw_equation(equation, fmt::format("position {} holds '.'", i), "\"...\" at most once per operand");
        term.ellipsis = static_cast<int>(term.labels.size());
        i += 2;
        continue;
      }
      const int label = label_of(c);
      if (label < 0)
        throw_equation(equation, fmt::format("position {} holds '{}'", i, c),
                       "letters, \"...\", commas between operands and at most one \"->\"");
      term.labels.push_back(label);
    }
    return term;
  }

  static Named named(Tensor x, const Einsum::Term& term, std::string_view equation, std::size_t operand) {
    const int further = x.rank() - static_cast<int>(term.labels.size());
    if (further < 0 || (further > 0 && term.ellipsis < 0))
      throw ShapeError(fmt::format(
          "[einsum] got operand {} of shape {} for \"{}\", which names {} of its axes; expected "
          "a letter for each axis{}.",
          operand, to_string(x.shape()), equation, term.labels.size(), further > 0 ? ", or \"...\" for the rest" : ""));
    return {std::move(x), expanded(term, further)};
  }

  static Tensor run(const Einsum& plan, Tensors values) {
    const std::string& equation = plan.equation_;
    if (values.size() != plan.inputs_.size())
      throw ShapeError(fmt::format("[einsum] got {} operands for \"{}\"; expected {}.", values.size(), equation,
                                   plan.inputs_.size()));
    std::vector<Named> operands;
    std::vector<std::int64_t> extents(kLetters + kMaxRank, -1);
    int further = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      detail::check_floating_or_storage("einsum", values[i]);
      if (i > 0) detail::check_same_dtype("einsum", operands[0].value, values[i]);
      const Einsum::Term& term = plan.inputs_[i];
      if (term.ellipsis >= 0) further = std::max(further, values[i].rank() - static_cast<int>(term.labels.size()));
      operands.push_back(without_repeats(named(std::move(values[i]), term, equation, i), equation, i));
      record_extents(operands.back(), extents, equation, i);
    }
    for (Named& x : operands) x = without_broadcast(std::move(x), extents);
    const Labels output = expanded(plan.output_, further);
    while (operands.size() > 1) contract_cheapest(operands, output, equation);
    return permuted(summed(std::move(operands[0]), output), output);
  }
};

Einsum::Einsum(std::string_view equation) : equation_(equation) {
  const std::size_t arrow = equation.find("->");
  const std::size_t end = std::min(arrow, equation.size());
  for (std::size_t begin = 0;;) {
    const std::size_t comma = std::min(equation.find(',', begin), end);
    inputs_.push_back(EinsumCall::parse_term(equation, begin, comma));
    if (comma == end) break;
    begin = comma + 1;
  }
  std::vector<int> count(kLetters);
  bool ellipsis = false;
  for (const Term& term : inputs_) {
    ellipsis = ellipsis || term.ellipsis >= 0;
    for (const int label : term.labels) ++count[static_cast<std::size_t>(label)];
  }
  if (arrow == std::string_view::npos) {
    if (ellipsis) output_.ellipsis = 0;
    for (int label = 0; label < kLetters; ++label)
      if (count[static_cast<std::size_t>(label)] == 1) output_.labels.push_back(label);
    return;
  }
  output_ = EinsumCall::parse_term(equation, arrow + 2, equation.size());
  for (std::size_t i = 0; i < output_.labels.size(); ++i) {
    const int label = output_.labels[i];
    if (count[static_cast<std::size_t>(label)] == 0)
      throw_equation(equation, fmt::format("the result has '{}', which no operand has", letter_of(label)),
                     "letters of operands after \"->\"");
    if (std::find(output_.labels.begin(), output_.labels.begin() + static_cast<std::ptrdiff_t>(i), label) !=
        output_.labels.begin() + static_cast<std::ptrdiff_t>(i))
      throw_equation(equation, fmt::format("the result names '{}' twice", letter_of(label)),
                     "each letter once after \"->\". Use diag_embed for a diagonal");
  }
  if (ellipsis != (output_.ellipsis >= 0))
    throw_equation(equation, ellipsis ? "operands have \"...\" but the result has not" : "only the result has \"...\"",
                   "\"...\" on both sides of \"->\" or on neither. Name axes to sum over them");
}

Tensor Einsum::operator()(Tensors operands) const { return EinsumCall::run(*this, std::move(operands)); }

Tensor einsum(std::string_view equation, Tensors operands) { return Einsum(equation)(std::move(operands)); }

}  // namespace solvent
