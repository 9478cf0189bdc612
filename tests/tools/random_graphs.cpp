// Random small graphs over common operators: what the compiler makes of them against the evaluation by definition.
//
//   random_graphs [--count N (300)] [--seed S (1)] [--verbose]
//
// Each graph is evaluated by reference, built and run, saved and loaded and run (twice, on other data the second time),
// and built with extents left open, then run with others as well. A failing graph prints its text and the command that
// runs it alone. The last line is "N passed, N failed".

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "backend/verify.h"
#include "base/checked.h"
#include "base/scanner.h"
#include "builder/pipeline.h"
#include "engine/file.h"
#include "graph_maker.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "ops/text.h"
#include "runtime/engine.h"

using namespace sinter;

namespace {

Ids make(GraphBuilder& b, const Recipe& recipe, std::span<const ValueId> parameters) {
  Ids values;
  size_t next = 0;
  for (const Recipe::Item& item : recipe.items) {
    if (item.kind == Recipe::Item::Kind::input) {
      values.push_back(parameters[next++]);
    } else if (item.kind == Recipe::Item::Kind::constant) {
      values.push_back(b.constant(item.tensor));
    } else if (item.call.empty()) {
      const auto index = static_cast<size_t>(&item - recipe.items.data());
      values.resize(
          index + 1 < recipe.first.size() ? static_cast<size_t>(recipe.first[index + 1]) : recipe.values.size(), no_id);
    } else {
      Scanner scanner(item.call);
      Call call = parse_call(scanner);
      Ids inputs;
      for (int v : item.inputs) inputs.push_back(v < 0 ? no_id : values[static_cast<size_t>(v)]);
      std::vector<Graph> bodies;
      const size_t own = item.bodies.empty() ? 0 : item.bodies[0].results.size();
      const bool loop = std::string_view(call.op->name) == "Loop";
      for (const Recipe& body : item.bodies) {
        Graph graph;
        GraphBuilder inner(b.module, graph);
        Ids inside;
        if (loop) {
          inside.push_back(inner.input(Type::tensor(DType::i64, Shape{}), "i"));
          inside.push_back(inner.input(Type::tensor(DType::boolean, Shape{}), "c"));
          for (size_t k = 2; k < inputs.size(); ++k) inside.push_back(inner.input(b.type(inputs[k])));
        } else {
          for (size_t k = 1; k < inputs.size(); ++k) inside.push_back(inner.input(b.type(inputs[k])));
        }
        graph.outputs = make(inner, body, inside);
        bodies.push_back(std::move(graph));
      }
      const size_t index = static_cast<size_t>(&item - recipe.items.data());
      const size_t end =
          index + 1 < recipe.first.size() ? static_cast<size_t>(recipe.first[index + 1]) : recipe.values.size();
      size_t outputs = end - static_cast<size_t>(recipe.first[index]);
      if (own) outputs = loop ? own - 1 : own;
      for (ValueId v : b.add(*call.op, std::move(call.attrs), std::move(inputs), outputs, std::move(bodies)))
        values.push_back(v);
    }
  }
  Ids results;
  for (int r : recipe.results) results.push_back(values[static_cast<size_t>(r)]);
  return results;
}

Module module_of(const Recipe& recipe, bool dynamic) {
  Module module;
  GraphBuilder b(module, *module.main);
  Ids inputs;
  for (size_t i = 0; i < recipe.items.size(); ++i) {
    if (recipe.items[i].kind != Recipe::Item::Kind::input) continue;
    const Recipe::Value& v = recipe.values[static_cast<size_t>(recipe.first[i])];
    Shape shape;
    for (size_t k = 0; k < v.dims.size(); ++k)
      shape.push_back(dynamic && recipe.open[inputs.size()][k]
                          ? Dim::symbol(module.symbols.add({.name = fmt::format("d{}_{}", inputs.size(), k)}))
                          : Dim(v.dims[k]));
    inputs.push_back(b.input(Type::tensor(v.dtype, std::move(shape)), fmt::format("x{}", inputs.size())));
  }
  module.main->outputs = make(b, recipe, inputs);
  for (size_t o = 0; o < module.main->outputs.size(); ++o) module.output_names.push_back(fmt::format("y{}", o));
  return module;
}

std::vector<Box> data_for(const Recipe& recipe, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Box> out;
  for (size_t i = 0; i < recipe.items.size(); ++i) {
    if (recipe.items[i].kind != Recipe::Item::Kind::input) continue;
    const Recipe::Value& v = recipe.values[static_cast<size_t>(recipe.first[i])];
    Tensor t(v.dtype, v.dims);
    for (int64_t n = 0; n < t.count(); ++n) {
      const auto number = static_cast<int64_t>(random() % 33) - 16;
      if (v.dtype == DType::f32)
        t.set_real(n, static_cast<double>(number) / 8);
      else
        t.set_integer(n, v.dtype == DType::boolean ? number & 1 : number);
    }
    out.emplace_back(std::move(t));
  }
  return out;
}

// ---- comparison ----

void compare(const char* who, const std::vector<Box>& got, const std::vector<Box>& wanted, double magnitude) {
  for (size_t o = 0; o < wanted.size(); ++o) {
    const Tensor &a = got[o].tensor, &b = wanted[o].tensor;
    if (a.dtype() != b.dtype() || a.dims() != b.dims())
      throw Error(Code::internal,
                  fmt::format("{}: result {} is {}, expected {}", who, o, to_text(Type::of(a), SymbolTable()),
                              to_text(Type::of(b), SymbolTable())));
    for (int64_t i = 0; i < b.count(); ++i) {
      if (b.dtype() != DType::f32) {
        if (a.get_integer(i) != b.get_integer(i))
          throw Error(Code::internal, fmt::format("{}: result {}, element {} is {}, expected {}", who, o, i,
                                                  a.get_integer(i), b.get_integer(i)));
        continue;
      }
      const double x = a.get_real(i), y = b.get_real(i);
      if (x == y || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= 1e-4 * magnitude) continue;
      throw Error(Code::internal, fmt::format("{}: result {}, element {} is {}, expected {}", who, o, i, x, y));
    }
  }
}

struct Reference {
  std::vector<Box> outputs;
  double magnitude = 1;  // of the largest number on the way: what rounding is relative to
};

Reference reference_of(const Module& module, const std::vector<Box>& inputs) {
  const Evaluation evaluation(module, inputs);
  Reference out{evaluation.outputs()};
  for (ValueId v = 0; v < module.main->values.size(); ++v) {
    const Box& box = evaluation.value(v);
    if (box.kind != Box::Kind::tensor || box.tensor.dtype() != DType::f32) continue;
    for (int64_t i = 0; i < box.tensor.count(); ++i)
      if (const double x = std::abs(box.tensor.get_real(i)); std::isfinite(x))
        out.magnitude = std::max(out.magnitude, x);
  }
  return out;
}

std::vector<Box> run(Context& context, const std::vector<Box>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, inputs[i]);
  context.run();
  std::vector<Box> out;
  for (size_t o = 0; o < context.engine().outputs().size(); ++o) out.push_back(context.output(o));
  return out;
}

