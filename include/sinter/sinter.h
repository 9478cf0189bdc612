/* Sinter: compiles trained networks (ONNX) into engines and runs them. Stable C interface.
 *
 * Every function returns a sinter_code; SINTER_OK is 0. After any other code the calling thread can read what happened:
 * sinter_error_message() says what, where, why and what to do; sinter_error_node(), _tensor() and _hint() give the
 * parts. Objects are opaque and reference-counted inside: they may be destroyed in any order, a context keeps its
 * engine alive. An engine may be used by any number of threads; a context by one at a time (a second caller gets
 * SINTER_BUSY). Option structs start with their size: set it with the SINTER_..._INIT macros, so that later versions
 * can add fields. Extents are int64_t, sizes of buffers are bytes. Nothing here throws, aborts or writes to stdout.
 */
#ifndef SINTER_SINTER_H
#define SINTER_SINTER_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SINTER_API __attribute__((visibility("default")))
#else
#define SINTER_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sinter_code {
  SINTER_OK = 0,
  SINTER_INVALID_ARGUMENT = 1, /* the caller's mistake: a shape, a buffer size, a null pointer */
  SINTER_MODEL_INVALID = 2,    /* the model breaks a rule of its format */
  SINTER_UNSUPPORTED = 3,      /* a valid model that nothing here runs (an unknown custom operator) */
  SINTER_IO = 4,               /* a file could not be read or written */
  SINTER_LIMIT = 5,            /* a size, count or depth beyond what is allowed */
  SINTER_OUT_OF_MEMORY = 6,
  SINTER_CANCELLED = 7,           /* the cancel callback asked for it */
  SINTER_ENGINE_INVALID = 8,      /* the bytes are no engine that may be run */
  SINTER_ENGINE_INCOMPATIBLE = 9, /* a sound engine for another machine or version */
  SINTER_FAULT = 10,              /* data met at run time broke an operator's rule */
  SINTER_MISMATCH = 11,           /* a comparison failed */
  SINTER_BUSY = 12,               /* the context is in use by another thread */
  SINTER_INTERNAL = 13
} sinter_code;

typedef enum sinter_dtype {
  SINTER_BOOL,
  SINTER_U8,
  SINTER_I8,
  SINTER_U16,
  SINTER_I16,
  SINTER_U32,
  SINTER_I32,
  SINTER_U64,
  SINTER_I64,
  SINTER_F16,
  SINTER_BF16,
  SINTER_F32,
  SINTER_F64,
  SINTER_C64,
  SINTER_C128,
  SINTER_F8E4M3FN,
  SINTER_F8E4M3FNUZ,
  SINTER_F8E5M2,
  SINTER_F8E5M2FNUZ,
  SINTER_F8E8M0,
  SINTER_F4E2M1,
  SINTER_U4,
  SINTER_I4,
  SINTER_U2,
  SINTER_I2,
  SINTER_STRING
} sinter_dtype;

typedef enum sinter_log_level {
  SINTER_LOG_ERROR,
  SINTER_LOG_WARNING,
  SINTER_LOG_INFO,
  SINTER_LOG_VERBOSE,
  SINTER_LOG_DEBUG
} sinter_log_level;

typedef struct sinter_engine sinter_engine;
typedef struct sinter_context sinter_context;

/* Version of the library, "major.minor.patch". */
SINTER_API const char* sinter_version(void);

/* The calling thread's last error; empty strings when there is none or a part is unknown. Valid until the thread's next
 * failing call. */
SINTER_API const char* sinter_error_message(void);
SINTER_API const char* sinter_error_node(void);
SINTER_API const char* sinter_error_tensor(void);
SINTER_API const char* sinter_error_hint(void);

/* Name of a code ("invalid model") and of a dtype ("f32"). */
SINTER_API const char* sinter_code_name(sinter_code code);
SINTER_API const char* sinter_dtype_name(sinter_dtype dtype);
/* Bits of an element; 0 for strings. Sub-byte elements are packed, low bits first. */
SINTER_API int sinter_dtype_bits(sinter_dtype dtype);

/* ---- Plugins ---- */

/* Loads a library of operators for domains that are not known here (sinter/plugin.h, docs/plugins.md): from then on
 * every build and every engine of this process may use them. The path is a file's, never searched for; loading it again
 * changes nothing. Code from the library runs at once: load only what you trust. */
