#include "frontends/onnx/reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "base/external_file.h"
#include "base/file.h"
#include "base/scanner.h"
#include "frontends/onnx/sparse.h"
#include "frontends/onnx/wire.h"
#include "tensor/tensor_proto.h"

namespace sinter::onnx {
namespace {

constexpr int64_t newest_ir_version = 13;
constexpr int64_t max_opset = 1 << 20;
constexpr int max_graph_depth = 64;
constexpr size_t max_problems = 100;

std::string_view canonical_domain(std::string_view domain) { return domain == "ai.onnx" ? std::string_view() : domain; }

class Reader {
 public:
  Reader(Bytes bytes, std::shared_ptr<const void> owner, std::string directory, const ReadOptions& options)
      : bytes_(bytes),
        owner_(std::move(owner)),
        options_(options),
        external_(std::move(directory), options.external_data_root, options.logger),
        budget_(checked_add(checked_mul(static_cast<int64_t>(bytes.size()), 16), int64_t{64} << 20)),
        sparse_budget_(options.max_sparse_bytes) {}

  std::shared_ptr<const Model> run() {
    auto model = std::make_shared<Model>();
    model->owner = owner_;
    std::optional<Bytes> graph;
    std::vector<Bytes> functions;
    outline(*model, graph, functions);
    check_versions(*model);
    if (!graph) throw Error(Code::model_invalid, "the model has no graph");
    model->graph = collect([&] { return read_graph(again(*graph, "GraphProto"), 1); });
    for (Bytes function : functions)
      collect([&] {
        charge(sizeof(Function));
        model->functions.push_back(read_function(again(function, "FunctionProto")));
        return 0;
      });
    problems_.check("the model cannot be read");
    return model;
  }

 private:
  // Versions and where the large parts are; nothing else is interpreted.
  void outline(Model& model, std::optional<Bytes>& graph, std::vector<Bytes>& functions) {
    if (bytes_.empty()) throw Error(Code::model_invalid, "the model is empty");
    bool training = false;
    try {
      Message m(bytes_, "ModelProto");
      while (m.next()) {
        switch (m.field()) {
          case 1: model.ir_version = m.integer(); break;
          case 2: model.producer = m.text(); break;
          case 7:
            m.once();
            graph = m.bytes();
            break;
          case 8:
            charge(sizeof(OpsetImport));
            model.opsets.push_back(read_opset(m.message("OperatorSetIdProto")));
            break;
          case 14:
            charge(sizeof model.metadata[0]);
            model.metadata.push_back(read_entry(m.message("StringStringEntryProto")));
            break;
          case 20:
            training = true;
            m.skip();
            break;
          case 25:
            charge(sizeof(Bytes));
            functions.push_back(m.bytes());
            break;
          default: m.skip();
        }
      }
    } catch (Error& error) {
      error.add_context("this is not an ONNX model, or it is damaged");
      throw;
    }
    if (training) options_.logger.log(LogLevel::warning, "the model's training information is ignored");
  }

  void check_versions(Model& model) {
    if (model.ir_version < 1)
      throw Error(Code::model_invalid, "this is not an ONNX model, or it is damaged: it has no IR version");
    if (model.ir_version > newest_ir_version)
      throw Error(Code::unsupported, fmt::format("the model has IR version {}, versions up to {} are known",
                                                 model.ir_version, newest_ir_version))
          .with_hint("export it for an older version of ONNX");
    if (model.opsets.empty()) {
      if (model.ir_version >= 3)
        throw Error(Code::model_invalid, "the model imports no operator set, from IR version 3 on it must");
      model.opsets.push_back({"", 1});
    }
    check_opsets(model.opsets);
  }

  void check_opsets(const std::vector<OpsetImport>& opsets) {
    for (const OpsetImport& o : opsets)
      if (o.version < 1 || o.version > max_opset)
        throw Error(Code::model_invalid,
                    fmt::format("operator set '{}' has the impossible version {}", shown(o.domain), o.version));
  }

  // Part of the file found before, as a message whose errors count bytes from the start of the file.
  Message again(Bytes part, const char* what) const { return Message(bytes_, "ModelProto").within(part, what); }

  // Decoded structures may take so much memory and no more.
  void charge(size_t size) {
    budget_ -= static_cast<int64_t>(size);
    if (budget_ < 0)
      throw Error(Code::limit,
                  "the model decodes to more than 16 times its size; it is damaged or made to exhaust memory");
  }

  // Errors are kept and the rest is read on; limits end everything.
  template <typename F>
  auto collect(F f) -> decltype(f()) {
    try {
      return f();
    } catch (const Error& error) {
      if (error.code() == Code::limit || error.code() == Code::out_of_memory) throw;
      problems_.add(error);
      if (problems_.size() >= max_problems) problems_.check("the model cannot be read; the first problems are listed");
    }
    return {};
  }

