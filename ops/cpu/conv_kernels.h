#pragma once
/// CPU kernels of the convolution family:
///
///     conv(x, w) = y     conv_input_grad(g, w) = x-like     conv_weight_grad(x, g) = w-like
///
/// with x (N, C, H, W), w (O, C / groups, kh, kw), y and g (N, O, H', W').
///
/// Three implementations, compared in tests/ops/conv_kernels_test.cpp: matrix products on unfolded maps (conv_gemm.cpp; any
/// floating type), oneDNN (conv_onednn.cpp; float32), and tiles of 2 x 2 results with 16 multiplications instead of 36
/// (Winograd; conv_winograd.cpp; float32, filters 3x3 of stride 1). All cut the work into pieces by sizes only and add
/// partial sums in a fixed order, so the bits do not depend on the number of threads.
///
/// Accuracy of the tiles. Relative to the sum of the absolute values of a result's terms, root mean square errors are 0.9e-8 to
/// 2e-8 for maps and their gradients (32 to 256 channels, maps of mean 0 and of mean 10 with standard deviation 1), where the
/// products have 0.8e-8 to 2.1e-8 and oneDNN 0.6e-8 to 2e-8; the largest error was 2e-7 (2.5e-7 and 1.5e-7). For weight
/// gradients they are 1.2e-8 to 2.8e-8, and 1.3e-7 to 2.6e-7 for operands of mean 10, where sums grow long (products 0.7e-8 to
/// 2e-8 and 0.6e-7 to 1.4e-7, oneDNN 1.4e-8 to 2.8e-8 and 2.4e-7 to 4.6e-7).
///
/// A NaN in x, w or g reaches the results that depend on it, and no others; so does infinity, which may become NaN on the
/// way, as the tiles hold differences. In weight gradients a NaN near the border of a map may also reach taps that do not
/// see it. Numbers beyond a quarter of float32's range may overflow on the way.

#include <cstdint>

#include "solvent/core/matmul_precision.h"
#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// One spatial axis of a convolution.
struct ConvAxis {
  std::int64_t in = 0;      ///< extent of the map
  std::int64_t kernel = 0;  ///< extent of the filter
  std::int64_t out = 0;     ///< positions of the result
  std::int64_t stride = 1;
  std::int64_t before = 0;  ///< zeros in front of the map
  std::int64_t after = 0;
  std::int64_t dilation = 1;
};

struct ConvGeometry {
  ConvAxis h;
  ConvAxis w;
  std::int64_t groups = 1;
  MatmulPrecision precision = MatmulPrecision::highest;  ///< of float32, on a GPU
};

/// Sizes of one problem.
struct ConvShape {
  std::int64_t n = 0;
  std::int64_t c = 0;  ///< channels of x, all groups together
  std::int64_t o = 0;  ///< channels of y
  ConvGeometry g;

  [[nodiscard]] std::int64_t group_c() const noexcept { return c / g.groups; }
  [[nodiscard]] std::int64_t group_o() const noexcept { return o / g.groups; }
  [[nodiscard]] std::int64_t taps() const noexcept { return g.h.kernel * g.w.kernel; }
  [[nodiscard]] std::int64_t map() const noexcept { return g.h.in * g.w.in; }       ///< positions of x
  [[nodiscard]] std::int64_t result() const noexcept { return g.h.out * g.w.out; }  ///< positions of y
  [[nodiscard]] std::int64_t weights() const noexcept { return o * group_c() * taps(); }
  /// Multiply-adds for one image.
  [[nodiscard]] double work() const noexcept { return static_cast<double>(weights()) * static_cast<double>(result()); }
};

/// Backends other than `automatic` are tried first and mean `gemm` where they do not serve the sizes or the type. `automatic`
/// is the fastest as measured; with SOLVENT_CONV=direct in the environment it never is `winograd`.
enum class ConvBackend : std::uint8_t { automatic, gemm, onednn, winograd };

/// Whether this build has oneDNN.
SOLVENT_API bool has_onednn() noexcept;

/// Tensors of any strides; results are contiguous.
SOLVENT_API Tensor conv(const Tensor& x, const Tensor& w, const ConvGeometry& g,
                        ConvBackend backend = ConvBackend::automatic);
SOLVENT_API Tensor conv_input_grad(const Tensor& g, const Tensor& w, const ConvGeometry& geometry,
                                   ConvBackend backend = ConvBackend::automatic);
SOLVENT_API Tensor conv_weight_grad(const Tensor& x, const Tensor& g, const ConvGeometry& geometry,
                                    ConvBackend backend = ConvBackend::automatic);

// --- on contiguous memory, sizes > 0; for conv.cpp --------------------------------------------------------------------------

template <class T>
void conv_gemm(const ConvShape& s, const T* x, const T* w, T* y);
template <class T>
void conv_input_grad_gemm(const ConvShape& s, const T* g, const T* w, T* x);
template <class T>
void conv_weight_grad_gemm(const ConvShape& s, const T* x, const T* g, T* w);

/// False, and nothing is written, if oneDNN has no fast code for these sizes.
bool conv_onednn(const ConvShape& s, const float* x, const float* w, float* y);
bool conv_input_grad_onednn(const ConvShape& s, const float* g, const float* w, float* x);
bool conv_weight_grad_onednn(const ConvShape& s, const float* x, const float* g, float* w);

/// False, and nothing is written, unless filters are 3x3 with stride 1, dilation 1 and one group.
bool conv_winograd(const ConvShape& s, const float* x, const float* w, float* y);
bool conv_input_grad_winograd(const ConvShape& s, const float* g, const float* w, float* x);
bool conv_weight_grad_winograd(const ConvShape& s, const float* x, const float* g, float* w);

}  // namespace solvent::cpu
