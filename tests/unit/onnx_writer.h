// Writes ONNX models as bytes, for tests: a message is a string that fields are appended to.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::test {

struct Proto {
  std::string bytes;

  static void put_varint(std::string& out, uint64_t v) {
    while (v >= 0x80) {
      out += static_cast<char>(v | 0x80);
      v >>= 7;
    }
    out += static_cast<char>(v);
  }
  Proto& integer(uint32_t field, int64_t v) {
    put_varint(bytes, uint64_t{field} << 3);
    put_varint(bytes, static_cast<uint64_t>(v));
    return *this;
  }
  Proto& real(uint32_t field, float v) {
    put_varint(bytes, uint64_t{field} << 3 | 5);
    bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
    return *this;
  }
  Proto& text(uint32_t field, std::string_view s) {
    put_varint(bytes, uint64_t{field} << 3 | 2);
    put_varint(bytes, s.size());
    bytes.append(s);
    return *this;
  }
  Proto& message(uint32_t field, const Proto& m) { return text(field, m.bytes); }
  Proto& packed(uint32_t field, std::initializer_list<int64_t> values) {
    std::string all;
    for (int64_t v : values) put_varint(all, static_cast<uint64_t>(v));
    return text(field, all);
  }
};

// ONNX's numbers of data types.
enum OnnxType { onnx_f32 = 1, onnx_u8 = 2, onnx_i32 = 6, onnx_i64 = 7, onnx_string = 8, onnx_bool = 9 };

struct Extent {
  int64_t value = -1;
  std::string param;
  Extent(int v) : value(v) {}
  Extent(const char* p) : param(p) {}
};

inline Proto tensor_header(std::string_view name, int type, const std::vector<int64_t>& dims) {
  Proto t;
  for (int64_t d : dims) t.integer(1, d);
  return t.integer(2, type).text(8, name);
}

inline Proto tensor_f32(std::string_view name, const std::vector<int64_t>& dims, const std::vector<float>& values) {
  return tensor_header(name, onnx_f32, dims)
      .text(9, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

inline Proto tensor_i64(std::string_view name, const std::vector<int64_t>& dims, const std::vector<int64_t>& values) {
  return tensor_header(name, onnx_i64, dims)
      .text(9, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t)});
}

// data_location EXTERNAL with these keys.
inline Proto tensor_external(std::string_view name, const std::vector<int64_t>& dims,
                             const std::vector<std::pair<std::string, std::string>>& keys) {
  Proto t = tensor_header(name, onnx_f32, dims);
  for (const auto& [key, value] : keys) t.message(13, Proto().text(1, key).text(2, value));
  return t.integer(14, 1);
}

inline Proto tensor_type(int element, const std::vector<Extent>& dims) {
  Proto shape;
  for (const Extent& d : dims) {
    Proto dim;
    if (d.value >= 0)
      dim.integer(1, d.value);
    else
      dim.text(2, d.param);
    shape.message(1, dim);
  }
  return Proto().message(1, Proto().integer(1, element).message(2, shape));
}

inline Proto value_info(std::string_view name, const Proto& type) { return Proto().text(1, name).message(2, type); }
inline Proto value_info(std::string_view name, int element, const std::vector<Extent>& dims) {
  return value_info(name, tensor_type(element, dims));
}

inline Proto attribute_i(std::string_view name, int64_t v) {
  return Proto().text(1, name).integer(3, v).integer(20, 2);
}
inline Proto attribute_s(std::string_view name, std::string_view v) {
  return Proto().text(1, name).text(4, v).integer(20, 3);
}
inline Proto attribute_strings(std::string_view name, std::initializer_list<std::string_view> v) {
  Proto a = Proto().text(1, name).integer(20, 8);
  for (std::string_view s : v) a.text(9, s);
  return a;
}
inline Proto attribute_ints(std::string_view name, std::initializer_list<int64_t> v) {
  return Proto().text(1, name).packed(8, v).integer(20, 7);
}
inline Proto attribute_graph(std::string_view name, const Proto& graph) {
  return Proto().text(1, name).message(6, graph).integer(20, 5);
}
inline Proto attribute_tensor(std::string_view name, const Proto& tensor) {
  return Proto().text(1, name).message(5, tensor).integer(20, 4);
}
// An attribute that names one of the function around it.
inline Proto attribute_ref(std::string_view name, std::string_view outer, int type) {
  return Proto().text(1, name).text(21, outer).integer(20, type);
}

inline Proto node(std::string_view op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                  const std::vector<Proto>& attributes = {}, std::string_view domain = {}) {
  Proto n;
  for (const std::string& s : inputs) n.text(1, s);
  for (const std::string& s : outputs) n.text(2, s);
  n.text(3, "n_" + (outputs.empty() ? std::string(op) : outputs[0])).text(4, op);
  for (const Proto& a : attributes) n.message(5, a);
  if (!domain.empty()) n.text(7, domain);
  return n;
}

struct GraphParts {
  std::vector<Proto> nodes, initializers, inputs, outputs;
  std::vector<Proto> sparse = {};
};

inline Proto graph(const GraphParts& parts, std::string_view name = "g") {
  Proto g;
  for (const Proto& n : parts.nodes) g.message(1, n);
  g.text(2, name);
  for (const Proto& t : parts.initializers) g.message(5, t);
  for (const Proto& t : parts.sparse) g.message(15, t);
  for (const Proto& v : parts.inputs) g.message(11, v);
  for (const Proto& v : parts.outputs) g.message(12, v);
  return g;
}

inline Proto opset(int64_t version, std::string_view domain = {}) {
  return Proto().text(1, domain).integer(2, version);
}

inline Proto model(const Proto& graph, int64_t opset_version = 17, int64_t ir_version = 9,
                   const std::vector<Proto>& functions = {}) {
  Proto m;
  m.integer(1, ir_version).message(8, opset(opset_version));
  if (!functions.empty()) m.message(8, opset(1, "local"));
  m.message(7, graph);
  for (const Proto& f : functions) m.message(25, f);
  return m;
}

inline Proto function(std::string_view name, const std::vector<std::string>& inputs,
                      const std::vector<std::string>& outputs, const std::vector<Proto>& nodes,
                      const std::vector<std::string>& attributes = {}, int64_t opset_version = 17) {
  Proto f;
  f.text(1, name).text(10, "local").message(9, opset(opset_version)).message(9, opset(1, "local"));
  for (const std::string& s : inputs) f.text(4, s);
  for (const std::string& s : outputs) f.text(5, s);
  for (const std::string& s : attributes) f.text(6, s);
  for (const Proto& n : nodes) f.message(7, n);
  return f;
}

inline std::span<const std::byte> as_bytes(const std::string& s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

}  // namespace sinter::test
