/* Sinter plugins: operators of your own, in C. docs/plugins.md explains, examples/plugin/ is a whole one.
 *
 * A plugin is a table of operators; for each a function that says what an operator's outputs are (`infer`) and one that
 * computes them (`compute`). A shared library exports the table through sinter_plugin_entry(), which
 * sinter_load_plugins() calls; a program may give its own table to sinter_register_plugin(). A library needs this
 * header and nothing else: all it may call comes in the sinter_call.
 *
 * What holds: strings and tables of a plugin are copied when it is registered. Functions (and what `user` points to)
 * are called until the process ends; plugins are never unloaded. Both functions may be called by several threads at
 * once and must depend on nothing but what they are given: equal calls are merged, calls on constants are computed
 * while an engine is built. `infer` runs when models are imported and whenever an engine is loaded, so attribute values
 * may come from a file that nobody trusts: test them there. Everything reached through a sinter_call is valid until the
 * function returns. A function returns 0 or what c->fail() returned; once a function of the call has failed the whole
 * call fails, so results need not be tested one by one.
 */
#ifndef SINTER_PLUGIN_H
#define SINTER_PLUGIN_H

#include <sinter/sinter.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SINTER_PLUGIN_ABI 1 /* rises when a struct of this header changes */

#if defined(__GNUC__)
#define SINTER_LIKE_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define SINTER_LIKE_PRINTF
#endif

/* As ONNX has them: INT, FLOAT, STRING and lists of them. */
typedef enum sinter_attribute_kind {
  SINTER_INTEGER,
  SINTER_REAL,
  SINTER_TEXT,
  SINTER_INTEGERS,
  SINTER_REALS,
  SINTER_TEXTS
} sinter_attribute_kind;

typedef struct sinter_attribute {
  const char* name; /* letters, digits, '_' and '.' */
  int kind;         /* sinter_attribute_kind */
  /* What it is where the model does not say: "1", "0.5", any text, "[1, 2]", "[\"a\", \"b\"]". NULL: it must say. */
  const char* initial;
} sinter_attribute;

typedef struct sinter_tensor {
  int present; /* 0: an optional input that the model leaves out; all else is 0 then */
  sinter_dtype dtype;
  int rank;            /* -1: unknown (in infer; an output before c->make) */
  const int64_t* dims; /* -1: unknown or varying (in infer; an output before c->make) */
  /* Row-major, aligned as its elements; only compute has it. NULL: strings, or an output before c->make. */
  void* data;
  int64_t count; /* elements */
} sinter_tensor;

/* An extent: a number or an expression over extents of inputs. */
typedef const struct sinter_extent* sinter_dim;

typedef struct sinter_call sinter_call;
struct sinter_call {
  size_t size; /* of this struct in the library that calls */
  void* user;  /* sinter_plugin_op.user */
  size_t input_count, output_count;
  const sinter_tensor* inputs;
  const sinter_tensor* outputs;

  /* Reports an error, as printf does, and returns what the function should return. */
  int (*fail)(sinter_call* c, const char* format, ...) SINTER_LIKE_PRINTF;

  /* Attributes, by name and as the kind that the table says. `count` and `bytes` may be NULL. */
  int64_t (*integer)(sinter_call* c, const char* name);
  double (*real)(sinter_call* c, const char* name);
  const char* (*text)(sinter_call* c, const char* name, size_t* bytes); /* zero-terminated */
  const int64_t* (*integers)(sinter_call* c, const char* name, size_t* count);
  const double* (*reals)(sinter_call* c, const char* name, size_t* count);
  const char* const* (*texts)(sinter_call* c, const char* name, size_t* count);

  /* ---- infer only ---- */

