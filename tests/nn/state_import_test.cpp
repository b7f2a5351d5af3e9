#include "solvent/nn/state_import.h"

#include <set>

#include "solvent/core/io/atomic_file.h"
#include "solvent/core/io/npy.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"
#include "solvent/tests/support/temp_folder.h"
#include "solvent/tests/support/zip_writer.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr const char* kFile = "golden/torch_import.safetensors";

/// The model of make_torch_import.py, with this library's names and layouts.
struct Model : Module {
  Mlp mlp{{3, 8, 5}, Key(1), {.activation = Activation::tanh}};
  GruCell gru{5, 4, Key(2)};
  Linear head{4, 2, Key(3), {.bias = false}};

  explicit Model(DType dtype = float64) { to(dtype); }
  void visit(Visitor& v) override {
    v("mlp", mlp);
    v("gru", gru);
    v("head", head);
  }
  Tensor operator()(const Tensor& x) const {
    const Tensors t = gru.theta();
    return head(gru_sequence(mlp(x), zeros({x.size(1), 4}, x.dtype()), t[0], t[1], t[2], t[3]));
  }
};

ImportRules rules() {
  ImportRules r;
  r.drop_prefix("module.")
      .ignore(R"(test\..*|norm\..*)")
      .rename(R"(encoder\.0\.(.*))", "mlp.layers.0.$1")
      .rename(R"(encoder\.2\.(.*))", "mlp.layers.1.$1")
      .gru("rnn.", "gru.", "_l0")
      .rename("head", "head.weight")
      .transpose(R"(head\.weight)");
  return r;
}

TEST_CASE("state_import: a PyTorch model computes the same here", "[nn]") {
  const Golden golden("torch_import");
  Model model;
  CHECK(compare_import(model, kFile, rules()).ok());
  CHECK(import_file(model, kFile, rules()).ok());
  CHECK_CLOSE(model(golden["test.x"]), golden["test.y"], 1e-13);

  Model narrow(float32);
  CHECK(import_file(narrow, kFile, rules(), {.cast = true}).ok());
  CHECK_CLOSE(narrow(cast(golden["test.x"], float32)), cast(golden["test.y"], float32), 1e-6);
}

TEST_CASE("state_import: all differences are reported as data and in the text, and nothing is loaded", "[nn]") {
  Model model;
  const Tensors before = model.parameter_values();
  ImportRules r;
  r.drop_prefix("module.")
      .ignore(R"(test\..*|norm\.[^n].*)")
      .rename(R"(encoder\.0\.(.*))", "mlp.layers.0.$1")
      .gru("rnn.", "gru.", "_l0")
      .rename("head", "head.weight");
  const LoadReport report = compare_import(model, kFile, r);
  CHECK(report.missing == std::vector<std::string>{"mlp.layers.1.weight", "mlp.layers.1.bias"});
  CHECK(std::set<std::string>(report.unexpected.begin(), report.unexpected.end()) ==
        std::set<std::string>{"encoder.2.weight", "encoder.2.bias", "norm.num_batches_tracked"});
  REQUIRE(report.mismatched.size() == 1);
  CHECK(report.mismatched[0] ==
        "head.weight: got float64(4, 2), expected float64(2, 4) (it fits transposed: add a transpose rule)");
  try {
    import_file(model, kFile, r);
    FAIL("nothing was thrown");
  } catch (const StateDictError& e) {
    CHECK(e.report().missing == report.missing);
    CHECK(e.report().mismatched == report.mismatched);
    CHECK(testing::has_all(e.what(), {"[import_state_dict]", kFile, "missing: mlp.layers.1.bias",
                                      "unexpected: norm.num_batches_tracked", "nothing was loaded", "Strict::no"}));
  }
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(model.parameter_values()[i].impl() == before[i].impl());

  const LoadReport partial = import_file(model, kFile, r, {.strict = Strict::no});
  CHECK(partial.missing == report.missing);
  CHECK(identical(model.mlp.layers[0].weight, Golden("torch_import")["module.encoder.0.weight"]));
  CHECK(model.head.weight.value().impl() == before.back().impl());
}

