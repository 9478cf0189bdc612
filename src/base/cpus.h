// How many CPUs this process may use: affinity and the quotas of its control groups.
#pragma once

#include <optional>
#include <string>

namespace sinter {

// At least 1; a quota of one and a half CPUs counts as two.
unsigned usable_cpus();

// CPUs in the calling thread's affinity mask, or all that are there where the system does not tell; at least 1.
unsigned affinity_cpus();

// The least CPU quota of the process's control groups and the groups around them, rounded up; none without a quota.
// Reads version 2 (cpu.max) and version 1 (cpu.cfs_quota_us, cpu.cfs_period_us), each as /proc/self/cgroup and
// /proc/self/mountinfo say where it is. `root` comes before every path, for tests; what cannot be read or understood
// there is no limit.
std::optional<unsigned> quota_cpus(const std::string& root = "");

}  // namespace sinter
