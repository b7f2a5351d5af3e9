// docs/gpu-tolerances.md says by which tolerances operations on a GPU are compared with the CPU.

#include "solvent/tests/ops/device_tolerance.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

constexpr const char* kPage = "../docs/gpu-tolerances.md";  // tests start in the folder tests/
constexpr const char* kCommand = "SOLVENT_WRITE_DOCS=1 ctest --preset release -R '^test_ops$'";

bool has_tensors(const OpCase& c) { return !c.samples(Key(1), float64).front().empty(); }

// 2e-6
std::string number(double x) {
  if (x == 0) return "0";
  const std::string text = fmt::format("{:.2e}", x);  // 2.00e-06
  std::string mantissa = text.substr(0, text.find('e'));
  while (mantissa.back() == '0') mantissa.pop_back();
  if (mantissa.back() == '.') mantissa.pop_back();
  return fmt::format("{}e{}", mantissa, std::stoi(text.substr(text.find('e') + 1)));
}

std::string cell(const OpCase& c, DType dtype, Compared what) {
  const bool has_dtype = dtype == float64 || c.no_float32.empty();
  const bool exists = what == Compared::values || c.not_differentiable.empty();
  return has_dtype && exists ? number(device_tolerance(c, dtype, what)) : "-";
}

// The names of the entries for which `which` holds, or "none".
template <class F>
std::string names(F which) {
  std::string text;
  for (const OpCase& c : op_table())
    if (which(c)) text += fmt::format("{}`{}`", text.empty() ? "" : ", ", c.name);
  return text.empty() ? "none" : text;
}

constexpr const char* kHead = R"(# Tolerances of operations on a GPU

How far results on a GPU may be from those on the CPU: |difference| <= tolerance * max(1, |value|), element by element, for
every entry of the [table of operations](../tests/ops/op_table.h) and every sample of its inputs. Derivatives are those of
reverse and forward mode, of several directions at once, and of second order in every nesting of the two modes. A dash stands
for what an entry does not have.

A test writes this page from the numbers by which
[op_matrix_cuda_test.cpp](../tests/cuda/op_matrix_cuda_test.cpp) compares, and fails when they differ. To write it anew:
`{}`

| entry | float32 value | derivative | float64 value | derivative |
|---|---|---|---|---|
)";

std::string page() {
  std::string text = fmt::format(kHead, kCommand);
  for (const OpCase& c : op_table())
    if (has_tensors(c))
      text += fmt::format("| {} | {} | {} | {} | {} |\n", c.name, cell(c, float32, Compared::values),
                          cell(c, float32, Compared::derivatives), cell(c, float64, Compared::values),
                          cell(c, float64, Compared::derivatives));
  text += fmt::format("\nReverse mode only: {}. First order only: {}.\n",
                      names([](const OpCase& c) { return !c.no_forward.empty(); }),
                      names([](const OpCase& c) { return !c.no_second_order.empty(); }));
  text += fmt::format("\nWithout tensors as inputs, compared in random_cuda_test.cpp: {}.\n",
                      names([](const OpCase& c) { return !has_tensors(c); }));
  return text;
}

TEST_CASE("op table: the tolerances on a GPU are those that the documentation states") {
  const std::string expected = page();
  if (std::getenv("SOLVENT_WRITE_DOCS") != nullptr) std::ofstream(kPage) << expected;
  std::ifstream file(kPage);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  INFO("docs/gpu-tolerances.md is not what the table of operations says; make it anew: " << kCommand);
  CHECK((committed == expected));
}

}  // namespace
}  // namespace solvent::testing