TEST_CASE("state_import: rules of every kind", "[nn]") {
  const Tensor t = from_vector<float>({1, 2, 3, 4, 5, 6}, {1, 2, 3});
  const StateDict state = {{"a.w", t}, {"a.b", t}, {"c", t}};
  const auto names = [](const StateDict& s) {
    std::string all;
    for (const auto& [name, value] : s) all += name + " ";
    return all;
  };
  CHECK(names(ImportRules().add_prefix("x.").apply(state)) == "x.a.w x.a.b x.c ");
  CHECK(names(ImportRules().drop_prefix("a.").apply(state)) == "w b c ");
  CHECK(names(ImportRules().rename("a", "b").apply(state)) == "a.w a.b c ");  // patterns match whole names
  CHECK(names(ImportRules().rename(R"((\w)\.(\w))", "$2.$1").apply(state)) == "w.a b.a c ");
  CHECK(names(ImportRules().ignore("a.*").apply(state)) == "c ");
  CHECK(names(ImportRules().rename("c", "d").ignore("c").apply(state)) == "a.w a.b d ");  // in order
  const StateDict changed =
      ImportRules().transpose("c").permute(R"(a\.w)", {2, 0, 1}).reshape(R"(a\.b)", {6}).apply(state);
  CHECK(identical(changed[0].second, from_vector<float>({1, 4, 2, 5, 3, 6}, {3, 1, 2})));
  CHECK(identical(changed[1].second, from_vector<float>({1, 2, 3, 4, 5, 6}, {6})));
  CHECK(identical(changed[2].second, from_vector<float>({1, 4, 2, 5, 3, 6}, {1, 3, 2})));
  const StateDict sum = ImportRules()
                            .custom([](StateDict s) {
                              return StateDict{{"sum", s[0].second + s[1].second}};
                            })
                            .apply(state);
  CHECK(identical(sum[0].second, t + t));

  CHECK_ERROR(ValueError, ImportRules().rename("(", "x"), "[ImportRules::rename]", "not a regular expression");
  CHECK_ERROR(ValueError, ImportRules().rename(R"(a\..*)", "c").apply(state), "two tensors are named \"c\"");
  CHECK_ERROR(ShapeError, ImportRules().reshape("c", {7}).apply(state), "[ImportRules::reshape] \"c\"");
  CHECK_ERROR(ShapeError, ImportRules().transpose("s").apply({{"s", scalar(1)}}), "[ImportRules::transpose] \"s\"");
  CHECK_ERROR(ValueError, ImportRules().gru("a.", "b.").apply(state), "no \"a.weight_ih\"", "_l0");
}

TEST_CASE("state_import: files by their ending; dtypes are not changed silently", "[nn]") {
  const testing::TempFolder folder;
  Linear layer(3, 2, Key(1), {.bias = false});
  save_npy(folder.file("weight.npy"), ones({2, 3}));
  CHECK(import_file(layer, folder.file("weight.npy")).ok());
  CHECK(identical(layer.weight, ones({2, 3})));
  save_npy(folder.file("weight.npy"), ones({2, 3}, float64));
  CHECK_ERROR(StateDictError, import_file(layer, folder.file("weight.npy")),
              "got float64(2, 3), expected float32(2, 3) (ImportOptions::cast converts)");
  save_npy(folder.file("weight.npy"), full({2, 3}, 4));
  const std::string array = read_file(folder.file("weight.npy"));
  write_file_atomically(folder.file("model.npz"), tests::zip_bytes({{.name = "weight.npy", .content = array}}));
  CHECK(import_file(layer, folder.file("model.npz")).ok());
  CHECK(identical(layer.weight, full({2, 3}, 4)));
  // Checkpoints are often stored in bfloat16.
  save_safetensors(folder.file("half.safetensors"), {{"weight", full({2, 3}, 0.1, bfloat16)}});
  CHECK_ERROR(StateDictError, import_file(layer, folder.file("half.safetensors")),
              "got bfloat16(2, 3), expected float32(2, 3) (ImportOptions::cast converts)");
  CHECK(import_file(layer, folder.file("half.safetensors"), {}, {.cast = true}).ok());
  CHECK(identical(layer.weight, full({2, 3}, 0.10009765625)));
  CHECK_ERROR(ValueError, read_state_dict("model.pt"), "model.pt", "safetensors.torch.save_file");
  CHECK_ERROR(IoError, read_state_dict(folder.file("none.safetensors")), "No such file");
}

}  // namespace
}  // namespace solvent::nn