  std::pair<std::string_view, std::string_view> read_entry(Message m) {
    std::pair<std::string_view, std::string_view> entry;
    while (m.next()) {
      switch (m.field()) {
        case 1: entry.first = m.text(); break;
        case 2: entry.second = m.text(); break;
        default: m.skip();
      }
    }
    return entry;
  }

  OpsetImport read_opset(Message m) {
    OpsetImport o;
    while (m.next()) {
      switch (m.field()) {
        case 1: o.domain = canonical_domain(m.name()); break;
        case 2: o.version = m.integer(); break;
        default: m.skip();
      }
    }
    return o;
  }

  template <typename T>
  void push(std::vector<T>& list, T item) {
    charge(2 * sizeof(T));  // vectors grow by doubling
    list.push_back(std::move(item));
  }

  Graph read_graph(Message m, int depth) {
    if (depth > max_graph_depth)
      throw Error(Code::limit, fmt::format("subgraphs nest deeper than {}", max_graph_depth));
    Graph g;
    while (m.next()) {
      switch (m.field()) {
        case 1: read_node_into(g.nodes, m, depth); break;
        case 2: g.name = m.name(); break;
        case 5:
          collect([&] {
            const Bytes message = m.bytes();
            push(g.initializers, read_initializer(message));
            return 0;
          });
          break;
        case 11: read_value_into(g.inputs, m); break;
        case 12: read_value_into(g.outputs, m); break;
        case 13: read_value_into(g.value_info, m); break;
        case 15:
          collect([&] {
            push(g.initializers, read_sparse(m.message("SparseTensorProto")));
            return 0;
          });
          break;
        default: m.skip();
      }
    }
    return g;
  }

  void read_value_into(std::vector<ValueInfo>& list, Message& m) {
    collect([&] {
      push(list, read_value_info(m.message("ValueInfoProto")));
      return 0;
    });
  }

  void read_node_into(std::vector<Node>& list, Message& m, int depth) {
    if (++nodes_ > options_.max_nodes)
      throw Error(Code::limit, fmt::format("the model has more than {} nodes", options_.max_nodes));
    collect([&] {
      push(list, read_node(m.message("NodeProto"), depth));
      return 0;
    });
  }

  Node read_node(Message m, int depth) {
    Node n;
    try {
      while (m.next()) {
        switch (m.field()) {
          case 1: push(n.inputs, m.name()); break;
          case 2: push(n.outputs, m.name()); break;
          case 3: n.name = m.name(); break;
          case 4: n.op_type = m.name(); break;
          case 5: push(n.attributes, read_attribute(m.message("AttributeProto"), depth)); break;
          case 7: n.domain = canonical_domain(m.name()); break;
          case 8: n.overload = m.name(); break;
          case 9: {
            const auto [key, value] = read_entry(m.message("StringStringEntryProto"));
            charge(2 * (key.size() + value.size() + 2));
            n.metadata.append(key).append("=").append(value).append("\n");
            break;
          }
          default: m.skip();
        }
      }
      std::vector<std::string_view> names;
      for (const auto& attribute : n.attributes) names.push_back(attribute->name);
      std::sort(names.begin(), names.end());
      if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
        m.fail(fmt::format("attribute '{}' is given twice", shown(*twice)));
    } catch (Error& error) {
      const std::string_view label = !n.name.empty() ? n.name : !n.outputs.empty() ? n.outputs[0] : std::string_view();
      error.at_node(shown(n.name)).add_context(fmt::format("node '{}' ({})", shown(label), shown(n.op_type)));
      throw;
    }
    return n;
  }

