// Attributes of operators on strings.
//
// StringConcat(x, y) broadcasts · StringSplit(x) → parts string[..., n], counts i64[...], n as found by running, ""
// where there are fewer · StringNormalizer(x string[c] or [1, c]) → what is no stop word, one "" when nothing remains ·
// RegexFullMatch(x) → bool · Tokenizer(x string[...]) → string[..., n], n as found by running ·
// TfIdfVectorizer(x string or integer [c] or [b, c]) → f32[columns] or [b, columns].
#pragma once

#include "base/fields.h"

namespace sinter {

struct StringSplitAttrs {
  std::string delimiter;   // empty: runs of white space, none at the ends
  int64_t max_splits = 0;  // with `limited`; the last part holds the rest
  bool limited = false;
};

enum class CaseChange : uint8_t { none, lower, upper };
std::span<const char* const> enum_names(CaseChange);

struct StringNormalizerAttrs {
  CaseChange change = CaseChange::none;
  bool case_sensitive = false;  // of the comparison with stop words
  std::vector<std::string> stop_words;
};

struct RegexFullMatchAttrs {
  std::string pattern;  // RE2's syntax; the whole string must match
};

// Tokens are what lies between matches of each separator in turn, or the matches of `token`, leftmost and longest; with
// neither, each character. Where any string has tokens, `mark` puts STX before and ETX behind those of every string.
struct TokenizerAttrs {
  std::vector<std::string> separators;
  std::string token;
  int64_t least = 1;    // characters of a token
  std::string padding;  // where there are fewer than n
  bool mark = false;
};

enum class TfIdfMode : uint8_t { tf, idf, tfidf };
std::span<const char* const> enum_names(TfIdfMode);

// N-grams of length k + 1 fill the pool from counts[k] to counts[k + 1] (the last: to its end). The i-th n-gram of the
// pool counts in column columns[i]. Between neighbours of an n-gram 0 to max_skip elements are left out.
struct TfIdfAttrs {
  TfIdfMode mode = TfIdfMode::tf;
  int64_t min_length = 1, max_length = 1, max_skip = 0;
  std::vector<int64_t> counts, columns;
  std::vector<int64_t> integers;     // the pool, when x holds integers
  std::vector<std::string> strings;  // the pool, when x holds strings
  std::vector<double> weights;       // of the i-th n-gram; empty: 1
};

const Fields& fields_of(const StringSplitAttrs*);
const Fields& fields_of(const StringNormalizerAttrs*);
const Fields& fields_of(const RegexFullMatchAttrs*);
const Fields& fields_of(const TokenizerAttrs*);
const Fields& fields_of(const TfIdfAttrs*);

}  // namespace sinter
