// What libFuzzer calls; SOLVENT_FUZZ_RUN is the function of this program's target.

#include <cstddef>
#include <cstdint>

#include "solvent/tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  solvent::fuzz::SOLVENT_FUZZ_RUN({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
