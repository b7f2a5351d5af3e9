// Vector loops behind engine/bfloat16.h; bound by memory.

#include "solvent/core/engine/bfloat16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/core/cpu/bfloat16_kernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::engine::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The rounding of BFloat16(float) on signed words, so that the upper halves fit into 16 signed bits.
void narrow(const float* x, BFloat16* y, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> words;
  const hn::Rebind<std::int16_t, decltype(d)> halves;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto one = hn::Set(words, 1);
  const auto below_half = hn::Set(words, 0x7fff);
  const auto quiet = hn::Set(words, 0x40);
  auto* const out = reinterpret_cast<std::int16_t*>(y);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto value = hn::LoadU(d, x + i);
    const auto bits = hn::BitCast(words, value);
    const auto upper = hn::ShiftRight<16>(bits);
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::And(upper, one), below_half)));
    const auto is_nan = hn::RebindMask(words, hn::Ne(value, value));
    hn::StoreU(hn::DemoteTo(halves, hn::IfThenElse(is_nan, hn::Or(upper, quiet), rounded)), halves, out + i);
  }
  for (; i < n; ++i) y[i] = BFloat16(x[i]);
}

void widen(const BFloat16* x, float* y, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> words;
  const hn::Rebind<std::uint16_t, decltype(d)> halves;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto* const in = reinterpret_cast<const std::uint16_t*>(x);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(words, hn::LoadU(halves, in + i)))), d, y + i);
  for (; i < n; ++i) y[i] = x[i];
}

}  // namespace solvent::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::engine {
namespace {

HWY_EXPORT(narrow);
HWY_EXPORT(widen);

}  // namespace

void convert(const float* x, BFloat16* y, std::int64_t n) { HWY_DYNAMIC_DISPATCH(narrow)(x, y, n); }
void convert(const BFloat16* x, float* y, std::int64_t n) { HWY_DYNAMIC_DISPATCH(widen)(x, y, n); }

}  // namespace solvent::engine
#endif  // HWY_ONCE