SINTER_API sinter_code sinter_load_plugins(const char* path);

/* ---- Threads ---- */

/* Work is shared by the calling thread and others: threads of Sinter's own, or those that you give here
 * (docs/threads.md). `run` has to call task(task_context, worker) once for each worker in [0, workers), at once or one
 * after the other, in any order, on any threads, the calling one among them, and to return after all these calls have.
 * Workers share what there is to do, so one that begins late finds less of it, or nothing. `workers` is from 2 to
 * `count`. Results do not depend on which threads run when.
 *
 * `run` is called by any thread that runs, builds or loads, by several at once if several do, and many times in a run:
 * each part of a network's work is a call or several, in loops once more for each trip. Where it breaks these rules
 * until it returns, the run fails with SINTER_INVALID_ARGUMENT, and where it throws with SINTER_INTERNAL. Worker
 * numbers that are wrong or come twice run nothing; nor do calls that come after `run` has returned, which nothing
 * tells of. */
typedef void (*sinter_task)(void* task_context, int worker);
typedef struct sinter_threads {
  size_t size;
  int count; /* threads that work at once, the calling one among them: 1 to 4096 */
  void (*run)(void* user, sinter_task task, void* task_context, int workers);
  void* user;
} sinter_threads;

#define SINTER_THREADS_INIT \
  { sizeof(sinter_threads), 0, NULL, NULL }

/* For this process: contexts that are created, models that are built and engines that are loaded from now on. The
 * struct is copied; its functions must work until the last context that uses them is gone. NULL: Sinter's own threads
 * again. */
SINTER_API sinter_code sinter_set_default_threads(const sinter_threads* threads);

/* ---- Building ---- */

/* Bounds of a named dimension of the model's inputs: accepted from min to max, fastest at opt. */
typedef struct sinter_dim_range {
  const char* name;
  int64_t min, opt, max;
} sinter_dim_range;

typedef struct sinter_build_options {
  size_t size;
  int threads; /* threads to build for, at most 4096; 0: all usable CPUs, or the count of the default threads */
  const char*
      level; /* instruction set: "portable", "avx2", "avx512", "avx512_bf16", "amx"; NULL: this machine's best */
  const sinter_dim_range* dims;
  size_t dim_count;
  /* How contractions of f32 may round their operands: to TF32's precision or better (1, the default; 0: not at all),
   * to bf16, to fp16 (0; either needs allow_tf32). docs/precision.md has the numbers. */
  int allow_tf32;
  int allow_bf16;
  int allow_fp16;
  const char* timing_cache;       /* file to read and update; NULL: none */
  const char* external_data_root; /* directory for external tensor data; NULL: the model file's own */
  /* Called from the building thread; message is zero-terminated. NULL: warnings and errors go to stderr. */
  void (*log)(void* user, sinter_log_level level, const char* message);
  sinter_log_level log_level;
  void (*progress)(void* user, const char* stage, double fraction); /* fraction in [0, 1] */
  int (*cancelled)(void* user); /* polled; nonzero ends the build with SINTER_CANCELLED */
  void* user;
} sinter_build_options;

#define SINTER_BUILD_OPTIONS_INIT \
  { sizeof(sinter_build_options), 0, NULL, NULL, 0, 1, 0, 0, NULL, NULL, NULL, SINTER_LOG_WARNING, NULL, NULL, NULL }

/* Builds an engine from an ONNX file, or from its bytes (copied only where needed; they must stay valid during the
 * call; external data then needs external_data_root). options may be NULL. */
SINTER_API sinter_code sinter_build_file(const char* path, const sinter_build_options* options, sinter_engine** engine);
SINTER_API sinter_code sinter_build_memory(const void* model, size_t bytes, const sinter_build_options* options,
                                           sinter_engine** engine);

/* ---- Engines ---- */

/* Writes beside the path and renames, so that a reader never sees half a file. */
SINTER_API sinter_code sinter_engine_save(const sinter_engine* engine, const char* path);
/* The engine file's bytes; release them with sinter_free. */
SINTER_API sinter_code sinter_engine_serialize(const sinter_engine* engine, void** data, size_t* bytes);
SINTER_API void sinter_free(void* data);

/* Any bytes give an engine or an error. threads: as for a build. Weights stay in the mapped file, which must not
 * be rewritten in place while the engine lives. */
