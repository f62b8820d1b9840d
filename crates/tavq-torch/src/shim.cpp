// The few switches of libtorch that tch does not wrap.
#include <ATen/Context.h>

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

constexpr size_t kAlignment = 64;

void release(void* data) {
  if (data != nullptr) std::free(static_cast<void**>(data)[-1]);
}

// libtorch asks glibc for aligned blocks, and glibc never gives a freed one to the next request of its size, because it looks
// for one that is larger by the alignment. Here the alignment is part of the request, so a freed block fits the next tensor of
// its size. The block's own address is kept in front of the data.
struct Reusing final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    c10::Device cpu(c10::DeviceType::CPU);
    if (n == 0) return {nullptr, nullptr, &release, cpu};
    void* block = n <= PTRDIFF_MAX - kAlignment ? std::malloc(n + kAlignment) : nullptr;
    TORCH_CHECK(block != nullptr, "not enough memory for ", n, " bytes");
    // malloc aligns to 16 bytes, so at least as many lie between.
    auto address = (reinterpret_cast<uintptr_t>(block) + kAlignment) & ~uintptr_t(kAlignment - 1);
    auto data = reinterpret_cast<void**>(address);
    data[-1] = block;
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
};

}  // namespace

extern "C" {

// INT_MAX is the largest threshold that mallopt takes; -1 is read as the largest size.
bool tavq_keep_freed_memory() {
#ifdef __GLIBC__
  static Reusing allocator;
  if (mallopt(M_MMAP_THRESHOLD, 0x7fffffff) != 1 || mallopt(M_TRIM_THRESHOLD, -1) != 1) return false;
  c10::SetCPUAllocator(&allocator);
  return true;
#else
  return false;
#endif
}

void tavq_return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void tavq_set_deterministic(bool on) {
  at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/false);
}

bool tavq_deterministic() {
  return at::globalContext().deterministicAlgorithms();
}

}
