// Which instruction sets Highway kernels are compiled for: a portable fallback, AVX2 and AVX-512 on x86, NEON on Arm.
// Each further target costs the compile time of all kernels again and serves few machines. Include before Highway.
// (No include guard: the macro may be defined on the command line.)
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
