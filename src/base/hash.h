// XXH3 hashes: 128 bits for file sections, 64 bits for tables. They find damage, not malice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sinter {

using Hash128 = std::array<uint64_t, 2>;

Hash128 hash128(std::span<const std::byte> bytes);
uint64_t hash64(std::string_view bytes);
inline uint64_t hash_combine(uint64_t a, uint64_t b) {
  return (a ^ (b + 0x9e3779b97f4a7c15ULL + (a << 6) + (a >> 2))) * 0xff51afd7ed558ccdULL;
}

}  // namespace sinter