// Nodes that no result needs leave: what is wrong with them is nobody's concern.
void prune(Recipe& recipe) {
  std::vector<bool> wanted(recipe.values.size(), false);
  for (int v : recipe.results) wanted[static_cast<size_t>(v)] = true;
  for (size_t i = recipe.items.size(); i-- > 0;) {
    Recipe::Item& item = recipe.items[i];
    if (item.kind != Recipe::Item::Kind::node) continue;
    const size_t end = i + 1 < recipe.first.size() ? static_cast<size_t>(recipe.first[i + 1]) : recipe.values.size();
    bool live = false;
    for (auto v = static_cast<size_t>(recipe.first[i]); v < end; ++v) live = live || wanted[v];
    if (!live) item.call.clear();
    for (int v : item.inputs)
      if (live && v >= 0) wanted[static_cast<size_t>(v)] = true;
  }
}

// Some extents change: the engine gives what the definition gives. What the definition refuses may run, where what is
// wrong with it went away with a rewrite, but breaks nothing.
void other_extents(Context& context, Recipe recipe, uint64_t seed) {
  prune(recipe);
  std::mt19937_64 random(seed);
  size_t input = 0;
  std::string change;
  for (size_t i = 0; i < recipe.items.size(); ++i) {
    if (recipe.items[i].kind != Recipe::Item::Kind::input) continue;
    Dims& dims = recipe.values[static_cast<size_t>(recipe.first[i])].dims;
    for (size_t k = 0; k < dims.size(); ++k)
      if (recipe.open[input][k] && random() % 3 == 0) {
        dims[k] = static_cast<int64_t>(random() % 7);
        change += fmt::format(" axis {} of input {} is {};", k, input, dims[k]);
      }
    ++input;
  }
  const std::vector<Box> inputs = data_for(recipe, seed);
  std::optional<Reference> wanted;
  try {
    wanted = reference_of(module_of(recipe, false), inputs);
  } catch (const Error&) {
  }
  try {
    const std::vector<Box> got = run(context, inputs);
    if (wanted) compare("with other extents", got, wanted->outputs, wanted->magnitude);
  } catch (Error& error) {
    if (!wanted && error.code() != Code::internal) return;
    error.add_context(change);
    throw;
  }
}

