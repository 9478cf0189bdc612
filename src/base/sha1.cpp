#include "base/sha1.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sinter {

void Sha1::block(const unsigned char* data) {
  std::array<uint32_t, 80> w;
  for (size_t i = 0; i < 16; ++i)
    w[i] = static_cast<uint32_t>(data[4 * i]) << 24 | static_cast<uint32_t>(data[4 * i + 1]) << 16 |
           static_cast<uint32_t>(data[4 * i + 2]) << 8 | static_cast<uint32_t>(data[4 * i + 3]);
  for (size_t i = 16; i < 80; ++i) w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  auto [a, b, c, d, e] = state_;
  for (size_t i = 0; i < 80; ++i) {
    uint32_t f, k;
    if (i < 20) {
      f = (b & c) | (~b & d);
      k = 0x5a827999;
    } else if (i < 40) {
      f = b ^ c ^ d;
      k = 0x6ed9eba1;
    } else if (i < 60) {
      f = (b & c) | (b & d) | (c & d);
      k = 0x8f1bbcdc;
    } else {
      f = b ^ c ^ d;
      k = 0xca62c1d6;
    }
    const uint32_t next = std::rotl(a, 5) + f + e + k + w[i];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  state_[0] += a;
  state_[1] += b;
  state_[2] += c;
  state_[3] += d;
  state_[4] += e;
}

void Sha1::add(std::span<const std::byte> bytes) {
  total_ += bytes.size();
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t left = bytes.size();
  while (left > 0) {
    const size_t n = std::min(left, pending_.size() - filled_);
    std::memcpy(pending_.data() + filled_, data, n);
    filled_ += n;
    data += n;
    left -= n;
    if (filled_ == pending_.size()) {
      block(pending_.data());
      filled_ = 0;
    }
  }
}

std::string Sha1::finish() {
  const uint64_t bits = total_ * 8;
  pending_[filled_++] = 0x80;
  if (filled_ > 56) {
    std::fill(pending_.begin() + static_cast<ptrdiff_t>(filled_), pending_.end(), static_cast<unsigned char>(0));
    block(pending_.data());
    filled_ = 0;
  }
  std::fill(pending_.begin() + static_cast<ptrdiff_t>(filled_), pending_.end(), static_cast<unsigned char>(0));
  for (size_t i = 0; i < 8; ++i) pending_[56 + i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
  block(pending_.data());
  std::string text;
  for (uint32_t word : state_)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  return text;
}

}  // namespace sinter
