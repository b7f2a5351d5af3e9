#include "solvent/core/build_info.h"

#include <fmt/format.h>
#include <hwy/targets.h>

#include <cstdint>

#include "build_info_config.h"
#include "solvent/core/engine/blas_setup.h"
#include "solvent/core/parallel.h"

namespace solvent {

namespace {

// Instruction sets that both this build and this processor have, best first; kernels run the first one.
std::string vector_targets() {
  std::string names;
#ifdef HWY_COMPILE_ONLY_STATIC
  constexpr bool kDispatch = false;
#else
  constexpr bool kDispatch = true;
#endif
  if (!kDispatch) return std::string(hwy::TargetName(HWY_STATIC_TARGET)) + " (baseline only)";
  // A better instruction set has a lower bit in Highway's target numbering.
  auto remaining = static_cast<std::uint64_t>(hwy::SupportedTargets()) & static_cast<std::uint64_t>(HWY_TARGETS);
  while (remaining != 0) {
    const std::uint64_t lowest = remaining & (~remaining + 1);
    remaining &= remaining - 1;
    if (!names.empty()) names += ' ';
    names += hwy::TargetName(static_cast<std::int64_t>(lowest));
  }
  return names;
}

std::string describe() {
  std::string text = fmt::format(
      "solvent: {}\n"
      "commit: {}\n"
      "build type: {}\n"
      "compiler: {}\n"
      "flags: {}\n"
      "BLAS: {} [{}]\n"
      "LAPACK: {}\n"
      "OpenMP: {}\n"
      "oneDNN: {}\n"
      "CUDA: {}\n"
      "vector targets: {}\n",
      SOLVENT_BUILD_VERSION, SOLVENT_BUILD_COMMIT, SOLVENT_BUILD_TYPE, SOLVENT_BUILD_COMPILER, SOLVENT_BUILD_FLAGS,
      SOLVENT_BUILD_BLAS, detail::blas_description(), SOLVENT_BUILD_LAPACK, SOLVENT_BUILD_OPENMP, SOLVENT_BUILD_ONEDNN,
      SOLVENT_BUILD_CUDA, vector_targets());
  const std::string switched_off = SOLVENT_BUILD_SWITCHED_OFF;
  if (!switched_off.empty()) text += fmt::format("switched off: {}\n", switched_off);
  return text;
}

}  // namespace

const std::string& build_info() {
  static const std::string text = describe();
  return text;
}

const char* version() noexcept { return SOLVENT_BUILD_VERSION; }

bool has_cuda() noexcept { return SOLVENT_WITH_CUDA != 0; }

}  // namespace solvent
