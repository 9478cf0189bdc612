#include "base/external_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/sha1.h"
#include "frontends/onnx/reader.h"
#include "onnx_writer.h"

namespace sinter {
namespace {

using Keys = std::vector<std::pair<std::string_view, std::string_view>>;

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// A directory tree of its own:  outer/secret  outer/model/{data, sub/more}
class ExternalFile : public testing::Test {
 protected:
  void SetUp() override {
    const char* base = std::getenv("TMPDIR");
    std::string pattern = std::string(base ? base : "/tmp") + "/sinter-external-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    outer = pattern;
    model = outer + "/model";
    ASSERT_EQ(::mkdir(model.c_str(), 0755), 0);
    ASSERT_EQ(::mkdir((model + "/sub").c_str(), 0755), 0);
    write(outer + "/secret", "secret!!");
    write(model + "/data", "0123456789abcdef");
    write(model + "/sub/more", "more");
  }
  void TearDown() override {
    const std::string command = "rm -rf '" + outer + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  std::string get(const Keys& keys, int64_t size, const std::string& root = {}) {
    ExternalFiles files(model, root, quiet());
    const auto data = files.read(keys, size);
    return std::string(static_cast<const char*>(data.get()), static_cast<size_t>(size));
  }
  std::string refused(const Keys& keys, int64_t size, const std::string& root = {}) {
    try {
      get(keys, size, root);
    } catch (const Error& e) {
      return e.what();
    }
    ADD_FAILURE() << "was read";
    return {};
  }
  Logger quiet() {
    return {[](void* user, LogLevel, std::string_view m) { *static_cast<std::string*>(user) += m; }, &log};
  }
  std::string outer, model, log;
};

TEST_F(ExternalFile, ReadsRanges) {
  EXPECT_EQ(get({{"location", "data"}}, 16), "0123456789abcdef");
  EXPECT_EQ(get({{"location", "data"}, {"offset", "3"}, {"length", "4"}}, 4), "3456");
  EXPECT_EQ(get({{"location", "./sub//more"}}, 4), "more");
  EXPECT_EQ(get({{"location", "data"}, {"offset", "16"}}, 0), "");
}

TEST_F(ExternalFile, RefusesRangesOutsideTheFile) {
  EXPECT_HAS(refused({{"location", "data"}}, 17), "outside the file");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "13"}}, 4), "outside the file");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "9223372036854775807"}}, 4), "outside the file");
  EXPECT_HAS(refused({{"location", "data"}, {"length", "5"}}, 4), "length is 5");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "9223372036854775808"}}, 4), "position");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "-1"}}, 4), "number");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "0x1"}}, 4), "number");
  EXPECT_HAS(refused({{"location", "data"}, {"length", ""}}, 4), "number");
}

TEST_F(ExternalFile, RefusesLocationsThatLeave) {
  EXPECT_HAS(refused({{"location", "../secret"}}, 8), "'..'");
  EXPECT_HAS(refused({{"location", "sub/../../secret"}}, 8), "'..'");
  EXPECT_HAS(refused({{"location", "sub/.."}}, 8), "'..'");
  EXPECT_HAS(refused({{"location", outer + "/secret"}}, 8), "absolute");
  EXPECT_HAS(refused({{"location", ""}}, 8), "empty");
  EXPECT_HAS(refused({{"location", "."}}, 8), "names no file");
  EXPECT_HAS(refused({{"location", std::string_view("da\0ta", 5)}}, 8), "zero byte");
  EXPECT_HAS(refused({{"location", "\xff\xfe"}}, 8), "UTF-8");
  EXPECT_HAS(refused({{"location", "\xc0\xae\xc0\xae/secret"}}, 8), "UTF-8");
  const std::string longest(5000, 'a');
  EXPECT_HAS(refused({{"location", longest}}, 8), "at most");
  EXPECT_HAS(refused({{"location", "absent"}}, 8), "cannot open");
}

