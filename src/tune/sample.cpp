#include "tune/sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/scanner.h"

namespace sinter {
namespace {

// What an extent nobody decides usually is: one sample, an image of 224 x 224, a short sequence.
int64_t guess(size_t axis, size_t rank) {
  if (axis == 0) return 1;
  if (rank == 4 && axis >= 2) return 224;
  return 16;
}

class Sampler {
 public:
  Sampler(const SymbolTable& symbols, uint64_t seed) : symbols_(symbols), random_(seed) {}

  std::vector<int64_t> values;  // by symbol; -1: not decided

  Box make(const Type& type) {
    switch (type.kind) {
      case Type::Kind::sequence: return Box::sequence({make(*type.element), make(*type.element)});
      case Type::Kind::optional: return make(*type.element);
      case Type::Kind::map: return map(type);
      case Type::Kind::tensor: return Box(tensor(type.dtype, extents(type)));
      case Type::Kind::invalid: break;
    }
    return {};
  }

  // Keys 0, 1, 2 or "w0", "w1", "w2".
  Box map(const Type& type) {
    constexpr int64_t count = 3;
    Tensor keys(type.dtype, {count});
    for (int64_t i = 0; i < count; ++i)
      if (type.dtype == DType::string)
        keys.strings()[static_cast<size_t>(i)] = fmt::format("w{}", i);
      else
        keys.set_integer(i, i);
    return Box::map(std::move(keys), tensor(type.element->dtype, {count}));
  }

  Tensor tensor(DType dtype, Dims dims) {
    Tensor out(dtype, std::move(dims));
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < out.count(); ++i) {
      if (dtype == DType::string)
        out.strings()[static_cast<size_t>(i)] = fmt::format("w{}", random_() % 10);
      else if (is_complex(dtype))
        continue;
      else if (is_float(dtype))
        out.set_real(i, normal(random_));
      else
        out.set_integer(i, static_cast<int64_t>(random_() % 2));
    }
    return out;
  }

  Dims extents(const Type& type) {
    if (!type.shape) return {1};
    Dims dims;
    for (size_t k = 0; k < type.shape->size(); ++k) {
      const Dim& d = (*type.shape)[k];
      if (const auto id = d.as_symbol(); id && values[*id] < 0)
        values[*id] = std::max(guess(k, type.shape->size()), symbols_[*id].low);
      dims.push_back(std::max<int64_t>(0, d.evaluate(values)));
    }
    return dims;
  }

 private:
  const SymbolTable& symbols_;
  std::mt19937_64 random_;
};

}  // namespace

std::vector<Box> sample_inputs(std::span<const SampledInput> inputs, const SymbolTable& symbols,
                               std::span<const int64_t> best, const SampleOptions& options) {
  Sampler sampler(symbols, options.seed);
  sampler.values.assign(best.begin(), best.end());
  sampler.values.resize(symbols.size(), -1);
  for (const auto& entry : options.shapes) {
    const std::string& name = entry.first;
    const Dims& dims = entry.second;
    const auto at = std::find_if(inputs.begin(), inputs.end(), [&](const SampledInput& i) { return i.name == name; });
    if (at == inputs.end()) {
      std::string names;
      for (const SampledInput& input : inputs) names += (names.empty() ? "" : ", ") + input.name;
      throw Error(Code::invalid_argument,
                  fmt::format("the network has no input named '{}'; it has: {}", printable(name), names));
    }
    const auto wrong = [&] {
      return Error(Code::invalid_argument, fmt::format("the shape given for input '{}' does not fit {}",
                                                       printable(name), to_text(at->type, symbols)))
          .at_tensor(name);
    };
    if (!at->type.is_tensor()) throw wrong();
    if (!at->type.shape) continue;
    if (at->type.shape->size() != dims.size()) throw wrong();
    for (size_t k = 0; k < dims.size(); ++k) {
      const Dim& d = (*at->type.shape)[k];
      if (d.is_constant() && d.constant() != dims[k]) throw wrong();
      if (const auto id = d.as_symbol()) sampler.values[*id] = dims[k];
    }
  }
  std::vector<Box> out;
  for (const SampledInput& input : inputs) {
    const auto given = options.shapes.find(input.name);
    if (given != options.shapes.end() && !input.type.shape)
      out.emplace_back(sampler.tensor(input.type.dtype, given->second));
    else
      out.push_back(sampler.make(input.type));
  }
  return out;
}

}  // namespace sinter
