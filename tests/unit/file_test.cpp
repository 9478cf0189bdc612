// Writing files: whole or not at all, through links, never in the place of a device or folder.
#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "base/error.h"

namespace sinter {
namespace {

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "sinter_files_" + std::to_string(::getpid());
    ASSERT_EQ(::mkdir(folder_.c_str(), 0755), 0);
  }
  void TearDown() override {
    for (const char* name : {"a", "b", "link"}) ::unlink((folder_ + "/" + name).c_str());
    EXPECT_EQ(::rmdir(folder_.c_str()), 0) << "something was left behind";
  }
  std::string folder_;
};

TEST_F(Files, ReplacesWhole) {
  const std::string a = folder_ + "/a";
  write_file_atomically(a, "first, and long");
  write_file_atomically(a, "second");
  EXPECT_EQ(read_text_file(a, 100), "second");
  EXPECT_THROW(read_text_file(a, 3), Error);
}

TEST_F(Files, WritesThroughALink) {
  write_file_atomically(folder_ + "/a", "old");
  ASSERT_EQ(::symlink((folder_ + "/a").c_str(), (folder_ + "/link").c_str()), 0);
  write_file_atomically(folder_ + "/link", "new");
  EXPECT_EQ(read_text_file(folder_ + "/a", 100), "new");
  struct stat info {};
  ASSERT_EQ(::lstat((folder_ + "/link").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

TEST_F(Files, RefusesWhatIsNoFile) {
  ASSERT_EQ(::mkfifo((folder_ + "/b").c_str(), 0644), 0);
  for (const std::string& path : {folder_ + "/b", folder_, folder_ + "/none/x"})
    EXPECT_THROW(write_file_atomically(path, "x"), Error) << path;
}

TEST_F(Files, ThreadsWriteToOnePath) {
  const std::string a = folder_ + "/a";
  std::vector<std::thread> threads;
  for (char c = 'a'; c < 'e'; ++c)
    threads.emplace_back([&, c] {
      for (int i = 0; i < 20; ++i) write_file_atomically(a, std::string(5000, c));
    });
  for (std::thread& t : threads) t.join();
  const std::string text = read_text_file(a, 10000);
  EXPECT_EQ(text, std::string(5000, text[0]));
}

}  // namespace
}  // namespace sinter
