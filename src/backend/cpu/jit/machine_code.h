// Executable memory: a copy of finished code in pages of its own, written before they become executable and never
// after. Null where the system refuses; callers have another way then.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace sinter::cpu::jit {

class MachineCode {
 public:
  // write(memory): puts the code there, for that address, and says whether it could.
  static std::shared_ptr<const MachineCode> make(size_t bytes, const std::function<bool(void*)>& write);
  ~MachineCode();
  MachineCode(const MachineCode&) = delete;
  MachineCode& operator=(const MachineCode&) = delete;
  const void* entry() const { return memory_; }

 private:
  MachineCode(void* memory, size_t bytes) : memory_(memory), bytes_(bytes) {}
  void* memory_;
  size_t bytes_;
};

}  // namespace sinter::cpu::jit
