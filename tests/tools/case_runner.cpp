// Runs text cases: tests/ops/*.case (what operators mean) and tests/passes/*.case (what a pass does and nothing else).
// The form of the files is described in tests/README.md.
//
//   case_runner ops|passes FILE[:LINE]...      LINE: only the case that starts there
//
// A failing case prints the command that runs it alone. The last line is "N passed, N failed".

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "backend/verify.h"
#include "base/file.h"
#include "base/scanner.h"
#include "builder/choose.h"
#include "builder/pipeline.h"
#include "engine/file.h"
#include "ir/check.h"
#include "ir/evaluate.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "ops/text.h"
#include "runtime/engine.h"

using namespace sinter;

namespace {

struct Failure {
  std::string text;
};

struct Line {
  size_t number;
  std::string_view text;
};

using Lines = std::vector<Line>;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool starts_with(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

Lines lines_of(std::string_view text) {
  Lines out;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    out.push_back({number, text.substr(0, end)});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// "word: rest" of a line, when it starts with this word.
std::optional<std::string> field(const Line& line, std::string_view word) {
  const std::string_view text = trimmed(line.text);
  if (!starts_with(text, word) || text.size() <= word.size() || text[word.size()] != ':') return std::nullopt;
  return std::string(trimmed(text.substr(word.size() + 1)));
}

// ---- values ----

Box parse_box(Scanner& scanner, SymbolTable& symbols) {
  if (scanner.accept("none")) return {};
  if (scanner.accept("seq")) {
    scanner.expect("(");
    std::vector<Box> items;
    if (!scanner.accept(")")) {
      do {
        items.push_back(parse_box(scanner, symbols));
      } while (scanner.accept(","));
      scanner.expect(")");
    }
    return Box::sequence(std::move(items));
  }
  if (scanner.accept("map")) {
    scanner.expect("(");
    Tensor keys = parse_box(scanner, symbols).tensor;
    scanner.expect(",");
    Tensor values = parse_box(scanner, symbols).tensor;
    scanner.expect(")");
    return Box::map(std::move(keys), std::move(values));
  }
  Literal literal = parse_literal(scanner, symbols, false);
  return Box(std::get<Tensor>(std::move(literal.contents)));
}

std::vector<Box> parse_boxes(std::string_view text) {
  Scanner scanner(text);
  SymbolTable symbols;
  std::vector<Box> out;
  if (scanner.at_end()) return out;
  do {
    out.push_back(parse_box(scanner, symbols));
  } while (scanner.accept(","));
  if (!scanner.at_end()) scanner.fail("text after the values");
  return out;
}

double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-9;
    case DType::f32: return 1e-5;
    case DType::f16: return 2e-3;
    case DType::bf16: return 1e-2;
    default: return is_float(dtype) ? 1e-2 : 0;
  }
}

std::string text_of(const Box& box) {
  if (box.kind == Box::Kind::none) return "none";
  if (box.kind == Box::Kind::tensor) return literal_text(Type::of(box.tensor), box.tensor, SymbolTable());
  std::string out = box.kind == Box::Kind::map ? "map(" : "seq(";
  for (size_t i = 0; i < box.items.size(); ++i) out += (i ? ", " : "") + text_of(box.items[i]);
  return out + ")";
}

bool same(const Box& got, const Box& wanted, std::optional<double> tolerance) {
  if (got.kind != wanted.kind || got.items.size() != wanted.items.size()) return false;
  for (size_t i = 0; i < got.items.size(); ++i)
    if (!same(got.items[i], wanted.items[i], tolerance)) return false;
  if (got.kind != Box::Kind::tensor) return true;
  const Tensor &a = got.tensor, &b = wanted.tensor;
  if (a.dtype() != b.dtype() || a.dims() != b.dims()) return false;
  if (a.dtype() == DType::string) return std::equal(a.strings().begin(), a.strings().end(), b.strings().begin());
  if (is_complex(a.dtype())) return a.identical(b);
  const double allowed = tolerance.value_or(tolerance_of(a.dtype()));
  for (int64_t i = 0; i < a.count(); ++i) {
    if (!is_float(a.dtype())) {
      if (a.get_integer(i) != b.get_integer(i)) return false;
      continue;
    }
    const double x = a.get_real(i), y = b.get_real(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!(std::abs(x - y) <= allowed * std::max(1.0, std::abs(y)))) return false;
  }
  return true;
}

void expect_same(const char* who, const std::vector<Box>& got, const std::vector<Box>& wanted,
                 std::optional<double> tolerance) {
  if (got.size() != wanted.size())
    throw Failure{fmt::format("{}: {} results, {} are expected", who, got.size(), wanted.size())};
  for (size_t i = 0; i < got.size(); ++i)
    if (!same(got[i], wanted[i], tolerance))
      throw Failure{
          fmt::format("{}: result {}\n    is       {}\n    expected {}", who, i, text_of(got[i]), text_of(wanted[i]))};
}

// ---- ops ----

BuildOptions quiet_options() {
  BuildOptions options;
  options.threads = 2;
  options.check = true;
  options.logger.sink = [](void*, LogLevel, std::string_view) {};
  return options;
}

// Built, saved, loaded and run: the way a user's network takes.
std::vector<Box> run_engine(Module module, const std::vector<Box>& inputs, bool reference_only) {
  BuildOptions options = quiet_options();
  options.reference_only = reference_only;
  Built built = build(std::move(module), options);
  const Target* targets[] = {&built.target};
  auto bytes = std::make_shared<std::vector<std::byte>>(save_engine(targets));
  const auto engine = std::make_shared<const Engine>(load_engine(*bytes, bytes, LoadOptions{2, true}));
  Context context(engine, 2);
  for (size_t i = 0; i < inputs.size(); ++i) context.set_input(i, inputs[i]);
  context.run();
  context.run();  // the second run reuses everything
  std::vector<Box> out;
  for (size_t o = 0; o < engine->outputs().size(); ++o) out.push_back(context.output(o));
  return out;
}

struct OpCase {
  std::function<Module(bool dynamic)> make;
  bool has_dynamic = false;
  std::vector<Box> inputs, outputs;
  std::optional<std::string> error;
  std::optional<double> tolerance;
};

void run_op_case(const OpCase& c) {
  const auto attempt = [&](const char* who, const std::function<std::vector<Box>()>& run) {
    std::vector<Box> got;
    try {
      got = run();
    } catch (const Error& error) {
      if (!c.error) throw Failure{fmt::format("{}: {}", who, error.what())};
      if (std::string_view(error.what()).find(*c.error) == std::string_view::npos)
        throw Failure{fmt::format("{}: the error is '{}', expected '{}'", who, error.what(), *c.error)};
      return;
    }
    if (c.error) throw Failure{fmt::format("{}: no error, expected '{}'", who, *c.error)};
    expect_same(who, got, c.outputs, c.tolerance);
  };
  attempt("reference", [&] {
    const Module module = c.make(false);
    verify(module);
    return Evaluation(module, c.inputs).outputs();
  });
  attempt("engine", [&] { return run_engine(c.make(false), c.inputs, false); });
  attempt("reference engine", [&] { return run_engine(c.make(false), c.inputs, true); });
  if (c.has_dynamic)
    attempt("engine with extents that vary", [&] { return run_engine(c.make(true), c.inputs, false); });
}

// A list "[1, 2]" of elements of a dtype.
Tensor parse_list(Scanner& scanner, DType dtype) {
  std::vector<double> reals;
  std::vector<int64_t> integers;
  std::vector<std::string> strings;
  scanner.expect("[");
  if (!scanner.accept("]")) {
    do {
      if (dtype == DType::string)
        strings.push_back(scanner.string());
      else if (is_float(dtype))
        reals.push_back(scanner.number());
      else if (scanner.accept("true"))
        integers.push_back(1);
      else if (scanner.accept("false"))
        integers.push_back(0);
      else
        integers.push_back(scanner.integer());
    } while (scanner.accept(","));
    scanner.expect("]");
  }
  Tensor out(dtype, {static_cast<int64_t>(reals.size() + integers.size() + strings.size())});
  for (size_t i = 0; i < reals.size(); ++i) out.set_real(static_cast<int64_t>(i), reals[i]);
  for (size_t i = 0; i < integers.size(); ++i) out.set_integer(static_cast<int64_t>(i), integers[i]);
  for (size_t i = 0; i < strings.size(); ++i) out.strings()[i] = strings[i];
  return out;
}

// "f32 [1, 2]", "[1, 2]" of the dtype before, or a literal "f32[2, 1](1, 2)".
Tensor parse_value(Scanner& scanner, DType& dtype) {
  if (scanner.at_identifier()) {
    const size_t start = scanner.position();
    const std::string_view name = scanner.identifier();
    const auto given = dtype_from_name(name);
    if (!given) scanner.fail(fmt::format("'{}' is no element type", name));
    dtype = *given;
    const std::string_view rest = scanner.text().substr(scanner.position());
    const size_t end = rest.find(']');
    if (starts_with(rest, "[") && end != std::string_view::npos && starts_with(trimmed(rest.substr(end + 1)), "(")) {
      scanner.seek(start);
      SymbolTable symbols;
      return std::get<Tensor>(parse_literal(scanner, symbols, false).contents);
    }
  }
  return parse_list(scanner, dtype);
}

struct OneLine {
  const Op* op = nullptr;
  Attrs attrs;
  std::vector<std::optional<Tensor>> operands;
  size_t results = 0;
};

Module module_of(const OneLine& line, bool dynamic) {
  Module module;
  GraphBuilder b(module, *module.main);
  Ids inputs;
  for (size_t i = 0; i < line.operands.size(); ++i) {
    if (!line.operands[i]) {
      inputs.push_back(no_id);
      continue;
    }
    const Tensor& tensor = *line.operands[i];
    if (line.op->host_inputs >> i & 1) {
      inputs.push_back(b.constant(tensor));
      continue;
    }
    Type type = Type::of(tensor);
    if (dynamic)
      for (size_t k = 0; k < type.shape->size(); ++k)
        (*type.shape)[k] = Dim::symbol(module.symbols.add({.name = fmt::format("d{}_{}", i, k)}));
    inputs.push_back(b.input(std::move(type), fmt::format("x{}", i)));
  }
  module.main->outputs = b.add(*line.op, line.attrs, std::move(inputs), line.results);
  for (size_t o = 0; o < line.results; ++o) b.graph[module.main->outputs[o]].name = fmt::format("y{}", o);
  return module;
}

OpCase parse_one_line(std::string_view text) {
  OpCase c;
  OneLine line;
  Scanner scanner(text);
  Call call = parse_call(scanner);
  line.op = call.op;
  line.attrs = std::move(call.attrs);
  DType dtype = DType::f32;
  if (!scanner.accept("->")) {
    do {
      if (scanner.accept("_"))
        line.operands.emplace_back();
      else
        line.operands.emplace_back(parse_value(scanner, dtype));
    } while (scanner.accept(","));
    scanner.expect("->");
  }
  for (size_t i = 0; i < line.operands.size(); ++i)
    if (line.operands[i] && !(line.op->host_inputs >> i & 1)) c.inputs.emplace_back(*line.operands[i]);
  if (scanner.accept("error")) {
    scanner.expect(":");
    c.error = std::string(trimmed(text.substr(scanner.position())));
    line.results = std::max<size_t>(1, line.op->outputs.low);
  } else {
    do {
      c.outputs.emplace_back(parse_value(scanner, dtype));
    } while (scanner.accept(","));
    line.results = c.outputs.size();
    if (scanner.accept("~")) c.tolerance = scanner.number();
    if (!scanner.at_end()) scanner.fail("text after the results");
    c.has_dynamic = true;
  }
  c.make = [line](bool dynamic) { return module_of(line, dynamic); };
  return c;
}

OpCase parse_op_block(const Lines& lines) {
  OpCase c;
  std::string graph;
  for (const Line& line : lines) {
    if (auto inputs = field(line, "inputs"))
      c.inputs = parse_boxes(*inputs);
    else if (auto outputs = field(line, "outputs"))
      c.outputs = parse_boxes(*outputs);
    else if (auto error = field(line, "error"))
      c.error = *error;
    else if (auto tolerance = field(line, "tolerance"))
      c.tolerance = std::strtod(tolerance->c_str(), nullptr);
    else
      graph += std::string(line.text) + "\n";
  }
  c.make = [graph](bool) { return parse_module(graph); };
  return c;
}

void run_op_lines(const Lines& lines) {
  run_op_case(starts_with(lines[0].text, "graph") ? parse_op_block(lines) : parse_one_line(trimmed(lines[0].text)));
}

// One line is a case, unless it opens a graph, which ends at "---".
std::vector<Lines> op_cases(const Lines& lines) {
  std::vector<Lines> out;
  bool open = false;
  for (const Line& line : lines) {
    const std::string_view text = trimmed(line.text);
    if (text == "---") {
      open = false;
    } else if (open) {
      out.back().push_back(line);
    } else if (!text.empty() && text[0] != '#') {
      out.push_back({line});
      open = starts_with(text, "graph");
    }
  }
  return out;
}

// ---- passes ----

// Equal graphs give equal text: names other than those of inputs go, nodes stand in the order in which results need
// them.
void canonical(Graph& graph, bool is_main) {
  std::vector<bool> keep(graph.values.size(), false);
  if (is_main)
    for (ValueId v : graph.inputs) keep[v] = true;
  for (ValueId v = 0; v < graph.values.size(); ++v)
    if (!keep[v]) graph[v].name.clear();
  std::vector<NodeId> order;
  std::vector<bool> seen(graph.nodes.size(), false);
  const std::function<void(ValueId)> visit = [&](ValueId v) {
    if (v == no_id || graph[v].has_contents() || graph[v].def == no_id || seen[graph[v].def]) return;
    const NodeId n = graph[v].def;
    seen[n] = true;
    for (ValueId i : graph.nodes[n].inputs) visit(i);
    order.push_back(n);
  };
  for (ValueId v : graph.outputs) visit(v);
  std::vector<Node> nodes;
  for (NodeId n : order) nodes.push_back(std::move(graph.nodes[n]));
  graph.nodes = std::move(nodes);
  for (Value& value : graph.values) value.def = no_id;
  for (NodeId n = 0; n < graph.nodes.size(); ++n) {
    for (ValueId v : graph.nodes[n].outputs) graph[v].def = n;
    for (Graph& body : graph.nodes[n].bodies) canonical(body, false);
  }
  tidy(graph);
}

std::string canonical_text(std::string_view graph) {
  Module module = parse_module(graph);
  canonical(*module.main, true);
  return to_text(module);
}

PassOptions pass_options(std::string_view text) {
  PassOptions options;
  Scanner scanner(text);
  while (!scanner.at_end()) {
    if (scanner.accept("strict"))
      options.allow_tf32 = false;
    else if (scanner.accept("bf16"))
      options.allow_bf16 = true;
    else if (scanner.accept("fp16"))
      options.allow_fp16 = true;
    else
      scanner.fail("options are strict, bf16, fp16");
  }
  return options;
}

void run_pass_lines(const Lines& lines) {
  std::string pass, before, after;
  PassOptions options;
  std::vector<std::string> refused, applied;
  bool unchanged = false, expecting = false;
  for (const Line& line : lines) {
    if (auto text = field(line, "pass")) {
      pass = *text;
    } else if (auto text = field(line, "options")) {
      options = pass_options(*text);
    } else if (auto text = field(line, "refused")) {
      refused.push_back(*text);
    } else if (auto text = field(line, "applied")) {
      applied.push_back(*text);
    } else if (auto text = field(line, "expect")) {
      expecting = true;
      unchanged = *text == "unchanged";
    } else {
      (expecting ? after : before) += std::string(line.text) + "\n";
    }
  }
  const auto list = pass_list();
  const auto entry = std::find_if(list.begin(), list.end(), [&](const PassEntry& e) { return e.name == pass; });
  if (entry == list.end()) throw Failure{fmt::format("there is no pass named '{}'", pass)};
  if (!expecting) throw Failure{"the case expects nothing"};
  Module module = parse_module(before);
  verify(module);
  Journal journal;
  journal.pass = entry->name;
  check_rewrites(journal);
  entry->run(module, {options, journal, fast_rows(this_machine(1))});
  verify(module);
  canonical(*module.main, true);
  const std::string got = to_text(module), wanted = canonical_text(unchanged ? before : after);
  std::string said;
  for (const Journal::Entry& e : journal.entries)
    said += fmt::format("    {} {}: {}\n", e.number ? "did" : "refused", e.rule, e.note);
  if (got != wanted) throw Failure{fmt::format("the graph became\n{}  expected\n{}{}", got, wanted, said)};
  const auto find = [&](const std::string& text, bool refusal) {
    return std::any_of(journal.entries.begin(), journal.entries.end(), [&](const Journal::Entry& e) {
      return (e.number == 0) == refusal && fmt::format("{}: {}", e.rule, e.note).find(text) != std::string::npos;
    });
  };
  for (const std::string& text : refused)
    if (!find(text, true)) throw Failure{fmt::format("no refusal says '{}'\n{}", text, said)};
  for (const std::string& text : applied)
    if (!find(text, false)) throw Failure{fmt::format("no rewrite is '{}'\n{}", text, said)};
}

std::vector<Lines> pass_cases(const Lines& lines) {
  std::vector<Lines> out;
  bool open = false;
  for (const Line& line : lines) {
    const std::string_view text = trimmed(line.text);
    if (text == "---") {
      open = false;
    } else if (text.empty() || text[0] == '#') {
      continue;
    } else if (open) {
      out.back().push_back(line);
    } else {
      out.push_back({line});
      open = true;
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view kind = argc > 1 ? argv[1] : "";
  if (argc < 3 || (kind != "ops" && kind != "passes")) {
    std::fputs("usage: case_runner ops|passes FILE[:LINE]...\n", stderr);
    return 2;
  }
  const auto run = kind == "ops" ? run_op_lines : run_pass_lines;
  size_t passed = 0, failed = 0;
  for (int i = 2; i < argc; ++i) {
    std::string path = argv[i];
    size_t only = 0;
    if (const size_t colon = path.rfind(':'); colon != std::string::npos) {
      only = std::strtoul(path.c_str() + colon + 1, nullptr, 10);
      path.resize(colon);
    }
    std::string text, problem;
    try {
      text = read_text_file(path, 16 << 20);
    } catch (const Error& error) {
      fmt::print("{}\n", error.what());
      ++failed;
      continue;
    }
    const Lines lines = lines_of(text);
    for (const Lines& c : kind == "ops" ? op_cases(lines) : pass_cases(lines)) {
      if (only && c[0].number != only) continue;
      problem.clear();
      try {
        run(c);
      } catch (const Failure& failure) {
        problem = failure.text;
      } catch (const std::exception& error) {
        problem = error.what();
      }
      if (problem.empty()) {
        ++passed;
        continue;
      }
      ++failed;
      fmt::print("FAILED {}:{}: {}\n  {}\n  again: {} {} {}:{}\n", path, c[0].number, trimmed(c[0].text), problem,
                 argv[0], kind, path, c[0].number);
    }
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed ? 1 : 0;
}
