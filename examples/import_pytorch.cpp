// Parameters of a PyTorch model: read a safetensors file, map names and layouts, compare, load, run.
//
//     import_pytorch tests/golden/torch_import.safetensors      (made by tests/golden/make_torch_import.py)
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

// [model]
// The PyTorch model is encoder = Sequential(Linear(3, 8), Tanh(), Linear(8, 5)), rnn = GRU(5, 4), and a matrix `head`
// applied as x @ head, saved from DataParallel: every name begins with "module.".
struct Model : nn::Module {
  nn::Mlp mlp{{3, 8, 5}, Key(1), {.activation = nn::Activation::tanh}};
  nn::Gru rnn{5, 4, Key(2)};
  nn::Linear head{4, 2, Key(3), {.bias = false}};

  Tensor operator()(const Tensor& x) const { return head(rnn(mlp(x))); }
  void visit(nn::Visitor& v) override {
    v("mlp", mlp);
    v("rnn", rnn);
    v("head", head);
  }
};
// [model]

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: import_pytorch FILE.safetensors\n";
    return 2;
  }
  Model model;
  model.to(float64);

  // [rules]
  nn::ImportRules rules;
  rules.drop_prefix("module.")
      .rename(R"(encoder\.0\.(.*))", "mlp.layers.0.$1")
      .rename(R"(encoder\.2\.(.*))", "mlp.layers.1.$1")
      .gru("rnn.", "rnn.cell.", "_l0")  // four tensors of PyTorch's GRU to four of ours
      .rename("head", "head.weight")
      .transpose(R"(head\.weight)")  // stored (in, out), here (out, in)
      .ignore(R"(norm\..*)");        // a layer that is not used
  // [rules]

  // [report]
  // Look before loading: what is missing, unexpected or mis-shaped.
  std::cout << nn::compare_import(model, argv[1], rules).message() << '\n';
  // [report]

  // [load]
  // The file of the tests also holds an input and PyTorch's output for it.
  rules.ignore(R"(test\..*)");
  nn::import_file(model, argv[1], rules);  // throws StateDictError with that report if anything differs
  // [load]

  Tensor x, expected;
  for (const auto& [name, value] : load_safetensors(argv[1]).tensors) {
    if (name == "test.x") x = value;
    if (name == "test.y") expected = value;
  }
  const double difference = max(abs(model(x) - expected)).item();
  std::cout << "largest difference to PyTorch's output " << difference << '\n';
  return difference < 1e-12 ? 0 : 1;
}
