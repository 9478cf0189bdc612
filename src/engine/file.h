// The engine file: a header, a table of hashed sections, and the sections.
//
// Integers are little-endian. Load order: length, hash of header and table, table (sorted, inside the file, no
// overlap), hash of every section, and only then is a byte interpreted. Hashes find damage, not malice: what the plan
// says is verified as if an attacker had written it (backend/verify.h). Weights stay in the mapping.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/execute.h"
#include "base/file.h"

namespace sinter {

struct LoadOptions {
  int threads = 0;  // 0: all usable CPUs
  bool map = true;  // weights stay in the mapped file; false: they are read into memory
};

// Several targets may be saved into one file; the first whose needs this machine satisfies is used. Equal weights are
// stored once. Writes beside the path and renames.
void save_engine(std::span<const Target* const> targets, const std::string& path);
std::vector<std::byte> save_engine(std::span<const Target* const> targets);

// Throws Error(Code::engine_invalid) for bytes that are no sound engine, Error(Code::engine_incompatible) with both
// values named when no target runs here.
std::shared_ptr<const Executable> load_engine(const std::string& path, const LoadOptions& options = {});
std::shared_ptr<const Executable> load_engine(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                              const LoadOptions& options = {});

// Whether the bytes start as an engine does.
bool is_engine(std::span<const std::byte> bytes);

// For tests of the verifier: recomputes every hash of a (changed) engine file in place.
void rehash_engine(std::span<std::byte> bytes);

}  // namespace sinter
