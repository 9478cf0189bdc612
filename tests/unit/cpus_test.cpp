#include "base/cpus.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

namespace sinter {
namespace {

constexpr const char* unified = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

using Files = std::map<std::string, std::string>;

// What quota_cpus makes of a tree of these files.
std::optional<unsigned> quota(const Files& files) {
  std::string root = (std::filesystem::temp_directory_path() / "sinter_cpus_XXXXXX").string();
  if (!mkdtemp(root.data())) return 999;
  for (const auto& [path, text] : files) {
    const std::filesystem::path full = root + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  const auto out = quota_cpus(root);
  std::filesystem::remove_all(root);
  return out;
}

// Of a process with these groups and mounts.
std::optional<unsigned> quota(const std::string& groups, const std::string& mounts, Files files) {
  files["/proc/self/cgroup"] = groups;
  files["/proc/self/mountinfo"] = mounts;
  return quota(files);
}

std::optional<unsigned> unified_quota(const std::string& text) {
  return quota("0::/a\n", unified, {{"/sys/fs/cgroup/a/cpu.max", text}});
}

TEST(Cpus, QuotaIsRoundedUp) {
  EXPECT_EQ(unified_quota("200000 100000\n"), 2u);
  EXPECT_EQ(unified_quota("150000 100000\n"), 2u);
  EXPECT_EQ(unified_quota("1000 100000\n"), 1u);
  EXPECT_EQ(unified_quota("9223372036854775807 1\n"), 2147483647u);
}

TEST(Cpus, NoQuotaAndNonsenseAreNoLimit) {
  for (const char* text : {"max 100000\n", "", "\n", "0 100000\n", "-1 100000\n", "200000\n", "200000 0\n",
                           "200000 -5\n", "200000 x\n", "99999999999999999999 100000\n"})
    EXPECT_EQ(unified_quota(text), std::nullopt) << text;
  EXPECT_EQ(quota({}), std::nullopt);
  EXPECT_EQ(quota({{"/proc/self/cgroup", "0::/a\n"}}), std::nullopt);
  const std::string limit = "100000 100000\n";
  for (const char* groups : {"", "\n", "0\n", "0:\n", "0::\n", "0::a\n", "::/a\n", "5:memory:/a\n", "1:cpu:/a\n"})
    EXPECT_EQ(quota(groups, unified, {{"/sys/fs/cgroup/cpu.max", limit}, {"/sys/fs/cgroup/a/cpu.max", limit}}),
              std::nullopt)
        << groups;
  for (const char* mounts : {"", "\n", "- - -\n", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2\n",
                             "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n",
                             "30 1 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw,cpuset\n"})
    EXPECT_EQ(quota("0::/\n3:cpu:/\n", mounts,
                    {{"/sys/fs/cgroup/cpu.max", limit},
                     {"/sys/fs/cgroup/cpu.cfs_quota_us", "100000"},
                     {"/sys/fs/cgroup/cpu.cfs_period_us", "100000"}}),
              std::nullopt)
        << mounts;
}

TEST(Cpus, TheLeastOfTheGroupsAroundCounts) {
  Files files = {{"/proc/self/cgroup", "0::/pods/pod 7/web\n"},
                 {"/proc/self/mountinfo", unified},
                 {"/sys/fs/cgroup/other/cpu.max", "100000 100000\n"},
                 {"/sys/fs/cgroup/pods/pod 7/web/cpu.max", "800000 100000\n"}};
  EXPECT_EQ(quota(files), 8u);
  files["/sys/fs/cgroup/pods/pod 7/cpu.max"] = "max 100000\n";
  files["/sys/fs/cgroup/pods/cpu.max"] = "400000 100000\n";
  EXPECT_EQ(quota(files), 4u);
  files["/sys/fs/cgroup/cpu.max"] = "300000 100000\n";
  EXPECT_EQ(quota(files), 3u);
  files["/sys/fs/cgroup/pods/pod 7/cpu.max"] = "200000 100000\n";
  EXPECT_EQ(quota(files), 2u);
}

TEST(Cpus, VersionOne) {
  Files files = {{"/proc/self/cgroup", "11:memory:/x\n4:cpu,cpuacct:/jobs/mine\n1:name=systemd:/jobs\n0::/\n"},
                 {"/proc/self/mountinfo",
                  "31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
                  "32 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                  "33 1 0:29 / /cgroups/cpu\\040time rw - cgroup cgroup rw,cpu,cpuacct\n"},
                 {"/cgroups/cpu time/jobs/mine/cpu.cfs_quota_us", "-1\n"},
                 {"/cgroups/cpu time/jobs/mine/cpu.cfs_period_us", "100000\n"}};
  EXPECT_EQ(quota(files), std::nullopt);
  files["/cgroups/cpu time/jobs/cpu.cfs_quota_us"] = "500000\n";
  EXPECT_EQ(quota(files), std::nullopt);  // no period
  files["/cgroups/cpu time/jobs/cpu.cfs_period_us"] = "50000\n";
  EXPECT_EQ(quota(files), 10u);
  files["/cgroups/cpu time/jobs/mine/cpu.cfs_quota_us"] = "300000\n";
  EXPECT_EQ(quota(files), 3u);
  files["/sys/fs/cgroup/unified/cpu.max"] = "200000 100000\n";
  EXPECT_EQ(quota(files), 2u);
}

// A container sees its own group, or a part of the tree, where the tree is mounted.
TEST(Cpus, ContainersSeeAPartOfTheTree) {
  const std::string mount = "30 1 0:26 /box/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
  for (const char* group : {"/box/7", "/box/7/", "/..", "/../other"})
    EXPECT_EQ(quota(std::string("0::") + group + "\n", mount,
                    {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"},
                     {"/sys/fs/cgroup/8/cpu.max", "100000 100000\n"},
                     {"/sys/fs/cgroup/box/7/cpu.max", "100000 100000\n"}}),
              2u)
        << group;
  EXPECT_EQ(quota("0::/box/7/inner\n", mount,
                  {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}, {"/sys/fs/cgroup/inner/cpu.max", "100000 100000\n"}}),
            1u);
}

// A folder of the tree that is mounted once more, and has not the process's group in it, says nothing of it.
TEST(Cpus, FoldersOfOtherGroupsAreNoLimit) {
  for (const char* group : {"/", "/box", "/box/71", "/elsewhere", "/box/7/../8", "/..a"})
    EXPECT_EQ(quota(std::string("0::") + group + "\n",
                    std::string(unified) + "31 1 0:26 /box/7 /mnt/box rw - cgroup2 cgroup rw\n",
                    {{"/sys/fs/cgroup/cpu.max", "400000 100000\n"},
                     {"/mnt/box/cpu.max", "200000 100000\n"},
                     {"/mnt/8/cpu.max", "100000 100000\n"}}),
              group == std::string("/box/7/../8") ? std::nullopt : std::optional(4u))
        << group;
}

// Mounted before the process got a view of its own: what is around all that it sees counts, what is beside does not.
TEST(Cpus, MountsFromOutsideTheView) {
  for (const auto& [from, expected] : std::map<std::string, std::optional<unsigned>>{
           {"/..", 2}, {"/../..", 2}, {"/../other", std::nullopt}, {"/../../other/7", std::nullopt}})
    for (const char* group : {"/", "/inner"})
      EXPECT_EQ(
          quota(std::string("0::") + group + "\n", "30 1 0:26 " + from + " /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
                {{"/sys/fs/cgroup/cpu.max", "200000 100000\n"}, {"/sys/fs/cgroup/inner/cpu.max", "100000 100000\n"}}),
          expected)
          << from << " " << group;
}

// Where a sandbox forbids to ask for the mask, all CPUs count. The filter is the thread's own.
TEST(Cpus, AffinityThatCannotBeAskedFor) {
  unsigned cpus = 0;
  bool forbidden = false;
  std::thread([&] {
    sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_getaffinity, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog filter = {std::size(code), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return;
    forbidden = true;
    cpus = affinity_cpus();
  }).join();
  if (!forbidden) GTEST_SKIP() << "this system lets no process filter its calls";
  EXPECT_EQ(cpus, static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN)));
}

TEST(Cpus, AffinityCounts) {
  const unsigned all = affinity_cpus();
  EXPECT_GE(all, 1u);
  EXPECT_GE(usable_cpus(), 1u);
  EXPECT_LE(usable_cpus(), all);
  unsigned one = 0, usable = 0;
  std::thread([&] {
    const int cpu = sched_getcpu();
    const size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpu) + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(static_cast<size_t>(cpu), bytes, set);
    const bool done = sched_setaffinity(0, bytes, set) == 0;
    CPU_FREE(set);
    if (!done) return;
    one = affinity_cpus();
    usable = usable_cpus();
  }).join();
  EXPECT_EQ(one, 1u);
  EXPECT_EQ(usable, 1u);
}

}  // namespace
}  // namespace sinter