TEST_F(ExternalFile, RefusesLinks) {
  ASSERT_EQ(::symlink("data", (model + "/inside").c_str()), 0);
  ASSERT_EQ(::symlink("../secret", (model + "/outside").c_str()), 0);
  ASSERT_EQ(::symlink((outer + "/secret").c_str(), (model + "/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("..", (model + "/up").c_str()), 0);
  ASSERT_EQ(::symlink("/proc/self/root", (model + "/magic").c_str()), 0);
  for (const char* name : {"inside", "outside", "absolute", "up/secret", "magic/etc/passwd"}) {
    const std::string text = refused({{"location", name}}, 8);
    EXPECT_HAS(text, "link");
    EXPECT_HAS(text, "--externalDataRoot");
  }
}

TEST_F(ExternalFile, RefusesHardLinks) {
  ASSERT_EQ(::link((outer + "/secret").c_str(), (model + "/hard").c_str()), 0);
  EXPECT_HAS(refused({{"location", "hard"}}, 8), "hard links");
  EXPECT_EQ(get({{"location", "hard"}}, 8, model), "secret!!");
}

TEST_F(ExternalFile, RefusesWhatIsNoRegularFile) {
  ASSERT_EQ(::mkfifo((model + "/fifo").c_str(), 0644), 0);
  EXPECT_HAS(refused({{"location", "fifo"}}, 8), "regular");  // and does not wait for a writer
  EXPECT_HAS(refused({{"location", "sub"}}, 8), "regular");
}

TEST_F(ExternalFile, RootAllowsLinksInside) {
  ASSERT_EQ(::mkdir((outer + "/blobs").c_str(), 0755), 0);
  write(outer + "/blobs/0a1b", "payload!");
  ASSERT_EQ(::symlink("../blobs/0a1b", (model + "/x.onnx_data").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (model + "/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("../../../../etc/passwd", (model + "/far").c_str()), 0);
  EXPECT_HAS(refused({{"location", "x.onnx_data"}}, 8), "link");
  EXPECT_EQ(get({{"location", "x.onnx_data"}}, 8, outer), "payload!");
  EXPECT_HAS(refused({{"location", "x.onnx_data"}}, 8, model), "leaves");
  EXPECT_HAS(refused({{"location", "absolute"}}, 8, outer), "leaves");
  EXPECT_HAS(refused({{"location", "far"}}, 8, outer), "leaves");
  // Without a file of its own in the model's directory, the root itself is looked at.
  EXPECT_EQ(get({{"location", "secret"}}, 8, outer), "secret!!");
}

TEST_F(ExternalFile, NeedsADirectory) {
  ExternalFiles files({}, {});
  try {
    files.read(Keys{{"location", "data"}}, 4);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_HAS(std::string(e.what()), "no directory");
  }
}

TEST_F(ExternalFile, KeysAreAWhitelist) {
  EXPECT_HAS(refused({{"location", "data"}, {"location", "data"}}, 8), "twice");
  EXPECT_HAS(refused({{"location", "data"}, {"offset", "0"}, {"offset", "0"}}, 8), "twice");
  EXPECT_HAS(refused({{"offset", "0"}}, 8), "location is missing");
  EXPECT_EQ(get({{"location", "data"}, {"__class__", "x"}, {"basepath", "/"}}, 4), "0123");
  EXPECT_HAS(log, "unknown key '__class__'");
  EXPECT_EQ(log.find("basepath"), std::string::npos);
}

TEST_F(ExternalFile, VerifiesChecksums) {
  // printf 0123456789abcdef | sha1sum
  EXPECT_EQ(get({{"location", "data"}, {"checksum", "fe5567e8d769550852182cdf69d74bb16dff8e29"}}, 4), "0123");
  EXPECT_HAS(refused({{"location", "data"}, {"checksum", "0e5567e8d769550852182cdf69d74bb16dff8e29"}}, 4), "SHA-1");
  EXPECT_HAS(refused({{"location", "data"}, {"checksum", "abc"}}, 4), "SHA-1");
}

TEST(Sha1, KnownValues) {
  const auto of = [](std::string_view text) {
    Sha1 sha1;
    sha1.add({reinterpret_cast<const std::byte*>(text.data()), text.size()});
    return sha1.finish();
  };
  EXPECT_EQ(of(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(of("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(of(std::string(1000000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST_F(ExternalFile, ThroughTheReader) {
  using namespace test;
  const auto save = [&](const Proto& tensor) {
    const Proto m = test::model(graph({{node("Add", {"x", "w"}, {"y"})},
                                       {tensor},
                                       {value_info("x", onnx_f32, {4})},
                                       {value_info("y", onnx_f32, {4})}}));
    write(model + "/m.onnx", m.bytes);
    return model + "/m.onnx";
  };
  const std::string path = save(tensor_external("w", {4}, {{"location", "data"}}));
  const auto m = onnx::read(path);
  EXPECT_EQ(std::string(m->graph.initializers.at(0).tensor.as<char>(), 16), "0123456789abcdef");
  save(tensor_external("w", {4}, {{"location", "../secret"}}));
  EXPECT_THROW(onnx::read(path), Error);
  save(tensor_external("w", {int64_t{1} << 38}, {{"location", "data"}}));
  EXPECT_THROW(onnx::read(path), Error);
  const std::string bytes = test::model(graph({{}, {tensor_external("w", {4}, {{"location", "data"}})}, {}, {}})).bytes;
  EXPECT_THROW(onnx::read(as_bytes(bytes), nullptr), Error);
  onnx::ReadOptions options;
  options.external_data_root = model;
  EXPECT_EQ(onnx::read(as_bytes(bytes), nullptr, options)->graph.initializers.at(0).tensor.count(), 4);
}

}  // namespace
}  // namespace sinter
