// Entries of operators on strings.

#include "ops/strings.h"

#include <fmt/core.h>

#include "frontends/onnx/entries.h"

namespace sinter::onnx {
namespace {

void import_split(NodeContext& c) {
  const StringSplitAttrs a{.delimiter = c.string("delimiter", ""),
                           .max_splits = c.integer("maxsplit", 0),
                           .limited = c.has_attr("maxsplit")};
  c.out(c.b.add(op_named("StringSplit"), a, {c.in(0)}, 2));
}

void import_normalizer(NodeContext& c) {
  StringNormalizerAttrs a{.change = CaseChange::none,
                          .case_sensitive = c.integer("is_case_sensitive", 0) != 0,
                          .stop_words = c.strings("stopwords")};
  const std::string change = c.string("case_change_action", "NONE");
  if (change == "LOWER")
    a.change = CaseChange::lower;
  else if (change == "UPPER")
    a.change = CaseChange::upper;
  else if (change != "NONE")
    c.fail(fmt::format("case_change_action '{}' is none of LOWER, UPPER, NONE", change));
  const std::string language = c.string("locale", "en_US").substr(0, 2);
  if (language == "tr" || language == "az" || language == "lt")
    c.unsupported(fmt::format("the letters' case in locale '{}'", language));
  c.out(0, c.b.op("StringNormalizer", a, {c.in(0)}));
}

void import_regex(NodeContext& c) {
  c.out(0, c.b.op("RegexFullMatch", RegexFullMatchAttrs{.pattern = c.string("pattern", "")}, {c.in(0)}));
}

void import_tfidf(NodeContext& c) {
  for (const char* name :
       {"mode", "min_gram_length", "max_gram_length", "max_skip_count", "ngram_counts", "ngram_indexes"})
    if (!c.has_attr(name)) c.fail(fmt::format("attribute '{}' is missing", name));
  TfIdfAttrs a{.mode = TfIdfMode::tf,
               .min_length = c.integer("min_gram_length", 1),
               .max_length = c.integer("max_gram_length", 1),
               .max_skip = c.integer("max_skip_count", 0),
               .counts = c.integers("ngram_counts"),
               .columns = c.integers("ngram_indexes"),
               .integers = c.integers("pool_int64s"),
               .strings = c.strings("pool_strings"),
               .weights = c.reals("weights")};
  const std::string mode = c.string("mode", "");
  if (mode == "IDF")
    a.mode = TfIdfMode::idf;
  else if (mode == "TFIDF")
    a.mode = TfIdfMode::tfidf;
  else if (mode != "TF")
    c.fail(fmt::format("mode '{}' is none of TF, IDF, TFIDF", mode));
  c.out(0, c.b.op("TfIdfVectorizer", a, {c.in(0)}));
}

// com.microsoft. A single empty separator, or "." as the form of a token, asks for characters.
void import_tokenizer(NodeContext& c) {
  for (const char* name : {"mark", "mincharnum", "pad_value"})
    if (!c.has_attr(name)) c.fail(fmt::format("attribute '{}' is missing", name));
  TokenizerAttrs a{.separators = c.strings("separators"),
                   .token = c.string("tokenexp", ""),
                   .least = c.integer("mincharnum", 1),
                   .padding = c.string("pad_value", ""),
                   .mark = c.integer("mark", 0) != 0};
  if (a.separators.empty() && a.token.empty()) c.fail("it needs attribute 'separators' or 'tokenexp'");
  // Separators are what counts when both are given.
  if (!a.separators.empty()) a.token.clear();
  const bool characters = a.token == "." || (a.separators.size() == 1 && a.separators[0].empty());
  if (characters && a.least > 1) c.fail("tokens of one character cannot have 'mincharnum' characters");
  if (characters) {
    a.separators.clear();
    a.token.clear();
  }
  const size_t rank = rank_of(c, 0);
  if (rank != 1 && rank != 2) c.fail(fmt::format("the operand has rank {}, it must be 1 or 2", rank));
  c.out(0, c.b.op("Tokenizer", a, {c.in(0)}));
}

constexpr Entry table[] = {
    {"StringConcat", 20,
     [](NodeContext& c) {
       c.out(0, c.b.op("StringConcat", {c.in(0), c.in(1)}));
     }},
    {"StringSplit", 20, import_split},
    {"StringNormalizer", 10, import_normalizer},
    {"RegexFullMatch", 20, import_regex},
    {"TfIdfVectorizer", 9, import_tfidf},
    {"Tokenizer", 1, import_tokenizer, "com.microsoft"},
};

}  // namespace

std::span<const Entry> string_entries() { return table; }

}  // namespace sinter::onnx