  std::shared_ptr<const Attribute> read_attribute(Message m, int depth) {
    charge(sizeof(Attribute) + 32);
    auto a = std::make_shared<Attribute>();
    using Kind = Attribute::Kind;
    Kind found = Kind::undefined;  // by the field that is set; files before IR version 2 state no type
    int64_t stated = 0;
    const auto is = [&](Kind kind) { found = kind; };
    while (m.next()) {
      switch (m.field()) {
        case 1: a->name = m.name(); break;
        case 2: a->f = m.real(), is(Kind::real); break;
        case 3: a->i = m.integer(), is(Kind::integer); break;
        case 4: a->s = m.text(), is(Kind::string); break;
        case 5:
          m.once();
          push(a->tensors, read_tensor(parse_tensor_proto(m.bytes()))), is(Kind::tensor);
          break;
        case 6:
          m.once();
          read_graph_into(a->graphs, m, depth), is(Kind::graph);
          break;
        case 7: {
          const size_t before = a->floats.size();
          m.reals(a->floats), is(Kind::reals);
          charge((a->floats.size() - before) * 2 * sizeof(float));
          break;
        }
        case 8: {
          const size_t before = a->ints.size();
          m.integers(a->ints), is(Kind::integers);
          charge((a->ints.size() - before) * 2 * sizeof(int64_t));
          break;
        }
        case 9: push(a->strings, m.text()), is(Kind::strings); break;
        case 10: push(a->tensors, read_tensor(parse_tensor_proto(m.bytes()))), is(Kind::tensors); break;
        case 11: read_graph_into(a->graphs, m, depth), is(Kind::graphs); break;
        case 14:
          m.once();
          push(a->types, read_type(m.message("TypeProto"))), is(Kind::type_proto);
          break;
        case 15: push(a->types, read_type(m.message("TypeProto"))), is(Kind::type_protos); break;
        case 20: stated = m.integer(); break;
        case 21: a->ref = m.name(); break;
        case 22:
          m.once();
          push(a->tensors, read_sparse(m.message("SparseTensorProto")).tensor), is(Kind::sparse_tensor);
          break;
        case 23: push(a->tensors, read_sparse(m.message("SparseTensorProto")).tensor), is(Kind::sparse_tensors); break;
        default: m.skip();
      }
    }
    if (a->name.empty()) m.fail("an attribute has no name");
    if (stated < 0 || stated > static_cast<int64_t>(Kind::type_protos))
      m.fail(fmt::format("attribute '{}' has the unknown type {}", shown(a->name), stated));
    a->kind = stated != 0 ? static_cast<Kind>(stated) : found;
    const auto need = [&](bool present) {
      if (!present && a->ref.empty()) m.fail(fmt::format("attribute '{}' has a type but no value", shown(a->name)));
    };
    if (a->kind == Kind::tensor || a->kind == Kind::sparse_tensor) need(!a->tensors.empty());
    if (a->kind == Kind::graph) need(!a->graphs.empty());
    if (a->kind == Kind::type_proto) need(!a->types.empty());
    return a;
  }

  void read_graph_into(std::vector<std::shared_ptr<const Graph>>& list, Message& m, int depth) {
    charge(sizeof(Graph) + 32);
    push(list, std::shared_ptr<const Graph>(std::make_shared<Graph>(read_graph(m.message("GraphProto"), depth + 1))));
  }

  Initializer read_initializer(Bytes message) {
    const TensorProtoView view = parse_tensor_proto(message);
    if (view.name.size() > max_name_bytes || view.name.find('\0') != std::string_view::npos)
      throw Error(Code::model_invalid, "an initializer has an impossible name");
    try {
      return {view.name, read_tensor(view)};
    } catch (Error& error) {
      error.at_tensor(std::string(view.name)).add_context(fmt::format("initializer '{}'", shown(view.name)));
      throw;
    }
  }

  Tensor read_tensor(const TensorProtoView& view) {
    charge(view.external_data.size() * 2 * sizeof view.external_data[0]);
    if (!view.external) return materialize(view, owner_);
    if (!view.dtype)
      throw Error(Code::unsupported, fmt::format("a tensor has the unknown data type {}", view.data_type));
    if (*view.dtype == DType::string) throw Error(Code::model_invalid, "strings cannot be external data");
    const int64_t size = byte_size(*view.dtype, element_count(view.dims));
    const std::shared_ptr<const void> data = external_.read(view.external_data, size);
    return tensor_from_raw(*view.dtype, view.dims,
                           {static_cast<const std::byte*>(data.get()), static_cast<size_t>(size)}, data, view.name);
  }

  Initializer read_sparse(Message m) {
    std::optional<TensorProtoView> values, indices;
    Dims dims;
    while (m.next()) {
      switch (m.field()) {
        case 1:
          m.once();
          values = parse_tensor_proto(m.bytes());
          break;
        case 2:
          m.once();
          indices = parse_tensor_proto(m.bytes());
          break;
        case 3: {
          m.integers(dims);
          if (dims.size() > max_rank) m.fail(fmt::format("more than {} dimensions", max_rank));
          break;
        }
        default: m.skip();
      }
    }
    if (!values) m.fail("the values are missing");
    // A sparse tensor without indices has no entries that differ from zero.
    const Tensor entries = read_tensor(*values);
    const Tensor places = indices ? read_tensor(*indices) : Tensor(DType::i64, {0});
    try {
      return {values->name, expand_sparse(entries, places, dims, sparse_budget_)};
    } catch (Error& error) {
      error.at_tensor(std::string(values->name)).add_context(fmt::format("sparse tensor '{}'", shown(values->name)));
      throw;
    }
  }

  ValueInfo read_value_info(Message m) {
    ValueInfo v;
    while (m.next()) {
      switch (m.field()) {
        case 1: v.name = m.name(); break;
        case 2:
          m.once();
          v.type = read_type(m.message("TypeProto"));
          break;
        default: m.skip();
      }
    }
    return v;
  }

