// Helpers for tests that build and run whole engines from graphs made in place.
#pragma once

#include <functional>
#include <random>

#include "backend/verify.h"
#include "builder/pipeline.h"
#include "engine/file.h"
#include "op_testing.h"
#include "runtime/engine.h"

namespace sinter::testing {

// A graph with one input of this type; `fill` gives its results.
inline Module module_with(std::vector<Type> inputs, const std::function<Ids(GraphBuilder&, const Ids&)>& fill) {
  Module module;
  GraphBuilder b(module, *module.main);
  Ids values;
  for (size_t i = 0; i < inputs.size(); ++i) values.push_back(b.input(inputs[i], "x" + std::to_string(i)));
  module.main->outputs = fill(b, values);
  for (size_t o = 0; o < module.main->outputs.size(); ++o)
    (*module.main)[module.main->outputs[o]].name = "y" + std::to_string(o);
  return module;
}

inline Dim named(Module& module, std::string name) {
  return Dim::symbol(module.symbols.add({.name = std::move(name)}));
}

inline Target build_target(Module module, int threads = 1, std::vector<DimRange> dims = {}) {
  BuildOptions options;
  options.threads = threads;
  options.dims = std::move(dims);
  options.check = true;
  return build(std::move(module), options).target;
}

inline std::shared_ptr<const Engine> engine_of(Module module, int threads = 1, std::vector<DimRange> dims = {}) {
  Target target = build_target(std::move(module), threads, std::move(dims));
  const DeviceSpec device = this_machine(threads);
  verify_target(target, device);
  return std::make_shared<const Engine>(make_executable(std::move(target), device));
}

inline Tensor random_tensor(Dims dims, uint64_t seed = 1) {
  Tensor t(DType::f32, std::move(dims));
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < t.count(); ++i) t.as_mutable<float>()[i] = normal(random);
  return t;
}

}  // namespace sinter::testing