SINTER_API sinter_code sinter_engine_load(const char* path, int threads, sinter_engine** engine);
/* The bytes are copied. */
SINTER_API sinter_code sinter_engine_load_memory(const void* data, size_t bytes, int threads, sinter_engine** engine);
SINTER_API void sinter_engine_destroy(sinter_engine* engine);

typedef enum sinter_kind { SINTER_TENSOR, SINTER_SEQUENCE, SINTER_OPTIONAL, SINTER_MAP } sinter_kind;

typedef struct sinter_tensor_info {
  size_t size;
  const char* name; /* owned by the engine */
  sinter_kind kind;
  sinter_dtype dtype;        /* of a tensor */
  int rank;                  /* -1: unknown */
  int64_t dims[16];          /* -1: varies */
  const char* dim_names[16]; /* "N", "H/2", "224"; owned by the engine */
  const char* type;          /* "f32[N, 3]", "seq(map(i64, f32))", "map(string, f64)"; owned by the engine */
  int64_t under; /* of an output: the input whose buffer it may be given (sinter_context_set_output); -1: none */
} sinter_tensor_info;

SINTER_API size_t sinter_engine_input_count(const sinter_engine* engine);
SINTER_API size_t sinter_engine_output_count(const sinter_engine* engine);
/* Set info->size to sizeof(*info) before the call. (Callers compiled when it ended with dim_names or type are served,
 * too.) */
SINTER_API sinter_code sinter_engine_input(const sinter_engine* engine, size_t index, sinter_tensor_info* info);
SINTER_API sinter_code sinter_engine_output(const sinter_engine* engine, size_t index, sinter_tensor_info* info);

/* What a run holds, in bytes, told without one. */
typedef struct sinter_memory_info {
  size_t size;
  int64_t weights; /* the engine's, which all its contexts share */
  /* Of a context: values between steps; what single steps work with; outputs that get no buffers. -1: not known, as
   * dimensions have no bounds (sinter_dim_range) that say at which extents, or the network takes none of these. */
  int64_t values, working, outputs;
  int complete; /* 0: loops, branches or extents that only running finds out take more */
} sinter_memory_info;

/* At which extents of the dimensions with bounds: opt, or max. */
typedef enum sinter_extents { SINTER_BEST_EXTENTS, SINTER_LARGEST_EXTENTS } sinter_extents;

/* With the threads that the engine was loaded or built with. Set info->size to sizeof(*info) before the call. */
SINTER_API sinter_code sinter_engine_memory(const sinter_engine* engine, sinter_extents extents,
                                            sinter_memory_info* info);

/* ---- Contexts ---- */

/* threads: 0 for what the engine was loaded or built with, at most 4096. */
SINTER_API sinter_code sinter_context_create(const sinter_engine* engine, int threads, sinter_context** context);
SINTER_API void sinter_context_destroy(sinter_context* context);

/* Row-major data of these extents, aligned as its element type; `bytes` is the buffer's size and is checked. The buffer
 * stays the caller's and must live, unchanged, until the run ends. */
SINTER_API sinter_code sinter_context_set_input(sinter_context* context, size_t index, sinter_dtype dtype,
                                                const int64_t* dims, size_t rank, const void* data, size_t bytes);
/* Any kind of value (strings, sequences, maps, optionals) as a serialized ONNX TensorProto, SequenceProto, MapProto or
 * OptionalProto, which is copied. Bytes that are none, and elements of another dtype, give SINTER_INVALID_ARGUMENT. */
SINTER_API sinter_code sinter_context_set_input_proto(sinter_context* context, size_t index, const void* data,
                                                      size_t bytes);
/* A map of `count` entries, in any order; copied. Keys are SINTER_I64 (int64_t) or SINTER_STRING (zero-terminated
 * const char*), values SINTER_I64, SINTER_F32, SINTER_F64 or SINTER_STRING. A key that is there twice gives
 * SINTER_INVALID_ARGUMENT. */
SINTER_API sinter_code sinter_context_set_input_map(sinter_context* context, size_t index, sinter_dtype key_dtype,
                                                    const void* keys, sinter_dtype value_dtype, const void* values,
                                                    size_t count);
