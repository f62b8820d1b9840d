// The few switches of libtorch that tch does not wrap.
#include <ATen/Context.h>

extern "C" {

void tavq_set_deterministic(bool on) {
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
}

bool tavq_deterministic() {
  return at::globalContext().deterministicAlgorithms();
}

}
