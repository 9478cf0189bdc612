// UTF-8 and the case of letters: what string operators share.
//
// Bytes that are no UTF-8 decode to U+FFFD, one at a time, and are kept as they are by case mapping. Simple mappings
// (one code point to one) of Latin, Greek, Coptic, Cyrillic, Armenian and the compatibility letters; no locale.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sinter {

// The code point at `at`, which moves behind it. Precondition: at < text.size(). valid: false where U+FFFD stands for
// a byte that is no UTF-8.
char32_t decode_utf8(std::string_view text, size_t& at, bool* valid = nullptr);
void append_utf8(std::string& out, char32_t c);

char32_t to_lower(char32_t c);
char32_t to_upper(char32_t c);
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);

}  // namespace sinter
