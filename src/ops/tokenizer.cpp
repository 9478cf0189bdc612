// Tokenizer.

#include <fmt/core.h>

#include <algorithm>

#include "ops/families.h"
#include "ops/op.h"
#include "ops/regex.h"
#include "ops/strings.h"
#include "ops/utf8.h"

namespace sinter {

const Fields& fields_of(const TokenizerAttrs*) {
  static const Fields f =
      describe<TokenizerAttrs>({field<&TokenizerAttrs::separators>("separators"),
                                field<&TokenizerAttrs::token>("token"), field<&TokenizerAttrs::least>("least"),
                                field<&TokenizerAttrs::padding>("padding"), field<&TokenizerAttrs::mark>("mark")});
  return f;
}

namespace {

using Tokens = std::vector<std::string_view>;

// The patterns of a Tokenizer, compiled.
struct Patterns {
  explicit Patterns(const TokenizerAttrs& a) {
    for (const std::string& separator : a.separators) separators.emplace_back(separator);
    if (!a.token.empty()) token.emplace(a.token);
  }
  std::vector<Regex> separators;
  std::optional<Regex> token;
};

void infer_tokenizer(InferContext& c) {
  c.set(0, DType::string);
  if (c.dtype(0) != DType::string) c.fail(fmt::format("the operand is {}, strings are needed", dtype_name(c.dtype(0))));
  const auto& a = c.attrs<TokenizerAttrs>();
  if (a.least < 1) c.fail(fmt::format("tokens of at least {} characters", a.least));
  if (!a.separators.empty() && !a.token.empty()) c.fail("separators and the form of tokens exclude each other");
  const Patterns compiles(a);
  Shape shape = c.shape(0);
  shape.push_back(c.found_by_running(0, shape.size(), 0, std::nullopt));
  c.set(0, DType::string, std::move(shape));
}

size_t behind_character(std::string_view text, size_t at) {
  if (at < text.size()) decode_utf8(text, at);
  return at;
}

bool has_characters(std::string_view text, int64_t least) {
  size_t at = 0;
  while (at < text.size() && least > 0) {
    decode_utf8(text, at);
    --least;
  }
  return least <= 0;
}

void cut(std::string_view text, const Regex& separator, int64_t least, Tokens& out) {
  const auto add = [&](std::string_view token) {
    if (has_characters(token, least)) out.push_back(token);
  };
  size_t from = 0;
  while (const auto found = separator.find(text, from)) {
    add(text.substr(from, found->begin - from));
    // A match of nothing takes a character with it.
    from = found->end > found->begin ? found->end : behind_character(text, found->begin);
    if (from >= text.size()) return;
  }
  add(text.substr(from));
}

Tokens tokens_of(std::string_view text, const TokenizerAttrs& a, const Patterns& patterns) {
  Tokens out;
  if (patterns.token) {
    size_t from = 0;
    while (const auto found = patterns.token->find(text, from)) {
      const std::string_view token = text.substr(found->begin, found->end - found->begin);
      const bool counts = !token.empty() && has_characters(token, a.least);
      if (counts) out.push_back(token);
      from = counts ? found->end : behind_character(text, found->begin);
      if (from >= text.size()) break;
    }
  } else if (!patterns.separators.empty()) {
    out.push_back(text);
    for (const Regex& separator : patterns.separators) {
      Tokens parts;
      for (const std::string_view part : out) cut(part, separator, a.least, parts);
      out = std::move(parts);
    }
  } else if (a.least == 1) {
    for (size_t at = 0; at < text.size();) {
      const size_t from = at;
      at = behind_character(text, at);
      out.push_back(text.substr(from, at - from));
    }
  }
  return out;
}

void eval_tokenizer(EvalContext& c) {
  const auto& a = c.attrs<TokenizerAttrs>();
  const Patterns patterns(a);
  const Tensor& x = c.in(0);
  std::vector<Tokens> rows;
  size_t width = 0;
  for (const std::string& text : x.strings()) {
    rows.push_back(tokens_of(text, a, patterns));
    width = std::max(width, rows.back().size());
  }
  const bool mark = a.mark && width > 0;
  if (mark) width += 2;
  Dims dims = x.dims();
  dims.push_back(static_cast<int64_t>(width));
  Tensor& out = c.out(0, DType::string, std::move(dims));
  for (size_t i = 0; i < rows.size(); ++i) {
    auto at = out.strings().begin() + static_cast<int64_t>(i * width);
    const auto end = at + static_cast<int64_t>(width);
    if (mark) *at++ = "\x02";
    for (const std::string_view token : rows[i]) *at++ = token;
    if (mark) *at++ = "\x03";
    std::fill(at, end, a.padding);
  }
}

constexpr Op table[] = {
    {.name = "Tokenizer", .fields = fields<TokenizerAttrs>, .infer = infer_tokenizer, .eval = eval_tokenizer},
};

}  // namespace

std::span<const Op> tokenizer_ops() { return table; }

}  // namespace sinter
