#pragma once
/// libtorch as a peer. Everything here is empty in builds without it (SOLVENT_BENCH_TORCH=OFF or not found): rows leave
/// out peers that cannot run. Kept behind plain types, because libtorch's headers take half a minute to compile.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace solvent::bench::torch_peer {

/// One measured call, and what it computed (for checks before timing).
struct Call {
  std::function<void()> run;
  std::function<std::vector<float>()> result;
};

/// "libtorch 1.13.1 (AVX2)", or "none".
std::string description();
/// Threads of libtorch's loops and of its BLAS.
void set_threads(int n);

enum class Mode { untaped, recorded, backward };
/// h = h + b (or h * b) `length` times on vectors of `n` floats: without a tape, recorded, recorded and differentiated.
Call chain(bool multiply, int n, int length, Mode mode);

/// "add", "exp", "tanh", "sigmoid", "gelu", "sum", or "softmax" and "layer_norm" along the last of (rows, columns).
/// `out`: into a result made before (operations that have such a form), else into fresh memory.
Call elementwise(const std::string& name, const float* x, const float* y, std::int64_t rows, std::int64_t columns,
                 bool out);

/// (batch, m, k) x (batch, k, n); batch 0: plain matrices.
Call matmul(const float* a, const float* b, std::int64_t batch, std::int64_t m, std::int64_t k, std::int64_t n);

/// "cholesky", "slogdet" (the logarithm), "inverse", "qr" (q), "eigh" (values), "svd" (values) or "expm" of matrices
/// (batch, n, n); "triangular_solve" with the lower triangle of a for a; "lstsq" of the first half of the columns for the
/// second half. Empty for other names.
Call matrices(const std::string& name, const float* a, std::int64_t batch, std::int64_t n);

/// A convolution of stride 1: x (n, c, h, w), filters (o, c, kh, kw).
struct ConvSizes {
  std::int64_t n, c, o, h, w, kh, kw, pad_h, pad_w;
};
enum class ConvPart { forward, input_grad, weight_grad };
/// One of the three for a result-like g.
Call conv2d(const ConvSizes& sizes, ConvPart part, const float* x, const float* w, const float* g);

struct GruSizes {
  std::int64_t t, b, input, hidden;
};
/// nn.GRU's one layer on xs (T, B, I), h0 (B, H). The result of a backward call is the gradient of w_hh for a cotangent of
/// ones.
Call gru(const GruSizes& sizes, const float* xs, const float* h0, const float* w_ih, const float* w_hh,
         const float* b_ih, const float* b_hh, bool backward);

/// "batch_norm" (training, N C ...), "layer_norm" (last axis), "softmax" (last axis), "softmax_channels" (axis 1),
/// "cross_entropy" (rows, classes; labels), "max_pool_2x2", "max_pool_stem" (3x3, stride 2, padding 1), "dropout"; scales 1
/// and shifts 0. Backward: the forward pass and the gradients of x and parameters for the cotangent x (batch_norm,
/// layer_norm, softmax) or ones; the result is x's.
Call layer(const std::string& name, const float* x, const std::vector<std::int64_t>& shape,
           const std::vector<std::int64_t>& labels, bool backward);

enum class TrainingModel { mlp, cnn, gru };
struct TrainingOptions {
  TrainingModel model = TrainingModel::mlp;
  std::string optimizer;  ///< "sgd" (momentum 0.9) or "adam"
  double rate = 0;
};
/// One training step of a model of training_bench.cpp, from our values of its parameters. The result is the loss before the
/// step. In torch_training.cpp.
Call training(const TrainingOptions& options, const std::vector<std::vector<float>>& parameters, const float* x,
              const std::vector<std::int64_t>& x_shape, const std::vector<std::int64_t>& labels);

}  // namespace solvent::bench::torch_peer
