// Outputs over inputs: which may lie there, that a run then writes what is new and no more, and what is refused.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "engines.h"
#include "ops/indexing.h"
#include "wiring/wiring.h"

namespace sinter {
namespace {

using namespace testing;

constexpr int64_t heads = 2, room = 6;

// present = past with rows from a place on, with `extent` tokens if it is wanted; sums of its tokens; and, if wanted,
// something that reads the past after that.
struct Form {
  int64_t size = 5;
  bool grows = false, reads_again = false;
};

Module decoder(const Form& form) {
  Module module;
  GraphBuilder b(module, *module.main);
  const auto cache = [&](const Dim& tokens) { return Type::tensor(DType::f32, Shape{1, heads, tokens, form.size}); };
  const ValueId past = b.input(cache(form.grows ? named(module, "R") : Dim(room)), "past");
  const ValueId rows = b.input(cache(named(module, "S")), "rows");
  const ValueId at = b.input(Type::tensor(DType::i64, Shape{1}), "at");
  Ids operands = {past, rows, at};
  if (form.grows) {
    const ValueId all = b.input(Type::tensor(DType::f32, Shape{named(module, "T")}), "all");
    operands.push_back(wiring::extent(b, all, 0));
  }
  const ValueId present = b.op("PutRows", PutRowsAttrs{.axis = 2}, operands);
  (*module.main)[present].name = "present";
  const ValueId sum = wiring::reduce(b, "Sum", present, {2}, false);
  (*module.main)[sum].name = "sum";
  module.main->outputs = {present, sum};
  if (!form.reads_again) return module;
  const ValueId more = wiring::reduce(b, "Max", wiring::add(b, past, wiring::unsqueeze(b, sum, {2})), {3}, false);
  (*module.main)[more].name = "more";
  module.main->outputs.push_back(more);
  return module;
}

void set(Context& context, size_t input, const Tensor& t) {
  context.set_input(input, t.dims(), t.data(), static_cast<size_t>(t.bytes()));
}

void give(Context& context, size_t output, Tensor& t) {
  context.set_output(output, t.mutable_data(), static_cast<size_t>(t.bytes()));
}

Tensor place(int64_t at) {
  Tensor t(DType::i64, {1});
  t.set_integer(0, at);
  return t;
}

void expect_error(Context& context, std::string_view message, std::string_view hint) {
  try {
    context.run();
    ADD_FAILURE() << "no error for '" << message << "'";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::invalid_argument);
    EXPECT_NE(std::string_view(e.what()).find(message), std::string_view::npos) << e.what();
    EXPECT_NE(e.origin().hint.find(hint), std::string::npos) << e.origin().hint;
  }
}

TEST(SharedBuffers, TokensAreDecodedInOneCache) {
  for (const int threads : {1, 3}) {
    const auto engine = engine_of(decoder({}), threads);
    ASSERT_EQ(engine->input_under(0), std::optional<size_t>(0));
    EXPECT_EQ(engine->input_under(1), std::nullopt);
    Context apart(engine, threads), shared(engine, threads);
    Tensor cache = random_tensor({1, heads, room, 5}, 3), past = cache.clone();
    for (int64_t token = 0; token < room; token += token == 0 ? 2 : 1) {  // a prompt of two, then one by one
      const Tensor rows = random_tensor({1, heads, token == 0 ? 2 : 1, 5}, static_cast<uint64_t>(10 + token));
      const Tensor at = place(token);
      for (Context* c : {&apart, &shared}) {
        set(*c, 0, c == &shared ? cache : past);
        set(*c, 1, rows);
        set(*c, 2, at);
      }
      give(shared, 0, cache);
      apart.run();
      shared.run();
      EXPECT_EQ(shared.data(0), cache.data());
      EXPECT_TRUE(apart.output(0).tensor.identical(cache));
      EXPECT_TRUE(apart.output(1).tensor.identical(shared.output(1).tensor));
      past = apart.output(0).tensor;
    }
  }
}

// Rows of whole pages, and pages of old rows that must not be written.
TEST(SharedBuffers, OldRowsAreNotWritten) {
  const int64_t page = sysconf(_SC_PAGESIZE), size = page / 4;
  const auto bytes = static_cast<size_t>(heads * room * page);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const Tensor old = random_tensor({1, heads, room, size}, 3), rows = random_tensor({1, heads, 1, size}, 4);
  std::memcpy(memory, old.data(), bytes);
  Context context(engine_of(decoder({.size = size}), 2), 2);
  const Tensor at = place(3);
  context.set_input(0, old.dims(), memory, bytes);
  context.set_output(0, memory, bytes);
  set(context, 1, rows);
  set(context, 2, at);
  for (int64_t k = 0; k < heads * room; ++k)
    if (k % room != 3) {
      ASSERT_EQ(mprotect(static_cast<std::byte*>(memory) + k * page, page, PROT_READ), 0);
    }
  context.run();
  for (int64_t k = 0; k < heads * room; ++k)
    EXPECT_EQ(std::memcmp(static_cast<std::byte*>(memory) + k * page,
                          k % room != 3 ? old.as<std::byte>() + k * page : rows.as<std::byte>() + k / room * page,
                          static_cast<size_t>(page)),
              0)
        << k;
  munmap(memory, bytes);
}

TEST(SharedBuffers, WhatMayNotBeSharedIsAnError) {
  Context context(engine_of(decoder({})));
  Tensor memory(DType::f32, {200});
  const Tensor before = random_tensor({200}, 7), at = place(1);
  std::memcpy(memory.mutable_data(), before.data(), static_cast<size_t>(before.bytes()));
  float* const all = memory.as_mutable<float>();
  const Dims cache = {1, heads, room, 5}, row = {1, heads, 1, 5};
  const auto inputs = [&](int64_t past, int64_t rows) {
    context.set_input(0, cache, all + past, 240);
    context.set_input(1, row, all + rows, 40);
    set(context, 2, at);
  };
  inputs(0, 100);
  for (const int64_t begin : {1, -1, 59}) {
    if (begin < 0) inputs(1, 100);
    context.set_output(0, all + (begin < 0 ? 0 : begin), 240);
    expect_error(context, "output 'present' shares memory with input 'past', and not all of it", "as many bytes");
  }
  inputs(0, 100);
  context.set_output(0, all + 60, 240);  // the rows lie in it
  expect_error(context, "output 'present' shares memory with input 'rows'", "or that of input 'past'");
  inputs(0, 20);  // and so do these, which the cache hides
  context.set_output(0, all, 240);
  expect_error(context, "output 'present' shares memory with input 'rows'", "or that of input 'past'");
  inputs(0, 100);
  context.set_output(0, nullptr, 0);
  context.set_output(1, all + 101, 40);
  expect_error(context, "output 'sum' shares memory with input 'rows', which may be read after", "a buffer of its own");
  EXPECT_TRUE(memory.identical(before));
  context.set_output(0, all, 240);
  context.set_output(1, all + 50, 40);
  expect_error(context, "output 'sum' shares memory with", "a buffer of its own");
  // Buffers that are larger than what is written may overlap beyond that; an allocator's count as well.
  context.set_output(0, all, 800);
  context.set_output(1, all + 60, 800);
  context.run();
  context.set_output(0, nullptr, 0);
  context.set_allocator({[](void* user, size_t output, DType, const Dims&, int64_t) -> void* {
                           return static_cast<float*>(user) + (output == 0 ? 2 : 150);
                         },
                         all});
  expect_error(context, "output 'present' shares memory with input 'past', and not all of it", "as many bytes");
}

// What a context gave as an output is its own until the next run, which would write over it.
TEST(SharedBuffers, OutputsOfTheLastRunAreInputsWhereTheyMay) {
  Context context(engine_of(decoder({})));
  const Tensor past = random_tensor({1, heads, room, 5}), rows = random_tensor({1, heads, 1, 5}, 2), at = place(0);
  set(context, 0, past);
  set(context, 1, rows);
  set(context, 2, at);
  context.run();
  const Tensor first = context.output(0).tensor, next = place(1);
  context.set_input(0, past.dims(), context.data(0), static_cast<size_t>(past.bytes()));
  set(context, 2, next);
  context.run();
  for (int64_t i = 0; i < first.count(); ++i)
    EXPECT_EQ(context.output(0).tensor.get_real(i),
              i / 5 % room == 1 ? rows.get_real(i / 30 * 5 + i % 5) : first.get_real(i));
  context.set_input(1, rows.dims(), context.data(1), static_cast<size_t>(rows.bytes()));
  expect_error(context, "output 'sum' shares memory with input 'rows'", "a buffer of its own");
}

TEST(SharedBuffers, ReadersAfterwardsKeepAnInput) {
  const auto engine = engine_of(decoder({.reads_again = true}));
  EXPECT_EQ(engine->input_under(0), std::nullopt);
  Context context(engine);
  Tensor past = random_tensor({1, heads, room, 5});
  const Tensor rows = random_tensor({1, heads, 1, 5}, 2), at = place(0);
  set(context, 0, past);
  set(context, 1, rows);
  set(context, 2, at);
  give(context, 0, past);
  expect_error(context, "shares memory with input 'past', which may be read after", "a buffer of its own");
}

TEST(SharedBuffers, CachesThatGrowNeedRoom) {
  const auto engine = engine_of(decoder({.grows = true}));
  ASSERT_EQ(engine->input_under(0), std::optional<size_t>(0));
  Context context(engine);
  Tensor memory = random_tensor({1, heads, 8, 5}, 3);
  const Tensor rows = random_tensor({1, heads, 1, 5}, 2), at = place(6), all = random_tensor({7}, 1);
  const Tensor before = memory.clone();
  set(context, 0, memory);
  set(context, 1, rows);
  set(context, 2, at);
  give(context, 0, memory);
  set(context, 3, all);  // one fewer than there is room for
  expect_error(context, "and not all of it: the output has 280 bytes, the input 320", "as many bytes");
  const Tensor eight = random_tensor({8}, 1);
  set(context, 3, eight);
  context.run();
  for (int64_t i = 0; i < memory.count(); ++i)
    EXPECT_EQ(memory.get_real(i), i / 5 % 8 == 6 ? rows.get_real(i / 40 * 5 + i % 5) : before.get_real(i));
}

// Nothing of it is stored, so plans can claim nothing: what they say of steps decides, and the verifier knows no inputs
// that steps write.
TEST(SharedBuffers, ChangedPlansShareNothingThatTheyMayNot) {
  Target target = build_target(decoder({}));
  const uint32_t past = target.main.parameters[0], present = target.main.results[0];
  ASSERT_EQ(target.main.steps.size(), 2u);
  ASSERT_EQ(target.main.steps[1].operands[0], present);
  Target late = target;
  late.main.steps[1].operands[0] = past;
  verify_target(late, this_machine(1));
  EXPECT_EQ(Engine(make_executable(late, this_machine(1))).input_under(0), std::nullopt);
  Target early = late;
  std::swap(early.main.steps[0], early.main.steps[1]);
  verify_target(early, this_machine(1));
  EXPECT_EQ(Engine(make_executable(early, this_machine(1))).input_under(0), std::optional<size_t>(0));
  // The sums of a cache that only the plan has, made over the caller's.
  Module inner = decoder({});
  inner.main->outputs = {inner.main->outputs[1]};
  Target over = build_target(std::move(inner));
  Slot& made = over.main.slots[over.main.steps[0].results[0]];
  ASSERT_EQ(made.kind, SlotKind::arena);
  made.kind = SlotKind::view;
  made.of = over.main.parameters[0];
  made.above.clear();
  try {
    verify_target(over, this_machine(1));
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_NE(e.message().find("may not make its result over slot"), std::string::npos) << e.what();
  }
}

// A cache that is its own rows is read in other places than it is written.
TEST(SharedBuffers, RowsAreNotTheCache) {
  Module module;
  GraphBuilder b(module, *module.main);
  const ValueId x = b.input(Type::tensor(DType::f32, Shape{4, 3}), "x");
  const ValueId at = b.input(Type::tensor(DType::i64, Shape{}), "at");
  module.main->outputs = {b.op("PutRows", PutRowsAttrs{.circular = true}, {x, x, at})};
  EXPECT_EQ(engine_of(std::move(module))->input_under(0), std::nullopt);
}

// Inside a plan, what scatters write lies over what they are given.
TEST(SharedBuffers, ScattersInsideAPlanAreInPlace) {
  for (const char* name : {"PutRows", "ScatterElements", "ScatterND"}) {
    Module module;
    GraphBuilder b(module, *module.main);
    const ValueId x = b.input(Type::tensor(DType::f32, Shape{40, 8}), "x");
    const ValueId u = b.input(Type::tensor(DType::f32, Shape{1, 8}), "u");
    const bool elements = std::string_view(name) == "ScatterElements";
    const ValueId at = b.input(Type::tensor(DType::i64, elements                              ? Shape{1, 8}
                                                        : std::string_view(name) == "PutRows" ? Shape{}
                                                                                              : Shape{1, 1}),
                               "at");
    const ValueId y = std::string_view(name) == "PutRows" ? b.op(name, PutRowsAttrs{}, {wiring::add(b, x, x), u, at})
                                                          : b.op(name, {wiring::add(b, x, x), at, u});
    module.main->outputs = {wiring::reduce(b, "Sum", y, {0}, false)};
    const Target target = build_target(std::move(module));
    EXPECT_TRUE(std::any_of(target.main.slots.begin(), target.main.slots.end(), [&](const Slot& s) {
      return s.kind == SlotKind::view && target.main.slots[s.of].kind == SlotKind::arena;
    })) << name;
    verify_target(target, this_machine(1));
  }
}

}  // namespace
}  // namespace sinter
