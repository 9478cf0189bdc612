// SHA-1, for the checksums that ONNX external data may carry. It finds damage, not malice.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace sinter {

class Sha1 {
 public:
  void add(std::span<const std::byte> bytes);
  std::string finish();  // 40 hexadecimal digits; call once

 private:
  void block(const unsigned char* data);
  std::array<uint32_t, 5> state_ = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  std::array<unsigned char, 64> pending_ = {};
  size_t filled_ = 0;
  uint64_t total_ = 0;
};

}  // namespace sinter
