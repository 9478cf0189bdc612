#include "engine/file.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "backend/verify.h"
#include "base/aligned.h"
#include "base/caller_threads.h"
#include "base/checked.h"
#include "base/hash.h"
#include "engine/plan_text.h"

namespace sinter {
namespace {

constexpr char magic[8] = {'S', 'I', 'N', 'T', 'E', 'R', 'E', '\n'};
constexpr uint32_t format = 3;
constexpr uint32_t max_sections = 4096;
constexpr int64_t weight_alignment = 64;

struct Header {
  char magic[8];
  uint32_t format;
  uint32_t sections;
  uint64_t length;     // of the file
  char version[16];    // of the library that wrote it, for messages
  Hash128 table_hash;  // of the header with this field 0, and the table
};

enum class SectionKind : uint32_t { plan = 1, weights = 2 };

struct Section {
  uint32_t kind;
  uint32_t target;  // of plans: which; of weights: 0
  uint64_t offset, length;
  Hash128 hash;
};
static_assert(sizeof(Header) == 56 && sizeof(Section) == 40);

[[noreturn]] void invalid(std::string message) {
  throw Error(Code::engine_invalid, fmt::format("this is no valid engine: {}", message));
}

constexpr size_t piece = 1 << 20;

// Over the hashes of pieces, which threads share.
Hash128 section_hash(std::span<const std::byte> bytes, unsigned threads = 0) {
  if (bytes.size() <= piece) return hash128(bytes);
  struct Job {
    std::span<const std::byte> bytes;
    std::vector<Hash128> hashes;
  } job = {bytes, std::vector<Hash128>((bytes.size() + piece - 1) / piece)};
  hire(threads > 0 ? threads : default_thread_count())
      ->parallel(
          static_cast<int64_t>(job.hashes.size()),
          [](void* user, int64_t chunk, unsigned) {
            Job& j = *static_cast<Job*>(user);
            const size_t at = static_cast<size_t>(chunk) * piece;
            j.hashes[static_cast<size_t>(chunk)] = hash128(j.bytes.subspan(at, std::min(piece, j.bytes.size() - at)));
          },
          &job)
      .check();
  return hash128(std::as_bytes(std::span(job.hashes)));
}

Hash128 table_hash(std::span<const std::byte> head) {
  std::vector<std::byte> copy(head.begin(), head.end());
  std::memset(copy.data() + offsetof(Header, table_hash), 0, sizeof(Hash128));
  return hash128(copy);
}

int64_t weight_bytes(const Weight& weight) {
  const auto dims = constant_dims(*weight.type.shape);
  return layout_bytes(weight.layout, weight.type.dtype, *dims);
}

// Symbols are written by name, so names must be identifiers.
Target with_printable_symbols(const Target& target) {
  Target out = target;
  SymbolTable symbols;
  for (SymbolId k = 0; k < target.symbols.size(); ++k) {
    Symbol symbol = target.symbols[k];
    symbol.high.reset();
    for (char& c : symbol.name)
      if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) c = '_';
    if (symbol.name.empty() || !((symbol.name[0] | 32) >= 'a' && (symbol.name[0] | 32) <= 'z'))
      symbol.name = "d" + symbol.name;
    symbols.add(std::move(symbol));
  }
  out.symbols = std::move(symbols);
  return out;
}

struct Image {
  std::vector<std::byte> head;
  std::vector<std::string> plans;
  std::vector<std::span<const std::byte>> pieces;  // of the whole file in order
  std::vector<std::byte> padding;
  std::vector<Tensor> keep;
};

Image compose(std::span<const Target* const> targets) {
  Image image;
  image.padding.resize(weight_alignment);
  // Weights: one section shared by all targets, equal bytes once.
  struct Blob {
    std::span<const std::byte> bytes;
    int64_t offset;
  };
  std::vector<Blob> blobs;
  std::map<Hash128, size_t> seen;
  int64_t weights_end = 0;
  std::vector<WeightOffsets> offsets(targets.size());
  for (size_t t = 0; t < targets.size(); ++t)
    for (const Weight& weight : targets[t]->weights) {
      const std::span<const std::byte> bytes(static_cast<const std::byte*>(weight.bytes.data()),
                                             static_cast<size_t>(weight_bytes(weight)));
      const auto [at, fresh] = seen.try_emplace(hash128(bytes), blobs.size());
      if (fresh || blobs[at->second].bytes.size() != bytes.size()) {
        at->second = blobs.size();
        weights_end = align_up(weights_end, weight_alignment, "weights");
        blobs.push_back({bytes, weights_end});
        weights_end = checked_add(weights_end, static_cast<int64_t>(bytes.size()), "weights");
      }
      offsets[t].push_back(blobs[at->second].offset);
    }
  for (size_t t = 0; t < targets.size(); ++t)
    image.plans.push_back(to_text(with_printable_symbols(*targets[t]), offsets[t]));
  const size_t sections = image.plans.size() + 1;
  image.head.resize(sizeof(Header) + sections * sizeof(Section));
  Header header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.format = format;
  header.sections = static_cast<uint32_t>(sections);
  std::strncpy(header.version, SINTER_VERSION, sizeof header.version - 1);
  std::vector<Section> table;
  int64_t end = static_cast<int64_t>(image.head.size());
  image.pieces.push_back(image.head);
  for (size_t t = 0; t < image.plans.size(); ++t) {
    const auto bytes = std::as_bytes(std::span(image.plans[t]));
    table.push_back({static_cast<uint32_t>(SectionKind::plan), static_cast<uint32_t>(t), static_cast<uint64_t>(end),
                     bytes.size(), section_hash(bytes)});
    image.pieces.push_back(bytes);
    end += static_cast<int64_t>(bytes.size());
  }
  const int64_t start = align_up(end, weight_alignment, "engine");
  image.pieces.push_back(std::span<const std::byte>(image.padding).first(static_cast<size_t>(start - end)));
  // The weight section's hash runs over its bytes as they will lie in the file.
  Tensor section(DType::u8, {weights_end});
  for (const Blob& blob : blobs)
    if (!blob.bytes.empty())
      std::memcpy(section.as_mutable<std::byte>() + blob.offset, blob.bytes.data(), blob.bytes.size());
  const std::span<const std::byte> weights(section.as<std::byte>(), static_cast<size_t>(weights_end));
  table.push_back({static_cast<uint32_t>(SectionKind::weights), 0, static_cast<uint64_t>(start), weights.size(),
                   section_hash(weights)});
  image.pieces.push_back(weights);
  image.keep.push_back(std::move(section));
  header.length = static_cast<uint64_t>(start + weights_end);
  std::memcpy(image.head.data(), &header, sizeof header);
  std::memcpy(image.head.data() + sizeof header, table.data(), table.size() * sizeof(Section));
  header.table_hash = table_hash(image.head);
  std::memcpy(image.head.data(), &header, sizeof header);
  return image;
}

std::string missing_features(const Target& target, const DeviceSpec& machine) {
  if (target.needs.level > machine.level)
    return fmt::format("it needs instruction set level {}, this machine has {}", level_text(target.needs),
                       level_text(machine));
  for (const std::string& name : target.kernels)
    if (const Kernel* kernel = find_kernel(name); kernel && (kernel->features & ~machine.features) != 0)
      return fmt::format("its kernel {} needs instructions that this machine lacks", name);
  return {};
}

}  // namespace