  ValueType read_type(Message m) {
    using Kind = ValueType::Kind;
    ValueType t;
    while (m.next()) {
      switch (m.field()) {
        case 1: t = read_tensor_type(m.message("TypeProto.Tensor"), Kind::tensor); break;
        case 8: t = read_tensor_type(m.message("TypeProto.SparseTensor"), Kind::sparse); break;
        case 4: t = read_container(m.message("TypeProto.Sequence"), Kind::sequence); break;
        case 5: t = read_container(m.message("TypeProto.Map"), Kind::map); break;
        case 9: t = read_container(m.message("TypeProto.Optional"), Kind::optional); break;
        default: m.skip();
      }
    }
    return t;
  }

  ValueType read_container(Message m, ValueType::Kind kind) {
    ValueType t;
    t.kind = kind;
    const uint32_t element = kind == ValueType::Kind::map ? 2 : 1;
    while (m.next()) {
      if (m.field() == element) {
        m.once();
        charge(sizeof(ValueType) + 32);
        t.element = std::make_shared<const ValueType>(read_type(m.message("TypeProto")));
      } else if (kind == ValueType::Kind::map && m.field() == 1) {
        t.element_type = static_cast<int32_t>(std::clamp<int64_t>(m.integer(), 0, INT32_MAX));
      } else {
        m.skip();
      }
    }
    if (!t.element) m.fail("the element type is missing");
    return t;
  }

  ValueType read_tensor_type(Message m, ValueType::Kind kind) {
    ValueType t;
    t.kind = kind;
    while (m.next()) {
      switch (m.field()) {
        case 1: t.element_type = static_cast<int32_t>(std::clamp<int64_t>(m.integer(), 0, INT32_MAX)); break;
        case 2:
          m.once();
          t.shape = read_shape(m.message("TensorShapeProto"));
          break;
        default: m.skip();
      }
    }
    return t;
  }

  std::vector<ValueType::Extent> read_shape(Message m) {
    std::vector<ValueType::Extent> shape;
    while (m.next()) {
      if (m.field() != 1) {
        m.skip();
        continue;
      }
      Message d = m.message("TensorShapeProto.Dimension");
      ValueType::Extent extent;
      while (d.next()) {
        switch (d.field()) {
          case 1: {
            // Exporters write -1 for an extent that they do not know.
            const int64_t value = d.integer();
            if (value >= 0) extent.value = value;
            if (value > max_elements) d.fail(fmt::format("an extent of {} is too large", value));
            break;
          }
          case 2: extent.param = d.name(); break;
          default: d.skip();
        }
      }
      push(shape, extent);
      if (shape.size() > max_rank) m.fail(fmt::format("more than {} dimensions", max_rank));
    }
    return shape;
  }

  Function read_function(Message m) {
    Function f;
    try {
      while (m.next()) {
        switch (m.field()) {
          case 1: f.name = m.name(); break;
          case 4: push(f.inputs, m.name()); break;
          case 5: push(f.outputs, m.name()); break;
          case 6: push(f.attributes, m.name()); break;
          case 7: read_node_into(f.nodes, m, 1); break;
          case 9: push(f.opsets, read_opset(m.message("OperatorSetIdProto"))); break;
          case 10: f.domain = canonical_domain(m.name()); break;
          case 11: push(f.defaults, read_attribute(m.message("AttributeProto"), 1)); break;
          case 13: f.overload = m.name(); break;
          default: m.skip();
        }
      }
      check_opsets(f.opsets);
    } catch (Error& error) {
      error.add_context(fmt::format("function '{}'", shown(f.name)));
      throw;
    }
    return f;
  }

  Bytes bytes_;
  std::shared_ptr<const void> owner_;
  const ReadOptions& options_;
  ExternalFiles external_;
  Problems problems_;
  int64_t budget_, sparse_budget_;
  int64_t nodes_ = 0;
};

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void check_size(size_t size, const ReadOptions& options, std::string_view what) {
  if (options.max_file_bytes >= 0 && size > static_cast<size_t>(options.max_file_bytes))
    throw Error(Code::limit,
                fmt::format("{} has {} bytes, more than the limit of {}", what, size, options.max_file_bytes));
}

}  // namespace

std::shared_ptr<const Model> read(const std::string& path, const ReadOptions& options) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  check_size(file->bytes().size(), options, fmt::format("'{}'", path));
  try {
    return Reader(file->bytes(), file, directory_of(path), options).run();
  } catch (Error& error) {
    error.add_context(fmt::format("reading '{}'", path));
    throw;
  }
}

std::shared_ptr<const Model> read(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                  const ReadOptions& options) {
  check_size(bytes.size(), options, "the model");
  return Reader(bytes, std::move(owner), {}, options).run();
}

}  // namespace sinter::onnx
