// Errors of the build side and status of the run side.
//
// Error is the one exception type: a code for programs, a message for people (what, where, why, what to do), and the
// context it passed through on its way up, outermost first. Status is the same information as a value; a good Status
// costs nothing. Result<T> is a T or a Status. Answer is an expected yes or no with its reason (kernel rows, passes).
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sinter {

enum class Code : uint8_t {
  ok,
  invalid_argument,  // the caller's mistake
  model_invalid,     // the model breaks a rule of its format
  unsupported,       // valid, but nothing here runs it
  io,                // a file could not be read or written
  limit,             // a size, count or depth beyond what is allowed
  out_of_memory,
  cancelled,
  engine_invalid,       // the bytes are not an engine that may be run
  engine_incompatible,  // a sound engine for another machine or version
  fault,                // data met at run time broke an operator's rule (an index out of range)
  mismatch,             // a comparison failed
  busy,
  internal,
};

const char* code_name(Code code);

// Where an error belongs in the user's model; empty parts are unknown.
struct Origin {
  std::string node, tensor, hint;
};

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) { compose(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const Origin& origin() const { return origin_; }
  const char* what() const noexcept override { return what_.c_str(); }
  // Adds what was being done when the error passed by ("importing node 'conv1' (Conv, opset 13)").
  Error& add_context(std::string_view context);
  Error& at_node(std::string node);
  Error& at_tensor(std::string tensor);
  Error& with_hint(std::string hint);

 private:
  void compose();
  Code code_;
  std::string message_, context_, what_;
  Origin origin_;
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  explicit Status(const Error& error) : code_(error.code()), message_(error.what()) {}
  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  // Turns a bad status into the exception.
  void check() const {
    if (!ok()) throw Error(code_, message_);
  }

 private:
  Code code_ = Code::ok;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}
  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    status_.check();
    return *value_;
  }
  T&& value() && {
    status_.check();
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
  Status status_;
};

class [[nodiscard]] Answer {
 public:
  static Answer yes() { return Answer(); }
  static Answer no(std::string reason) {
    Answer answer;
    answer.reason_ = std::move(reason);
    answer.yes_ = false;
    return answer;
  }
  explicit operator bool() const { return yes_; }
  const std::string& reason() const { return reason_; }

 private:
  bool yes_ = true;
  std::string reason_;
};

// Collects problems so that all of them are reported together.
class Problems {
 public:
  void add(const Error& error) { errors_.push_back(error); }
  bool empty() const { return errors_.empty(); }
  size_t size() const { return errors_.size(); }
  const std::vector<Error>& errors() const { return errors_; }
  // Throws one error that lists all (a single one unchanged); does nothing when there are none.
  void check(std::string_view headline) const;

 private:
  std::vector<Error> errors_;
};

}  // namespace sinter