void check(const Recipe& recipe, uint64_t seed) {
  const std::vector<Box> inputs = data_for(recipe, seed), others = data_for(recipe, seed + 1);
  const Module original = module_of(recipe, false);
  verify(original);
  const Reference wanted = reference_of(original, inputs), next = reference_of(original, others);
  BuildOptions options;
  options.threads = static_cast<int>(1 + seed % 2);
  if (seed % 3 == 0) options.level = "portable";
  options.logger.sink = [](void*, LogLevel, std::string_view) {};
  for (const bool dynamic : {false, true}) {
    const char* form = dynamic ? "with open extents" : "as it is";
    try {
      Built built = build(module_of(recipe, dynamic), options);
      DeviceSpec device = this_machine(options.threads);
      device.level = built.target.needs.level;
      verify_target(built.target, device);
      const Target* targets[] = {&built.target};
      auto bytes = std::make_shared<std::vector<std::byte>>(save_engine(targets));
      {
        Context direct(std::make_shared<const Engine>(make_executable(std::move(built.target), device)),
                       options.threads);
        compare("built", run(direct, inputs), wanted.outputs, wanted.magnitude);
      }
      Context loaded(std::make_shared<const Engine>(load_engine(*bytes, bytes, LoadOptions{options.threads, true})),
                     options.threads);
      compare("loaded", run(loaded, inputs), wanted.outputs, wanted.magnitude);
      compare("loaded, second run", run(loaded, others), next.outputs, next.magnitude);
      compare("loaded, third run", run(loaded, inputs), wanted.outputs, wanted.magnitude);
      for (uint64_t k = 0; dynamic && k < 3; ++k) other_extents(loaded, recipe, seed + k);
    } catch (Error& error) {
      error.add_context(form);
      throw;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1, count = 300;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--verbose") {
      verbose = true;
    } else if ((word == "--count" || word == "--seed") && i + 1 < argc) {
      (word == "--count" ? count : seed) = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fprintf(stderr, "usage: random_graphs [--count N] [--seed S] [--verbose]\n");
      return 2;
    }
  }
  size_t passed = 0, failed = 0;
  for (uint64_t k = 0; k < count; ++k) {
    const uint64_t number = seed + k;
    Recipe recipe = Maker(number).run();
    std::string text;
    try {
      text = to_text(module_of(recipe, false));
      if (verbose) std::printf("# %llu\n%s\n", static_cast<unsigned long long>(number), text.c_str());
      check(recipe, number);
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("%s\n%s\n  %s --seed %llu --count 1\n\n", text.c_str(), error.what(), argv[0],
                  static_cast<unsigned long long>(number));
    }
  }
  std::printf("%zu passed, %zu failed\n", passed, failed);
  return failed ? 1 : 0;
}
