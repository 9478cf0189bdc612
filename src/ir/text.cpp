#include "ir/text.h"

#include <fmt/core.h>

#include <map>

#include "base/scanner.h"
#include "ir/builder.h"
#include "ops/text.h"

namespace sinter {
namespace {

bool is_identifier(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9') || name[0] == '.') return false;
  for (char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.'))
      return false;
  return true;
}

class Printer {
 public:
  Printer(const Graph& graph, const SymbolTable& symbols) : graph_(graph), symbols_(symbols) {
    std::map<std::string_view, int> count;
    for (const Value& value : graph.values)
      if (is_identifier(value.name)) ++count[value.name];
    for (ValueId v = 0; v < graph.values.size(); ++v) {
      const std::string& name = graph[v].name;
      names_.push_back(is_identifier(name) && count[name] == 1 ? "%" + name : fmt::format("%{}", v));
    }
  }

  std::string operand(ValueId v) const {
    if (v == no_id) return "_";
    const Value& value = graph_[v];
    if (value.has_contents()) return literal_text(value.type, value.contents, symbols_);
    return names_[v];
  }

  std::string list(const Ids& ids, bool typed) const {
    std::string out;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i) out += ", ";
      out += typed ? names_[ids[i]] + " : " + to_text(graph_[ids[i]].type, symbols_) : operand(ids[i]);
    }
    return out;
  }

  std::string line(const Node& node, const std::string& indent) const {
    std::string out;
    for (size_t i = 0; i < node.outputs.size(); ++i) out += (i ? ", " : "") + names_[node.outputs[i]];
    out += " = " + call_text(*node.op, node.attrs) + "(" + list(node.inputs, false) + ") : ";
    for (size_t i = 0; i < node.outputs.size(); ++i)
      out += (i ? ", " : "") + to_text(graph_[node.outputs[i]].type, symbols_);
    for (const Graph& body : node.bodies) out += "\n" + indent + "  " + Printer(body, symbols_).graph(indent + "  ");
    return out;
  }

  std::string graph(const std::string& indent) const {
    std::string out = "graph(" + list(graph_.inputs, true) + ") -> (" + list(graph_.outputs, false) + ") {\n";
    for (const Node& node : graph_.nodes) out += indent + "  " + line(node, indent + "  ") + "\n";
    return out + indent + "}";
  }

 private:
  const Graph& graph_;
  const SymbolTable& symbols_;
  std::vector<std::string> names_;
};

class Parser {
 public:
  Parser(Scanner& scanner, Module& module) : scanner_(scanner), module_(module) {}

  void graph(Graph& graph) {
    GraphBuilder builder(module_, graph);
    std::map<std::string, ValueId> names;
    scanner_.expect("graph");
    scanner_.expect("(");
    if (!scanner_.accept(")")) {
      do {
        const std::string name = value_name();
        scanner_.expect(":");
        define(names, name, builder.input(parse_type(scanner_, module_.symbols, true), name));
      } while (scanner_.accept(","));
      scanner_.expect(")");
    }
    scanner_.expect("-");
    scanner_.expect(">");
    scanner_.expect("(");
    const size_t outputs_at = scanner_.position();
    skip_outputs();
    scanner_.expect("{");
    while (!scanner_.accept("}")) node(builder, names);
    const size_t end = scanner_.position();
    scanner_.seek(outputs_at);
    if (!scanner_.accept(")")) {
      do {
        graph.outputs.push_back(operand(builder, names));
      } while (scanner_.accept(","));
      scanner_.expect(")");
    }
    scanner_.seek(end);
  }

 private:
  std::string value_name() {
    scanner_.expect("%");
    if (scanner_.at_identifier()) return std::string(scanner_.identifier());
    return std::to_string(scanner_.integer());
  }

  // Results may name values of the body, so they are read after it.
  void skip_outputs() {
    int depth = 1;
    while (depth > 0) {
      if (scanner_.at_end()) scanner_.fail("graph without end");
      const char c = scanner_.peek();
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      scanner_.seek(scanner_.position() + 1);
    }
  }

