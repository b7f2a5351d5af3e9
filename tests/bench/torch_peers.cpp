#include "solvent/tests/bench/torch_peers.h"

#if SOLVENT_BENCH_TORCH

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/torch.h>

namespace solvent::bench::torch_peer {
namespace {

std::vector<float> values(const torch::Tensor& t) {
  const torch::Tensor dense = t.detach().contiguous();
  return {dense.data_ptr<float>(), dense.data_ptr<float>() + dense.numel()};
}

torch::Tensor copy(const float* data, at::IntArrayRef shape) {
  return torch::from_blob(const_cast<float*>(data), shape, torch::kFloat32).clone();
}

}  // namespace

std::string description() {
  const std::string config = at::show_config();  // has a line "CPU capability usage: AVX2"
  const std::string title = "CPU capability usage: ";
  std::string capability = "instruction set unknown";
  if (const std::size_t at = config.find(title); at != std::string::npos)
    capability = config.substr(at + title.size(), config.find('\n', at) - at - title.size());
  return std::string("libtorch ") + TORCH_VERSION + " (" + capability + ")";
}

void set_threads(int n) { at::set_num_threads(n); }

Call chain(bool multiply, int n, int length, Mode mode) {
  const torch::Tensor x = torch::ones({n}).set_requires_grad(mode != Mode::untaped);
  const torch::Tensor b = torch::ones({n});
  auto forward = [=] {
    torch::Tensor h = x;
    for (int i = 0; i < length; ++i) h = multiply ? h * b : h + b;
    return h;
  };
  const torch::Tensor seed = torch::ones({n});
  auto gradient = [=] { return torch::autograd::grad({forward()}, {x}, {seed})[0]; };
  if (mode == Mode::backward) return {[=] { gradient(); }, [=] { return values(gradient()); }};
  if (mode == Mode::recorded) return {[=] { forward(); }, [=] { return values(forward()); }};
  return {[=] {
            const torch::NoGradGuard guard;
            forward();
          },
          [=] { return values(forward()); }};
}

Call elementwise(const std::string& name, const float* x_data, const float* y_data, std::int64_t rows,
                 std::int64_t columns, bool out) {
  const torch::Tensor x = copy(x_data, {rows, columns});
  const torch::Tensor y = y_data ? copy(y_data, {rows, columns}) : torch::Tensor();
  std::function<torch::Tensor()> compute;
  if (out) {
    torch::Tensor r = torch::zeros({rows, columns});
    if (name == "add") compute = [=]() mutable { return torch::add_out(r, x, y); };
    if (name == "exp") compute = [=]() mutable { return torch::exp_out(r, x); };
    if (name == "tanh") compute = [=]() mutable { return torch::tanh_out(r, x); };
    if (name == "sigmoid") compute = [=]() mutable { return torch::sigmoid_out(r, x); };
    if (name == "gelu") compute = [=]() mutable { return torch::gelu_out(r, x); };
    if (name == "gelu_tanh") compute = [=]() mutable { return torch::gelu_out(r, x, "tanh"); };
  } else {
    if (name == "add") compute = [=] { return x + y; };
    if (name == "exp") compute = [=] { return torch::exp(x); };
    if (name == "tanh") compute = [=] { return torch::tanh(x); };
    if (name == "sigmoid") compute = [=] { return torch::sigmoid(x); };
    if (name == "gelu") compute = [=] { return torch::gelu(x); };
    if (name == "gelu_tanh") compute = [=] { return torch::gelu(x, "tanh"); };
    if (name == "sum") compute = [=] { return torch::sum(x); };
    if (name == "softmax") compute = [=] { return torch::softmax(x, -1); };
    if (name == "layer_norm") compute = [=] { return torch::layer_norm(x, {columns}); };
  }
  if (!compute) return {};
  auto run = [compute] {
    const torch::NoGradGuard guard;
    compute();
  };
  auto result = [compute] {
    const torch::NoGradGuard guard;
    return values(compute());
  };
  return {run, result};
}

Call matmul(const float* a_data, const float* b_data, std::int64_t batch, std::int64_t m, std::int64_t k,
            std::int64_t n) {
  const bool batched = batch > 0;
  const torch::Tensor a = batched ? copy(a_data, {batch, m, k}) : copy(a_data, {m, k});
  const torch::Tensor b = batched ? copy(b_data, {batch, k, n}) : copy(b_data, {k, n});
  auto compute = [=] {
    const torch::NoGradGuard guard;
    return batched ? torch::bmm(a, b) : torch::mm(a, b);
  };
  return {[=] { compute(); }, [=] { return values(compute()); }};
}

Call matrices(const std::string& name, const float* a_data, std::int64_t batch, std::int64_t n) {
  const torch::Tensor a = copy(a_data, {batch, n, n});
  std::function<torch::Tensor()> compute;
  if (name == "cholesky") compute = [=] { return at::linalg_cholesky(a); };
  if (name == "slogdet") compute = [=] { return std::get<1>(at::linalg_slogdet(a)); };
  if (name == "inverse") compute = [=] { return at::linalg_inv(a); };
  if (name == "qr") compute = [=] { return std::get<0>(at::linalg_qr(a)); };
  if (name == "eigh") compute = [=] { return std::get<0>(at::linalg_eigh(a)); };
  if (name == "svd") compute = [=] { return std::get<1>(at::linalg_svd(a, false)); };
  if (name == "expm") compute = [=] { return at::linalg_matrix_exp(a); };
  if (name == "triangular_solve") compute = [=] { return at::linalg_solve_triangular(a, a, false); };
  if (name == "lstsq")
    compute = [=] { return std::get<0>(at::linalg_lstsq(a.narrow(-1, 0, n / 2), a.narrow(-1, n / 2, n - n / 2))); };
  if (!compute) return {};
  const auto guarded = [compute] {
    const torch::NoGradGuard guard;
    return compute();
  };
  return {[=] { guarded(); }, [=] { return values(guarded()); }};
}

Call conv2d(const ConvSizes& s, ConvPart part, const float* x_data, const float* w_data, const float* g_data) {
  const torch::Tensor x = copy(x_data, {s.n, s.c, s.h, s.w});
  const torch::Tensor w = copy(w_data, {s.o, s.c, s.kh, s.kw});
  const torch::Tensor g = copy(g_data, {s.n, s.o, s.h + 2 * s.pad_h - s.kh + 1, s.w + 2 * s.pad_w - s.kw + 1});
  auto compute = [=] {
    const torch::NoGradGuard guard;
    if (part == ConvPart::forward) return torch::conv2d(x, w, {}, 1, {s.pad_h, s.pad_w});
    const bool input = part == ConvPart::input_grad;
    auto grads = at::convolution_backward(g, x, w, c10::nullopt, {1, 1}, {s.pad_h, s.pad_w}, {1, 1}, false, {0, 0}, 1,
                                          {input, !input, false});
    return input ? std::get<0>(grads) : std::get<1>(grads);
  };
  return {[=] { compute(); }, [=] { return values(compute()); }};
}

Call gru(const GruSizes& s, const float* xs_data, const float* h0_data, const float* w_ih, const float* w_hh,
         const float* b_ih, const float* b_hh, bool backward) {
  torch::nn::GRU layer(torch::nn::GRUOptions(s.input, s.hidden));
  {
    const torch::NoGradGuard guard;
    auto parameters = layer->named_parameters();
    parameters["weight_ih_l0"].copy_(copy(w_ih, {3 * s.hidden, s.input}));
    parameters["weight_hh_l0"].copy_(copy(w_hh, {3 * s.hidden, s.hidden}));
    parameters["bias_ih_l0"].copy_(copy(b_ih, {3 * s.hidden}));
    parameters["bias_hh_l0"].copy_(copy(b_hh, {3 * s.hidden}));
  }
  const torch::Tensor xs = copy(xs_data, {s.t, s.b, s.input}).set_requires_grad(backward);
  const torch::Tensor h0 = copy(h0_data, {1, s.b, s.hidden});
  if (!backward) {
    auto forward = [=]() mutable {
      const torch::NoGradGuard guard;
      return std::get<0>(layer->forward(xs, h0));
    };
    return {[=]() mutable { forward(); }, [=]() mutable { return values(forward()); }};
  }
  const torch::Tensor seed = torch::ones({s.t, s.b, s.hidden});
  auto gradients = [=]() mutable {
    std::vector<torch::Tensor> inputs = layer->parameters();
    inputs.push_back(xs);
    return torch::autograd::grad({std::get<0>(layer->forward(xs, h0))}, inputs, {seed});
  };
  return {[=]() mutable { gradients(); }, [=]() mutable { return values(gradients()[1]); }};
}

Call layer(const std::string& name, const float* x_data, const std::vector<std::int64_t>& shape,
           const std::vector<std::int64_t>& labels, bool backward) {
  const torch::Tensor x = copy(x_data, shape).set_requires_grad(backward);
  const std::int64_t features = name == "batch_norm" ? shape[1] : shape.back();
  const bool affine = name == "batch_norm" || name == "layer_norm";
  const torch::Tensor w = torch::ones({affine ? features : 1}).set_requires_grad(backward);
  const torch::Tensor b = torch::zeros({affine ? features : 1}).set_requires_grad(backward);
  const torch::Tensor target = torch::tensor(labels, torch::kInt64);
  const torch::Tensor mean = torch::zeros({features}), var = torch::ones({features});
  std::function<torch::Tensor()> compute;
  if (name == "batch_norm") compute = [=] { return torch::batch_norm(x, w, b, mean, var, true, 0.1, 1e-5, false); };
  if (name == "layer_norm") compute = [=] { return torch::layer_norm(x, {features}, w, b); };
  if (name == "softmax") compute = [=] { return torch::softmax(x, -1); };
  if (name == "softmax_channels") compute = [=] { return torch::softmax(x, 1); };
  if (name == "cross_entropy") compute = [=] { return torch::cross_entropy_loss(x, target); };
  if (name == "max_pool_2x2") compute = [=] { return torch::max_pool2d(x, {2, 2}); };
  if (name == "max_pool_stem") compute = [=] { return torch::max_pool2d(x, {3, 3}, {2, 2}, {1, 1}); };
  if (name == "dropout") compute = [=] { return torch::dropout(x, 0.5, true); };
  if (!compute) return {};
  if (!backward) {
    auto forward = [=] {
      const torch::NoGradGuard guard;
      return compute();
    };
    return {[=] { forward(); }, [=] { return values(forward()); }};
  }
  const torch::Tensor seed = affine || name.starts_with("softmax") ? x.detach() : torch::ones_like(compute().detach());
  auto gradients = [=] {
    std::vector<torch::Tensor> inputs = {x};
    if (affine) inputs.insert(inputs.end(), {w, b});
    return torch::autograd::grad({compute()}, inputs, {seed});
  };
  return {[=] { gradients(); }, [=] { return values(gradients()[0]); }};
}

}  // namespace solvent::bench::torch_peer

#else

namespace solvent::bench::torch_peer {

std::string description() { return "none"; }
void set_threads(int) {}
Call chain(bool, int, int, Mode) { return {}; }
Call elementwise(const std::string&, const float*, const float*, std::int64_t, std::int64_t, bool) { return {}; }
Call matmul(const float*, const float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t) { return {}; }
Call matrices(const std::string&, const float*, std::int64_t, std::int64_t) { return {}; }
Call conv2d(const ConvSizes&, ConvPart, const float*, const float*, const float*) { return {}; }
Call gru(const GruSizes&, const float*, const float*, const float*, const float*, const float*, const float*, bool) {
  return {};
}
Call layer(const std::string&, const float*, const std::vector<std::int64_t>&, const std::vector<std::int64_t>&, bool) {
  return {};
}

}  // namespace solvent::bench::torch_peer

#endif
