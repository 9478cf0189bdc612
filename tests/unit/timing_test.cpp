// The timing cache: what was measured is kept, a complete cache makes builds repeat, a damaged one is left alone.
#include <unistd.h>

#include "base/file.h"
#include "builder/choose.h"
#include "builder/timing.h"
#include "engines.h"
#include "ops/contraction.h"

namespace sinter {
namespace {

using namespace testing;

// A depthwise convolution: the depthwise row takes it, and the general one too. So small that estimates are near each
// other: rows that are far behind are not measured.
Module depthwise() {
  return module_with({Type::tensor(DType::f32, Shape{1, 16, 4, 4})}, [](GraphBuilder& b, const Ids& in) {
    ConvAttrs attrs;
    attrs.group = 16;
    attrs.pads = {1, 1, 1, 1};
    return Ids{b.op("Conv", attrs, {in[0], b.constant(random_tensor({16, 1, 3, 3}))})};
  });
}

struct TemporaryFile {
  std::string path = ::testing::TempDir() + "sinter_timing_" + std::to_string(::getpid());
  TemporaryFile() { ::unlink(path.c_str()); }
  ~TemporaryFile() { ::unlink(path.c_str()); }
};

std::vector<std::byte> build_with(const std::string& cache, std::vector<std::string>* messages = nullptr) {
  BuildOptions options;
  options.threads = 1;
  options.timing_cache = cache;
  options.logger.level = LogLevel::verbose;
  options.logger.user = messages;
  options.logger.sink = [](void* user, LogLevel, std::string_view message) {
    if (user) static_cast<std::vector<std::string>*>(user)->emplace_back(message);
  };
  const Built built = build(depthwise(), options);
  const Target* target = &built.target;
  return save_engine(std::span(&target, 1));
}

bool said(const std::vector<std::string>& messages, std::string_view part) {
  return std::any_of(messages.begin(), messages.end(),
                     [&](const std::string& m) { return m.find(part) != std::string::npos; });
}

TEST(TimingCache, MeasuresOnceAndRepeats) {
  TemporaryFile file;
  std::vector<std::string> first, second;
  const auto bytes = build_with(file.path, &first);
  EXPECT_FALSE(said(first, "0 kernels measured"));
  const std::string text = read_text_file(file.path, 1 << 20);
  EXPECT_NE(text.find("Conv{"), std::string::npos);
  EXPECT_NE(text.find("cpu/depthwise_f32"), std::string::npos);
  EXPECT_EQ(build_with(file.path, &second), bytes);
  EXPECT_TRUE(said(second, "0 kernels measured"));
  EXPECT_EQ(read_text_file(file.path, 1 << 20), text);
}

TEST(TimingCache, DecidesByWhatItHolds) {
  TemporaryFile file;
  const auto chosen_by = [&](const std::string& cache) {
    BuildOptions options;
    options.threads = 1;
    options.timing_cache = cache;
    std::string kernels;
    for (const KernelDecision& d : build(depthwise(), options).report.kernels) kernels += d.kernel + " ";
    return kernels;
  };
  EXPECT_NE(chosen_by(file.path).find("cpu/depthwise_f32"), std::string::npos);
  // The same file with times that make the other row win.
  std::string text = read_text_file(file.path, 1 << 20), changed;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    std::string line = text.substr(at, end - at);
    if (const size_t bar = line.rfind(" | "); bar != std::string::npos)
      line = line.substr(0, bar) + (line.find("| cpu/conv_f32") != std::string::npos ? " | 1" : " | 1000000");
    changed += line + "\n";
    at = end + 1;
  }
  write_file_atomically(file.path, changed);
  const std::string kernels = chosen_by(file.path);
  EXPECT_NE(kernels.find("cpu/conv_f32"), std::string::npos) << kernels;
  EXPECT_EQ(kernels.find("cpu/depthwise_f32"), std::string::npos) << kernels;
}

TEST(TimingCache, DamageIsSaidAndBuildGoesOn) {
  TemporaryFile file;
  for (const std::string& text : {std::string("garbage"), std::string("\0\xff|", 3)}) {
    write_file_atomically(file.path, text);
    std::vector<std::string> messages;
    build_with(file.path, &messages);
    EXPECT_TRUE(said(messages, "no timing cache"));
  }
  std::string good = read_text_file(file.path, 1 << 20);
  write_file_atomically(file.path, good + "a line without a number\n");
  std::vector<std::string> messages;
  build_with(file.path, &messages);
  EXPECT_TRUE(said(messages, "damaged"));
}

}  // namespace
}  // namespace sinter
