/* Scans over text: which n-grams are new, and where hits are densest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* ---- the first appearance of every n-gram within its document ---- */

/* Both halves of a 128-bit product: mixes well, and quickly. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The salt is drawn by the process, so that no text can be written to make its n-grams collide. */
static inline uint64_t hash_row(const int64_t *row, int64_t width, uint64_t salt)
{
    uint64_t hash = salt;
    for (int64_t i = 0; i < width; i++)
        hash = fold(hash ^ (uint64_t)row[i] ^ 0x9E3779B97F4A7C15u, salt | 1);
    return hash;
}

static inline int same_row(const int64_t *a, const int64_t *b, int64_t width)
{
    for (int64_t i = 0; i < width; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

/* One document: a table of row numbers with linear probing; `slots` is a power of two, at least twice the rows. */
static void first_of_document(const int64_t *rows, int64_t n, int64_t width, uint64_t salt, int64_t *table,
                              uint64_t slots, uint8_t *fresh)
{
    memset(table, 0, slots * sizeof *table);
    for (int64_t i = 0; i < n; i++) {
        const int64_t *row = rows + i * width;
        uint64_t slot = hash_row(row, width, salt) & (slots - 1);
        while (table[slot] && !same_row(rows + (table[slot] - 1) * width, row, width))
            slot = (slot + 1) & (slots - 1);
        fresh[i] = !table[slot];
        if (fresh[i])
            table[slot] = i + 1;
    }
}

static int64_t end_of_document(const int64_t *documents, int64_t n, int64_t start)
{
    int64_t end = start + 1;
    while (end < n && documents[end] == documents[start])
        end++;
    return end;
}

static uint64_t slots_for(int64_t rows)
{
    uint64_t slots = 2;
    while (slots < 2 * (uint64_t)rows)
        slots *= 2;
    return slots;
}

int32_t assay_first_seen(const int64_t *rows, const int64_t *documents, int64_t n, int64_t width, uint64_t salt,
                         uint8_t *fresh)
{
    int64_t longest = 0, start, end;
    for (start = 0; start < n; start = end) {
        end = end_of_document(documents, n, start);
        longest = end - start > longest ? end - start : longest;
    }
    int64_t *table = malloc(slots_for(longest) * sizeof *table);
    if (!table)
        return -1;
    for (start = 0; start < n; start = end) {
        end = end_of_document(documents, n, start);
        first_of_document(rows + start * width, end - start, width, salt, table, slots_for(end - start),
                          fresh + start);
    }
    free(table);
    return 0;
}

/* ---- windows ---- */

/* sums[i] = hits before n-gram i. */
static void sum_up(const uint8_t *hits, int64_t n, int32_t *sums)
{
    sums[0] = 0;
    for (int64_t i = 0; i < n; i++)
        sums[i + 1] = sums[i] + hits[i];
}

EVERY_PROCESSOR
static int32_t most_hits(const int32_t *sums, int64_t starts, int64_t size)
{
    int32_t most = 0;
    for (int64_t a = 0; a < starts; a++) {
        int32_t count = sums[a + size] - sums[a];
        most = count > most ? count : most;
    }
    return most;
}

static int64_t where_hits(const int32_t *sums, int64_t size, int32_t count)
{
    int64_t a = 0;
    while (sums[a + size] - sums[a] != count)
        a++;
    return a;
}

/* Sizes ascend, so that of equal z the longest window stays; the earliest one is looked for last, once. */
int32_t assay_best_window(const uint8_t *hits, int64_t n, double gamma, const int64_t *sizes, int64_t count,
                          double *z, int64_t *start, int64_t *size)
{
    int32_t *sums = malloc(((size_t)n + 1) * sizeof *sums), best = 0;
    if (!sums)
        return -1;
    sum_up(hits, n, sums);
    *z = -INFINITY;
    for (int64_t s = 0; s < count; s++) {
        double w = (double)sizes[s];
        int32_t most = most_hits(sums, n + 1 - sizes[s], sizes[s]);
        double here = ((double)most - gamma * w) / sqrt(w * gamma * (1.0 - gamma));
        if (here >= *z) {
            *z = here;
            *size = sizes[s];
            best = most;
        }
    }
    *start = where_hits(sums, *size, best);
    free(sums);
    return 0;
}

EVERY_PROCESSOR
static int64_t windows_of(const int32_t *sums, int64_t starts, int64_t size, int32_t least)
{
    int32_t windows = 0;
    for (int64_t a = 0; a < starts; a++)
        windows += sums[a + size] - sums[a] >= least;
    return windows;
}

int32_t assay_count_windows(const uint8_t *hits, int64_t m, int64_t n, const int64_t *sizes, const int64_t *least,
                            int64_t count, int64_t *windows)
{
    int32_t *sums = malloc(((size_t)n + 1) * sizeof *sums);
    if (!sums)
        return -1;
    for (int64_t row = 0; row < m; row++, hits += n) {
        sum_up(hits, n, sums);
        windows[row] = 0;
        for (int64_t s = 0; s < count; s++) {
            int64_t needed = least[s] < 0 ? 0 : least[s];
            if (needed <= sizes[s])
                windows[row] += windows_of(sums, n + 1 - sizes[s], sizes[s], (int32_t)needed);
        }
    }
    free(sums);
    return 0;
}
