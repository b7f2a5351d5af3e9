#pragma once
/// Before a loop whose arrays should live in registers. For `.cu` files only.

#ifndef SOLVENT_UNROLL
#if SOLVENT_CUDA_EMULATED
#define SOLVENT_UNROLL
#else
#define SOLVENT_UNROLL _Pragma("unroll")
#endif
#endif
