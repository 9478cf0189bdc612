// sinter run: one run on given or made-up inputs.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/scanner.h"
#include "common.h"
#include "ops/elements.h"
#include "tensor/npy.h"
#include "tensor/tensor_proto.h"

namespace sinter::cli {
namespace {

struct Args {
  std::string network, directory;
  BuildFlags build;
  InputFlags inputs;
  bool print = false, npy = false, in_place = false;
};

std::string element_text(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::string) return quoted(printable(t.strings()[static_cast<size_t>(i)], 60));
  if (is_complex(t.dtype())) {
    if (t.dtype() == DType::c64) return fmt::format("{}{:+}i", t.as<float>()[2 * i], t.as<float>()[2 * i + 1]);
    return fmt::format("{}{:+}i", t.as<double>()[2 * i], t.as<double>()[2 * i + 1]);
  }
  if (is_float(t.dtype())) return fmt::format("{:.6g}", t.get_real(i));
  if (t.dtype() == DType::u64) return fmt::format("{}", static_cast<uint64_t>(t.get_integer(i)));
  return fmt::format("{}", t.get_integer(i));
}

// The middle of long axes, maps and sequences is left out.
constexpr int64_t edge = 3, most = 8;

// Nested brackets.
void print_tensor(const Tensor& t, size_t axis, int64_t& at, const std::string& indent) {
  if (t.rank() == 0) {
    fmt::print("{}", element_text(t, 0));
    return;
  }
  int64_t inner = 1;
  for (size_t k = axis + 1; k < t.rank(); ++k) inner *= t.dims()[k];
  const int64_t extent = t.dims()[axis];
  fmt::print("[");
  for (int64_t i = 0; i < extent; ++i) {
    if (extent > most && i == edge) {
      fmt::print("{}...", axis + 1 == t.rank() ? ", " : ",\n" + indent + " ");
      at += (extent - 2 * edge) * inner;
      i = extent - edge;
    }
    if (i) fmt::print("{}", axis + 1 == t.rank() ? ", " : ",\n" + indent + " ");
    if (axis + 1 == t.rank())
      fmt::print("{}", element_text(t, at++));
    else
      print_tensor(t, axis + 1, at, indent + " ");
  }
  fmt::print("]");
}

void print_map(const Box& map) {
  const int64_t count = map.keys().count();
  fmt::print("{{");
  for (int64_t i = 0; i < count; ++i) {
    if (count > most && i == edge) {
      fmt::print(", ...");
      i = count - edge;
    }
    fmt::print("{}{}: {}", i ? ", " : "", element_text(map.keys(), i), element_text(map.values(), i));
  }
  fmt::print("}}\n");
}

void print_box(const Box& box, const std::string& indent) {
  if (box.kind == Box::Kind::none) {
    fmt::print("{}nothing\n", indent);
  } else if (box.kind == Box::Kind::tensor) {
    int64_t at = 0;
    fmt::print("{}", indent);
    print_tensor(box.tensor, 0, at, indent);
    fmt::print("\n");
  } else if (box.kind == Box::Kind::map) {
    fmt::print("{}", indent);
    print_map(box);
  } else {
    for (size_t i = 0; i < box.items.size(); ++i) {
      if (box.items.size() > most && i == edge) {
        fmt::print("{}...\n", indent);
        i = box.items.size() - edge;
      }
      if (box.items[i].kind == Box::Kind::map) {
        fmt::print("{}{}: ", indent, i);
        print_map(box.items[i]);
        continue;
      }
      fmt::print("{}{}: {}\n", indent, i, type_of(box.items[i]));
      print_box(box.items[i], indent + "  ");
    }
  }
}

std::string summary(const Box& box) {
  if (box.kind != Box::Kind::tensor || box.tensor.count() == 0) return "";
  const Tensor& t = box.tensor;
  if (t.dtype() == DType::string || is_complex(t.dtype())) return "";
  double low = INFINITY, high = -INFINITY, sum = 0;
  int64_t odd = 0;
  for (int64_t i = 0; i < t.count(); ++i) {
    const double v = t.get_real(i);
    if (!std::isfinite(v)) {
      ++odd;
      continue;
    }
    low = std::min(low, v);
    high = std::max(high, v);
    sum += v;
  }
  if (odd == t.count()) return "no finite element";
  std::string out =
      fmt::format("from {:.4g} to {:.4g}, mean {:.4g}", low, high, sum / static_cast<double>(t.count() - odd));
  if (odd) out += fmt::format(", {} not finite", odd);
  return out;
}

// What .npy files hold of an output, each with the ending of its file's name. Maps are their keys and their values;
// a sequence of maps with the same keys, as classifiers give it, has a row of values for each of them.
std::vector<std::pair<std::string, Tensor>> arrays_of(const Box& box, const Binding& binding) {
  if (box.kind == Box::Kind::tensor) return {{".npy", box.tensor}};
  if (box.kind == Box::Kind::map) return {{".keys.npy", box.keys()}, {".values.npy", box.values()}};
  const auto refuse = [&](const char* why) {
    return Error(Code::invalid_argument, fmt::format("output '{}' {}, .npy cannot hold it", binding.name, why))
        .at_tensor(binding.name)
        .with_hint("leave out --npy");
  };
  if (box.kind != Box::Kind::sequence || binding.type.element->kind != Type::Kind::map) throw refuse("is no tensor");
  const Type& map = *binding.type.element;
  const Tensor keys = box.items.empty() ? Tensor(map.dtype, {0}) : box.items[0].keys();
  const int64_t columns = keys.count();
  Tensor values(map.element->dtype, {static_cast<int64_t>(box.items.size()), columns});
  for (size_t r = 0; r < box.items.size(); ++r) {
    if (!box.items[r].keys().identical(keys)) throw refuse("has maps with different keys");
    for (int64_t k = 0; k < columns; ++k)
      copy_element(values, static_cast<int64_t>(r) * columns + k, box.items[r].values(), k);
  }
  return {{".keys.npy", keys}, {".values.npy", values}};
}

int run_once(const Args& args) {
  if (!args.directory.empty()) make_directories(args.directory);
  Loaded loaded = load(args.network, args.build);
  const Engine& engine = *loaded.engine;
  std::vector<Box> inputs = read_inputs(inputs_of(engine), engine.target().symbols, best_of(engine), args.inputs);
  Context context(loaded.engine, args.build.threads);
  const auto over = set_values(context, inputs, args.in_place);
  const Control interrupt = control();
  with_values([&] { context.run(&interrupt); });
  Table table({"output", "type", "values", "file"});
  for (size_t o = 0; o < engine.outputs().size(); ++o) {
    const Binding& binding = engine.outputs()[o];
    const Box box = context.output(o);
    std::string path;
    if (!args.directory.empty()) {
      const std::string name = fmt::format("{}/output_{}", args.directory, o);
      if (args.npy) {
        for (const auto& [ending, array] : arrays_of(box, binding)) {
          write_file_atomically(name + ending, write_npy(array));
          path += (path.empty() ? "" : ", ") + name + ending;
        }
      } else {
        path = name + ".pb";
        write_file_atomically(path, encode_value(box, binding.type, binding.name));
      }
    }
    if (args.print) {
      fmt::print("{} {}\n", bold(printable(binding.name)), type_of(box));
      print_box(box, "  ");
    }
    std::string type = type_of(box);
    if (const auto at = over.find(o); at != over.end()) type += ", over " + printable(engine.inputs()[at->second].name);
    table.row({printable(binding.name), type, summary(box), path});
  }
  if (!args.print || !args.directory.empty()) table.print();
  return exit_ok;
}

}  // namespace

std::function<int()> declare_run(Options& o) {
  auto args = std::make_shared<Args>();
  o.positional("NETWORK", args->network, "ONNX model or engine");
  args->inputs.declare(o);
  o.value("--output-dir", args->directory, "DIR", "write output_0.pb, output_1.pb, ...");
  o.flag("--npy", args->npy, "write .npy (types that NumPy lacks as void bytes; of maps .keys.npy and .values.npy)");
  o.flag("--print", args->print, "print the outputs");
  o.flag("--in-place", args->in_place, in_place_help);
  args->build.declare(o);
  o.examples(
      "sinter run model.onnx --print\n"
      "sinter run resnet50.engine --inputs image.npy --output-dir out --npy\n"
      "sinter run bert.engine --shapes input_ids:1x128 --seed 7");
  return [args] { return run_once(*args); };
}

}  // namespace sinter::cli
