// deer: nonlinear recurrences evaluated in parallel over time.

#include "solvent/experiments/deer/classify.h"
#include "solvent/experiments/deer/demo.h"

int main(int argc, char** argv) {
  using namespace solvent::experiments;
  Program program("deer", "nonlinear recurrences evaluated in parallel over time (Lim et al. 2024, arXiv:2309.12252)");
  DemoSettings demo_settings;
  ClassifySettings classify_settings;
  describe(demo_settings, program.command("demo", "one recurrence, evaluated by every method and compared",
                                          [&](const Invocation& i) { return demo(demo_settings, i); }));
  describe(classify_settings,
           program.command("classify", "train a GRU classifier of time series through a parallel solver",
                           [&](const Invocation& i) { return classify(classify_settings, i); }));
  return program.main(argc, argv);
}
