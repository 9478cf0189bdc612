// The table of the CPU backend: every family's rows, in the order in which they are asked.

#include <vector>

#include "backend/cpu/device.h"
#include "backend/cpu/kernels/families.h"

namespace sinter {
namespace {

std::span<const Kernel* const> kernels() {
  static const std::vector<const Kernel*> table = [] {
    std::vector<const Kernel*> all;
    for (const std::span<const Kernel> family :
         {cpu::contraction_kernels(),  cpu::attention_kernels(),  cpu::spatial_kernels(),
          cpu::program_kernels(),      cpu::movement_kernels(),   cpu::indexing_kernels(),
          cpu::selection_kernels(),    cpu::dynamic_kernels(),    cpu::suppression_kernels(),
          cpu::late_kernels(),         cpu::generation_kernels(), cpu::packing_kernels(),
          cpu::resize_kernels(),       cpu::recurrent_kernels(),  cpu::integer_depthwise_kernels(),
          cpu::byte_pooling_kernels(), cpu::integer_kernels(),    cpu::resample_kernels(),
          cpu::sample_kernels(),       cpu::signal_kernels(),     cpu::deformable_kernels(),
          cpu::plane_kernels(),        cpu::planar_kernels(),     cpu::strip_kernels(),
          cpu::winograd_kernels(),     cpu::custom_kernels()})
      for (const Kernel& kernel : family) all.push_back(&kernel);
    return all;
  }();
  return table;
}

}  // namespace

const Backend& cpu_backend() {
  static constexpr Backend backend = {"cpu", kernels, cpu::describe};
  return backend;
}

}  // namespace sinter