/* A buffer for an output; NULL: the allocator or the context keeps it (the default). One that is too small makes the
 * run fail, before anything is written to it. It shares no memory with inputs, as parts of outputs are written while
 * inputs are still read, nor with other outputs: else the run fails. There is one exception, for caches: it may be the
 * buffer of the input that sinter_tensor_info.under names, from the first byte to the last, and then the run writes
 * what is new and no more (docs/caches.md). Where a run fails after that, the input may have been changed. */
SINTER_API sinter_code sinter_context_set_output(sinter_context* context, size_t index, void* data, size_t bytes);
/* Called during a run for every tensor output without a buffer, as soon as its extents are known, also those that
 * depend on data. The memory stays the caller's and must live until the next run. NULL ends the run with
 * SINTER_OUT_OF_MEMORY. */
typedef void* (*sinter_allocate)(void* user, size_t output, sinter_dtype dtype, const int64_t* dims, int rank,
                                 size_t bytes);
SINTER_API sinter_code sinter_context_set_allocator(sinter_context* context, sinter_allocate allocate, void* user);

/* Extents of an output: after a run those it had; before, those that follow from the inputs set. *rank receives the
 * rank, or -1 when only running finds the extents out. dims has room for 16. */
SINTER_API sinter_code sinter_context_output_dims(sinter_context* context, size_t index, int64_t* dims, int* rank);

SINTER_API sinter_code sinter_context_run(sinter_context* context);

/* An output after a run: data owned by the context (or the caller's buffer) until its next run. */
SINTER_API sinter_code sinter_context_get_output(sinter_context* context, size_t index, sinter_dtype* dtype,
                                                 int64_t* dims, int* rank, const void** data, size_t* bytes);
/* Any kind of output serialized as ONNX TensorProto, SequenceProto, MapProto or OptionalProto; release with
 * sinter_free. */
SINTER_API sinter_code sinter_context_get_output_proto(sinter_context* context, size_t index, void** data,
                                                       size_t* bytes);

/* Any kind of output piece by piece. Values belong to the context and live until its next run or set_input. The class
 * probabilities of a classifier, "seq(map(string, f32))", are a sequence of maps; the items of a map are two tensors
 * along one axis, its keys (in ascending order) and the values in the same order. */
typedef struct sinter_value sinter_value;
SINTER_API sinter_code sinter_context_get_output_value(sinter_context* context, size_t index,
                                                       const sinter_value** value);
/* SINTER_OPTIONAL is an empty optional; one that holds something is what it holds. */
SINTER_API sinter_kind sinter_value_kind(const sinter_value* value);
/* Elements of a sequence, 2 of a map, 0 of other kinds. */
SINTER_API size_t sinter_value_count(const sinter_value* value);
SINTER_API const sinter_value* sinter_value_item(const sinter_value* value, size_t item); /* NULL when there is none */
/* A tensor; `data` is NULL for strings, which sinter_value_string gives one by one, and may be NULL without elements.
 * Any of the pointers may be NULL. */
SINTER_API sinter_code sinter_value_tensor(const sinter_value* value, sinter_dtype* dtype, int64_t* dims, int* rank,
                                           const void** data, size_t* bytes);
/* An element of a tensor of strings, counted over all axes: zero-terminated, and its length without the zero. */
SINTER_API sinter_code sinter_value_string(const sinter_value* value, size_t element, const char** text, size_t* bytes);

/* Sees intermediate values during runs: after each step, every tensor it left, row-major. `sources` names the nodes of
 * the model that the step came from. NULL removes it. The result of a run does not change. */
typedef void (*sinter_tap)(void* user, const char* sources, sinter_dtype dtype, const int64_t* dims, int rank,
                           const void* data, size_t bytes);
SINTER_API sinter_code sinter_context_set_tap(sinter_context* context, sinter_tap tap, void* user);

/* Threads for the runs of this context that follow, in the place of the process's; the context uses as many as it was
 * created for, at most threads->count. NULL: what the process's threads are now. */
SINTER_API sinter_code sinter_context_set_threads(sinter_context* context, const sinter_threads* threads);

/* Ends a run early: polled between steps; nonzero ends it with SINTER_CANCELLED. NULL removes it. */
SINTER_API sinter_code sinter_context_set_cancel(sinter_context* context, int (*cancelled)(void* user), void* user);

/* Bytes that the context holds for intermediate values and outputs now. */
SINTER_API int64_t sinter_context_memory(const sinter_context* context);

#ifdef __cplusplus
}
#endif
#endif
