// The few switches of libtorch that tch does not wrap.
#include <ATen/Context.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

extern "C" {

// INT_MAX is the largest threshold that mallopt takes; -1 is read as the largest size.
bool tavq_keep_freed_memory() {
#ifdef __GLIBC__
  return mallopt(M_MMAP_THRESHOLD, 0x7fffffff) == 1 && mallopt(M_TRIM_THRESHOLD, -1) == 1;
#else
  return false;
#endif
}

void tavq_set_deterministic(bool on) {
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
}

bool tavq_deterministic() {
  return at::globalContext().deterministicAlgorithms();
}

}
