/* The C half of assay.watermark.kernel: plain functions on plain arrays, called through ctypes.
 *
 * Every function has a twin in plain.py that gives the same bits. Arguments are checked in Python; here they are
 * trusted. Functions return 0, or -1 where they found no memory. Nothing is kept between calls, so calls
 * may run in several threads at once.
 */
#ifndef ASSAY_KERNEL_H
#define ASSAY_KERNEL_H

#include <stddef.h>
#include <stdint.h>

/* Raised whenever a signature below or a result changes; native.py refuses a library of another version. */
#define ABI_VERSION 1

/* Machine code for several generations of processors, chosen when the library is loaded, where the compiler and the
 * loader know how: SSE2, AVX2 and AVX-512. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__)
#if (defined(__clang__) && __clang_major__ >= 18) || (!defined(__clang__) && __GNUC__ >= 12)
#define EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
#endif
#ifndef EVERY_PROCESSOR
#define EVERY_PROCESSOR
#endif


int32_t assay_abi(void); /* ABI_VERSION */

/* shuffle.c */
int32_t assay_green_lists(const uint32_t *seeds, int64_t n, const uint32_t *reciprocals, int32_t vocab_size,
                          int32_t count, int32_t *lists);
int32_t assay_green_rows(const uint32_t *seeds, int64_t n, const uint32_t *reciprocals, int32_t vocab_size,
                         int32_t count, uint8_t complement, uint8_t *rows);
int32_t assay_member(const uint32_t *seeds, const int64_t *starts, int64_t groups, const int32_t *targets,
                     const uint32_t *reciprocals, int32_t vocab_size, int32_t count, uint8_t complement,
                     uint8_t *found);
int32_t assay_add_to_green(float *scores, const uint32_t *seeds, int64_t n, const uint32_t *reciprocals,
                           int32_t vocab_size, int32_t count, uint8_t complement, int32_t shift, float delta);

/* philox.c */
int32_t assay_philox_states(const int64_t *contexts, int64_t n, int64_t width, uint64_t key, uint32_t *states);
int32_t assay_philox_uniforms(const uint32_t *states, const int64_t *tokens, int64_t n, uint64_t key, float *uniforms);
int32_t assay_philox_rows(const uint32_t *states, int64_t n, int64_t vocab_size, uint64_t key, float *rows);
int32_t assay_add_philox_green(float *scores, const uint32_t *states, int64_t n, int64_t vocab_size, uint64_t key,
                               uint32_t limit, int64_t shift, float delta);

/* sequences.c */
int32_t assay_first_seen(const int64_t *rows, const int64_t *documents, int64_t n, int64_t width, uint64_t salt,
                         uint8_t *fresh);
int32_t assay_best_window(const uint8_t *hits, int64_t n, double gamma, const int64_t *sizes, int64_t count,
                          double *z, int64_t *start, int64_t *size);
int32_t assay_count_windows(const uint8_t *hits, int64_t m, int64_t n, const int64_t *sizes, const int64_t *least,
                            int64_t count, int64_t *windows);

/* Used by more than one file: scores[t] += delta wherever green[(t + shift) mod V] differs from complement. */
void add_where_green(float *scores, const uint8_t *green, int64_t vocab_size, int64_t shift, uint8_t complement,
                     float delta);

#endif