void save_engine(std::span<const Target* const> targets, const std::string& path) {
  const Image image = compose(targets);
  write_file_atomically(path, image.pieces);
}

std::vector<std::byte> save_engine(std::span<const Target* const> targets) {
  const Image image = compose(targets);
  std::vector<std::byte> out;
  for (const auto& piece : image.pieces) out.insert(out.end(), piece.begin(), piece.end());
  return out;
}

bool is_engine(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof magic && std::memcmp(bytes.data(), magic, sizeof magic) == 0;
}

std::shared_ptr<const Executable> load_engine(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                              const LoadOptions& options) {
  if (!is_engine(bytes)) invalid("it does not start with an engine's mark");
  if (bytes.size() < sizeof(Header)) invalid("it is cut within its header");
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.format != format)
    throw Error(Code::engine_incompatible,
                fmt::format("the engine has format {}, this library reads format {}", header.format, format))
        .with_hint("build the engine again");
  if (header.length != bytes.size())
    invalid(fmt::format("its header says {} bytes, it has {}", header.length, bytes.size()));
  if (header.sections == 0 || header.sections > max_sections ||
      bytes.size() < sizeof(Header) + header.sections * sizeof(Section))
    invalid("its section table does not fit the file");
  const size_t head = sizeof(Header) + header.sections * sizeof(Section);
  if (table_hash(bytes.first(head)) != header.table_hash) invalid("its header or section table is damaged");
  std::vector<Section> table(header.sections);
  std::memcpy(table.data(), bytes.data() + sizeof(Header), header.sections * sizeof(Section));
  uint64_t end = head;
  for (const Section& section : table) {
    if (section.offset < end || section.offset - end >= static_cast<uint64_t>(weight_alignment) ||
        section.offset > bytes.size() || section.length > bytes.size() - section.offset)
      invalid("its sections do not lie in order within the file");
    for (uint64_t at = end; at < section.offset; ++at)
      if (bytes[at] != std::byte{0}) invalid("bytes between its sections");
    end = section.offset + section.length;
  }
  if (end != bytes.size()) invalid("bytes after its last section");
  std::span<const std::byte> weights;
  bool have_weights = false;
  for (const Section& section : table) {
    const auto part = bytes.subspan(section.offset, section.length);
    if (section_hash(part, static_cast<unsigned>(std::max(options.threads, 0))) != section.hash)
      invalid("a section is damaged (its hash differs)");
    if (section.kind == static_cast<uint32_t>(SectionKind::weights)) {
      if (have_weights) invalid("two weight sections");
      if (section.offset % weight_alignment != 0) invalid("weights are not aligned");
      weights = part;
      have_weights = true;
    } else if (section.kind != static_cast<uint32_t>(SectionKind::plan)) {
      invalid("a section of unknown kind");
    }
  }
  if (!have_weights) invalid("no weight section");
  if (!options.map || !owner || reinterpret_cast<uintptr_t>(weights.data()) % cache_line != 0) {
    // Kernels read whole cache lines, which must not lie across two: bytes that lie anywhere are moved.
    Tensor moved(DType::u8, {static_cast<int64_t>(weights.size())});
    if (!weights.empty()) std::memcpy(moved.mutable_data(), weights.data(), weights.size());
    weights = {moved.as<std::byte>(), weights.size()};
    owner = moved.owner();
  }
  const DeviceSpec machine = this_machine(options.threads);
  std::string reasons;
  for (const Section& section : table) {
    if (section.kind != static_cast<uint32_t>(SectionKind::plan)) continue;
    const auto part = bytes.subspan(section.offset, section.length);
    // A copy, so that the text cannot change after its hash was checked.
    const std::string text(reinterpret_cast<const char*>(part.data()), part.size());
    WeightOffsets offsets;
    Target target = parse_target(text, offsets);
    if (std::string missing = missing_features(target, machine); !missing.empty()) {
      reasons += (reasons.empty() ? "" : "; ") + missing;
      continue;
    }
    for (size_t w = 0; w < target.weights.size(); ++w) {
      Weight& weight = target.weights[w];
      if (!weight.type.is_static() || !layout_fits(weight.layout, weight.type.shape->size()) ||
          weight.layout.kind == Layout::Kind::any)
        invalid(fmt::format("weight {} has no fixed type", w));
      const int64_t size = weight_bytes(weight);
      if (offsets[w] % weight_alignment != 0 || offsets[w] > static_cast<int64_t>(weights.size()) ||
          size > static_cast<int64_t>(weights.size()) - offsets[w])
        invalid(fmt::format("weight {} lies outside the weight section", w));
      weight.bytes = Tensor(DType::u8, {size}, weights.data() + offsets[w], owner);
    }
    DeviceSpec device = machine;
    device.level = target.needs.level;
    verify_target(target, device);
    return make_executable(std::move(target), device);
  }
  throw Error(Code::engine_incompatible, fmt::format("no part of this engine runs here: {}", reasons))
      .with_hint("build the engine on this machine, or for a lower instruction set level");
}

std::shared_ptr<const Executable> load_engine(const std::string& path, const LoadOptions& options) {
  const auto file = MappedFile::open(path);
  try {
    return load_engine(file->bytes(), file, options);
  } catch (Error& error) {
    error.add_context(fmt::format("loading '{}'", path));
    throw;
  }
}

void rehash_engine(std::span<std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof header) return;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.sections > max_sections || bytes.size() < sizeof(Header) + header.sections * sizeof(Section)) return;
  for (uint32_t i = 0; i < header.sections; ++i) {
    std::byte* at = bytes.data() + sizeof(Header) + i * sizeof(Section);
    Section section;
    std::memcpy(&section, at, sizeof section);
    if (section.offset > bytes.size() || section.length > bytes.size() - section.offset) continue;
    section.hash = section_hash(bytes.subspan(section.offset, section.length));
    std::memcpy(at, &section, sizeof section);
  }
  header.length = bytes.size();
  std::memcpy(bytes.data(), &header, sizeof header);
  header.table_hash = table_hash(bytes.first(sizeof(Header) + header.sections * sizeof(Section)));
  std::memcpy(bytes.data(), &header, sizeof header);
}

}  // namespace sinter
