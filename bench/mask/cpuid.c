/* Hides instruction sets from a process: CPUID is made to fault (Linux can, on CPUs that can), and a handler of the
 * fault answers as a machine without them would. The setting is a thread's and its children inherit it, so it has to
 * be made before the libraries that are to be fooled load and start threads. XGETBV does not fault: it still says that
 * wider registers are saved, which means nothing where CPUID knows no instructions on them. bench/mask.py loads this.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { may_cpuid = 0x1012, sets_hidden = 4 };

/* By what is hidden, newest first: AMX; AVX-512 BF16; AVX-512 and AVX10; AVX, FMA and F16C. Bits of EAX, EBX, ECX, EDX.
 */
static const struct {
  uint32_t leaf, part, bits[4];
} hidden[sets_hidden][5] = {
    {{7, 0, {0, 0, 0, 1u << 22 | 1u << 24 | 1u << 25}},
     {7, 1, {1u << 21, 0, 0, 1u << 8}},
     {0xd, 0, {1u << 17 | 1u << 18, 0, 0, 0}},
     {0x1d, UINT32_MAX, {~0u, ~0u, ~0u, ~0u}},
     {0x1e, UINT32_MAX, {~0u, ~0u, ~0u, ~0u}}},
    {{7, 1, {1u << 5, 0, 0, 0}}},
    {{7,
      0,
      {0, 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31,
       1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14, 1u << 2 | 1u << 3 | 1u << 8 | 1u << 23}},
     {7, 1, {0, 0, 0, 1u << 19}},
     {0xd, 0, {1u << 5 | 1u << 6 | 1u << 7, 0, 0, 0}},
     {0x24, UINT32_MAX, {~0u, ~0u, ~0u, ~0u}}},
    {{1, UINT32_MAX, {0, 0, 1u << 12 | 1u << 28 | 1u << 29, 0}},
     {7, 0, {0, 1u << 5, 1u << 9 | 1u << 10, 0}},
     {7, 1, {1u << 4 | 1u << 23, 0, 0, 1u << 4 | 1u << 5 | 1u << 10}},
     {0xd, 0, {1u << 2, 0, 0, 0}}}};

static struct sigaction before;
static int sets;            /* how many of the above are hidden */
static atomic_long answers; /* CPUIDs answered */

static void answer(greg_t* registers) {
  uint32_t words[4], leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX];
  syscall(SYS_arch_prctl, may_cpuid, 1);
  __cpuid_count(leaf, part, words[0], words[1], words[2], words[3]);
  syscall(SYS_arch_prctl, may_cpuid, 0);
  for (int s = 0; s < sets; ++s)
    for (size_t k = 0; k < sizeof hidden[s] / sizeof hidden[s][0]; ++k)
      if (hidden[s][k].leaf == leaf && (hidden[s][k].part == part || hidden[s][k].part == UINT32_MAX))
        for (int w = 0; w < 4; ++w) words[w] &= ~hidden[s][k].bits[w];
  registers[REG_RAX] = words[0], registers[REG_RBX] = words[1];
  registers[REG_RCX] = words[2], registers[REG_RDX] = words[3];
  registers[REG_RIP] += 2;
  atomic_fetch_add(&answers, 1);
}

static void handle(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  /* The fault of an instruction, not of an address: the instruction can be read. */
  if (info->si_code == SI_KERNEL && memcmp((const void*)registers[REG_RIP], "\x0f\xa2", 2) == 0)
    answer(registers);
  else if (before.sa_flags & SA_SIGINFO)
    before.sa_sigaction(signal, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler(signal);
  else
    sigaction(SIGSEGV, &before, NULL); /* it faults again, and ends the process */
  errno = saved;
}

/* 0, or the error number of a kernel that cannot do it. `count` of the sets above are hidden. */
int mask_hide(int count) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sets = count < 0 ? 0 : count > sets_hidden ? sets_hidden : count;
  if (sigaction(SIGSEGV, &action, &before) != 0) return errno;
  if (syscall(SYS_arch_prctl, may_cpuid, 0) == 0) return 0;
  const int error = errno;
  sigaction(SIGSEGV, &before, NULL);
  return error;
}

long mask_answers(void) { return atomic_load(&answers); }

/* What CPUID says here: EAX, EBX, ECX, EDX. */
void mask_ask(uint32_t leaf, uint32_t part, uint32_t* words) {
  __cpuid_count(leaf, part, words[0], words[1], words[2], words[3]);
}
