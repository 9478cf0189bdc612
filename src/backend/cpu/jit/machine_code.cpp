#include "backend/cpu/jit/machine_code.h"

#include <sys/mman.h>

namespace sinter::cpu::jit {

std::shared_ptr<const MachineCode> MachineCode::make(size_t bytes, const std::function<bool(void*)>& write) {
  if (bytes == 0) return nullptr;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  std::shared_ptr<const MachineCode> code(new MachineCode(memory, bytes));
  if (!write(memory) || mprotect(memory, bytes, PROT_READ | PROT_EXEC) != 0) return nullptr;
  return code;
}

MachineCode::~MachineCode() { munmap(memory_, bytes_); }

}  // namespace sinter::cpu::jit