  void define(std::map<std::string, ValueId>& names, const std::string& name, ValueId v) {
    if (!names.emplace(name, v).second) scanner_.fail(fmt::format("%{} is defined twice", name));
  }

  ValueId operand(GraphBuilder& builder, const std::map<std::string, ValueId>& names) {
    if (scanner_.accept("_")) return no_id;
    if (at_literal(scanner_)) {
      Literal literal = parse_literal(scanner_, module_.symbols, true);
      const auto id = static_cast<ValueId>(builder.graph.values.size());
      builder.graph.values.push_back({std::move(literal.type), std::move(literal.contents), no_id, {}, {}});
      return id;
    }
    const std::string name = value_name();
    const auto at = names.find(name);
    if (at == names.end()) scanner_.fail(fmt::format("%{} is not defined", name));
    return at->second;
  }

  void node(GraphBuilder& builder, std::map<std::string, ValueId>& names) {
    std::vector<std::string> results;
    do {
      results.push_back(value_name());
    } while (scanner_.accept(","));
    scanner_.expect("=");
    Call call = parse_call(scanner_);
    Ids inputs;
    scanner_.expect("(");
    if (!scanner_.accept(")")) {
      do {
        inputs.push_back(operand(builder, names));
      } while (scanner_.accept(","));
      scanner_.expect(")");
    }
    std::vector<Type> declared;
    if (scanner_.accept(":")) {
      do {
        declared.push_back(parse_type(scanner_, module_.symbols, true));
      } while (scanner_.accept(","));
      if (declared.size() != results.size()) scanner_.fail("as many types as results are needed");
    }
    std::vector<Graph> bodies;
    while (scanner_.peek() == 'g') {
      bodies.emplace_back();
      graph(bodies.back());
    }
    const Ids made = builder.add(*call.op, std::move(call.attrs), std::move(inputs), results.size(), std::move(bodies));
    for (size_t i = 0; i < results.size(); ++i) {
      Value& value = builder.graph[made[i]];
      value.name = is_identifier(results[i]) ? results[i] : "";
      if (!declared.empty() && declared[i].kind == Type::Kind::tensor && value.type.is_tensor() &&
          declared[i].dtype != value.type.dtype)
        scanner_.fail(fmt::format("%{} is {}", results[i], to_text(value.type, module_.symbols)));
      // Symbols that only running finds get the name that the text gives them.
      if (!declared.empty() && declared[i].has_shape() && value.type.has_shape() &&
          declared[i].shape->size() == value.type.shape->size())
        for (size_t k = 0; k < declared[i].shape->size(); ++k)
          if (const auto made_id = (*value.type.shape)[k].as_symbol(), said = (*declared[i].shape)[k].as_symbol();
              made_id && said && *made_id != *said && module_.symbols[*made_id].bound != Symbol::Bound::input) {
            module_.symbols.at(*said).bound = module_.symbols[*made_id].bound;
            (*value.type.shape)[k] = Dim::symbol(*said);
          }
      define(names, results[i], made[i]);
    }
  }

  Scanner& scanner_;
  Module& module_;
};

}  // namespace

std::string to_text(const Graph& graph, const SymbolTable& symbols) { return Printer(graph, symbols).graph("") + "\n"; }

std::string to_text(const Module& module) { return to_text(*module.main, module.symbols); }

std::string node_text(const Graph& graph, NodeId node, const SymbolTable& symbols) {
  return Printer(graph, symbols).line(graph.nodes[node], "");
}

Module parse_module(Scanner& scanner) {
  Module module;
  Parser(scanner, module).graph(*module.main);
  return module;
}

Module parse_module(std::string_view text) {
  Scanner scanner(text);
  Module module = parse_module(scanner);
  if (!scanner.at_end()) scanner.fail("text after the graph");
  return module;
}

}  // namespace sinter