  /* The type of an output; dtype is a sinter_dtype. rank -1: unknown until it runs. */
  void (*set_output)(sinter_call* c, size_t output, int dtype, const sinter_dim* dims, int rank);
  /* The same with the extents of an input. */
  void (*set_like)(sinter_call* c, size_t output, int dtype, size_t input);
  /* Extent of an input; axes below 0 count from the end. Where the input's rank is unknown, outputs of such extents
   * are of unknown rank, and infer is called again when the network runs. */
  sinter_dim (*extent)(sinter_call* c, size_t input, int axis);
  sinter_dim (*number)(sinter_call* c, int64_t value);
  sinter_dim (*add)(sinter_call* c, sinter_dim a, sinter_dim b);
  sinter_dim (*sub)(sinter_call* c, sinter_dim a, sinter_dim b);
  sinter_dim (*mul)(sinter_call* c, sinter_dim a, sinter_dim b);
  sinter_dim (*div)(sinter_call* c, sinter_dim a, sinter_dim b);    /* rounded down */
  sinter_dim (*div_up)(sinter_call* c, sinter_dim a, sinter_dim b); /* rounded up */
  sinter_dim (*min)(sinter_call* c, sinter_dim a, sinter_dim b);
  sinter_dim (*max)(sinter_call* c, sinter_dim a, sinter_dim b);
  /* An extent that compute finds out, at least `low` and at most `high` (NULL: no bound). It must be extent `axis` of
   * `output`, and may be part of others. */
  sinter_dim (*found)(sinter_call* c, size_t output, int axis, int64_t low, sinter_dim high);
  /* An input has this rank, or one from `low` to `high`; one of unknown rank is judged when it runs. */
  void (*require_rank)(sinter_call* c, size_t input, int low, int high);
  /* Extents that must be equal: an error now where they are known to differ, else when shapes are known. */
  void (*require_equal)(sinter_call* c, sinter_dim a, sinter_dim b, const char* what);

  /* ---- compute only ---- */

  /* Of an operator that splits: which part of how many this call makes. All others make part 0 of 1. */
  int64_t part, part_count;
  /* Gives an output its extents, where they are found out, and its memory; afterwards outputs[output] has both. All
   * other outputs have memory from the start, also those that nobody reads. NULL for extents that infer excludes. */
  void* (*make)(sinter_call* c, size_t output, const int64_t* dims, int rank);
  /* Elements of tensors of strings, counted over all axes. */
  const char* (*string)(sinter_call* c, size_t input, int64_t element, size_t* bytes); /* zero-terminated */
  void (*set_string)(sinter_call* c, size_t output, int64_t element, const char* text, size_t bytes);
};

typedef struct sinter_plugin_op {
  const char* domain; /* of ONNX nodes, "com.example"; "" for operators of the default domain that ONNX does not have */
  const char* name;
  int since_version; /* first version of the domain's operator set that it is for; 1 where there are no others */
  /* Numbers of inputs and outputs; -1: any number. Inputs below min_inputs are always present. */
  int min_inputs, max_inputs, min_outputs, max_outputs;
  const sinter_attribute* attributes;
  size_t attribute_count;
  int (*infer)(sinter_call* c);
  int (*compute)(sinter_call* c);
  void* user;
  /* 1: compute is called once for each part of the work, by several threads at once, and writes the elements of that
   * part, which are the same however many parts there are. Whatever has to be made at once is one part. */
  int splits;
} sinter_plugin_op;

typedef struct sinter_plugin {
  int abi; /* SINTER_PLUGIN_ABI */
  const char* name;
  const char* version; /* engines run with the version that they were built with, and no other */
  const sinter_plugin_op* ops;
  size_t op_count;
} sinter_plugin;

/* What a plugin library exports; called once for each load. */
#define SINTER_PLUGIN_ENTRY "sinter_plugin_entry"
SINTER_API const sinter_plugin* sinter_plugin_entry(void);

/* Registers a table of this process. All of its operators or, after an error, none; again the same table: nothing. An
 * operator that another plugin has is refused, as is one that ONNX's default domain has. */
SINTER_API sinter_code sinter_register_plugin(const sinter_plugin* plugin);

#ifdef __cplusplus
}
#endif
#endif
