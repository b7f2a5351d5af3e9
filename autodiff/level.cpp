#include "solvent/autodiff/level.h"

#include <atomic>
#include <new>
#include <string>

#include "solvent/autodiff/apply.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent::detail {

constinit thread_local LevelStack t_levels{};

namespace {

constinit thread_local const char* t_bar_reason = nullptr;

std::uint64_t next_serial() noexcept {
  static constinit std::atomic<std::uint64_t> serial{1};
  return serial.fetch_add(1, std::memory_order_relaxed);
}

void destroy_box(AdBox* box) noexcept {
  Box* self = static_cast<Box*>(box);
  self->~Box();
  deallocate_body(self, sizeof(Box));
}

}  // namespace

Tensor make_box(const Level& level, const Tensor& primal, Tensor tangent, std::int32_t value) {
  Box* box = new (allocate_body(sizeof(Box))) Box;
  box->destroy = &destroy_box;
  box->serial = level.serial;
  box->depth = level.depth;
  box->value = value;
  box->primal = primal;
  box->tangent = std::move(tangent);
  return engine::with_box(primal, box);
}

LevelScope::LevelScope(Tape* tape, std::int64_t directions) {
  if (t_levels.size == kMaxLevels)
    throw AutodiffError("[transform] " + std::to_string(kMaxLevels) +
                        " nested transforms are active; expected fewer. Is a transform calling itself?");
  level_.serial = next_serial();
  level_.directions = directions;
  level_.tape = tape;
  t_levels.items[t_levels.size++] = &level_;
  level_.depth = t_levels.size;
}

LevelScope::~LevelScope() { --t_levels.size; }

Tensor LevelScope::box_forward(const Tensor& primal, Tensor tangent) const {
  if (!tangent.defined()) return primal;
  return make_box(level_, primal, std::move(tangent), -1);
}

Tensor LevelScope::box_reverse(const Tensor& primal, std::int32_t value) const {
  return make_box(level_, primal, Tensor(), value);
}

Peeled peel(const Level& level, const Tensor& t) {
  const Box* box = box_of(t);
  if (box == nullptr || box->serial != level.serial) return {t, {}, -1};
  return {box->primal, box->tangent, box->value};
}

BarScope::BarScope(const char* what) : size_(t_levels.size), previous_(t_bar_reason) {
  for (int i = 0; i < size_; ++i) ++t_levels.items[i]->barred;
  t_bar_reason = what;
}

BarScope::~BarScope() {
  for (int i = 0; i < size_; ++i) --t_levels.items[i]->barred;
  t_bar_reason = previous_;
}

void throw_escaped(std::string_view op) {
  throw AutodiffError("[" + std::string(op) +
                      "] got a tensor that escaped the function being differentiated (its transform has ended, or runs "
                      "on another thread); expected tensors of active transforms. Return the value from the function, "
                      "or keep stop_gradient(x) of it.");
}

void throw_captured(std::string_view op) {
  const std::string what = t_bar_reason ? t_bar_reason : "an implicit function";
  throw AutodiffError("[" + std::string(op) + "] a function given to " + what +
                      " captured a differentiable tensor; its gradient would be lost. Pass it in theta (the explicit "
                      "arguments), or use stop_gradient(x) if it is meant to be constant.");
}

}  // namespace solvent::detail
