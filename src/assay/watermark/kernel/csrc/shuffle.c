/* Green lists: the first entries of torch.randperm, without making the permutation.
 *
 * torch shuffles forwards: for i = 0, 1, ... it swaps entries i and j = i + (u mod (V - i)), u the next word of
 * MT19937. A "draw" below is that j. After step i, slot i is final.
 */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "mersenne.h"

enum { MOST_FOLLOWED = 24 }; /* from so many tokens of one seed on, a mask of the vocabulary is cheaper */

typedef struct {
    const uint32_t *reciprocals; /* floor((2^32 - 1) / (V - i)) for every slot i */
    int32_t vocab_size, count;
    Mersenne twisters[MERSENNE_LANES];
    uint32_t *draws; /* count of them, and room to finish a block */
    void *scratch;   /* one entry for every token */
} Shuffle;

static int open_shuffle(Shuffle *shuffle, const uint32_t *reciprocals, int32_t vocab_size, int32_t count,
                        size_t scratch)
{
    shuffle->reciprocals = reciprocals;
    shuffle->vocab_size = vocab_size;
    shuffle->count = count;
    shuffle->draws = malloc(((size_t)count + MERSENNE_WORDS) * sizeof(uint32_t));
    shuffle->scratch = malloc(scratch * (size_t)vocab_size + 1);
    return shuffle->draws && shuffle->scratch ? 0 : -1;
}

static int32_t close_shuffle(Shuffle *shuffle, int state)
{
    free(shuffle->draws);
    free(shuffle->scratch);
    return state;
}

/* The generator of one seed; seeds are expanded a vector at a time, so ask for them in order. */
static Mersenne *twister(Shuffle *shuffle, const uint32_t *seeds, int64_t n, int64_t index)
{
    int lane = (int)(index % MERSENNE_LANES);
    if (lane == 0)
        mersenne_seed(shuffle->twisters, seeds + index, (int)(n - index < MERSENNE_LANES ? n - index : MERSENNE_LANES));
    return shuffle->twisters + lane;
}

/* u mod d without a division. With m = floor((2^32 - 1) / d), the estimate floor(u m / 2^32) is the quotient or one
 * less: u/d - u m / 2^32 = u (2^32 - m d) / (d 2^32), where 2^32 - m d <= d, so it is at most u / 2^32 < 1. The
 * remainder is then below 2 d < 2^32. If it is below d, subtracting d wraps to something larger, and the smaller of
 * the two is the answer. */
static inline uint32_t modulo(uint32_t u, uint32_t d, uint32_t m)
{
    uint32_t rest = u - (uint32_t)(((uint64_t)u * m) >> 32) * d;
    return rest < rest - d ? rest : rest - d;
}

EVERY_PROCESSOR
static void scale(const uint32_t *words, const uint32_t *reciprocals, uint32_t vocab_size, uint32_t first, int n,
                  uint32_t *draws)
{
    for (int i = 0; i < n; i++) {
        uint32_t slot = first + (uint32_t)i;
        draws[i] = slot + modulo(mersenne_temper(words[i]), vocab_size - slot, reciprocals[i]);
    }
}

/* The draws of the next slots, `first` and on, up to one block; returns how many. */
static int next_draws(const Shuffle *shuffle, Mersenne *twister, int32_t first, uint32_t *draws)
{
    int32_t left = shuffle->count - first;
    int n = left < MERSENNE_WORDS ? left : MERSENNE_WORDS;
    mersenne_renew(twister);
    scale(twister->word, shuffle->reciprocals + first, (uint32_t)shuffle->vocab_size, (uint32_t)first, n, draws);
    return n;
}

static const uint32_t *all_draws(const Shuffle *shuffle, Mersenne *twister)
{
    for (int32_t first = 0; first < shuffle->count; first += MERSENNE_WORDS)
        next_draws(shuffle, twister, first, shuffle->draws + first);
    return shuffle->draws;
}

int32_t assay_green_lists(const uint32_t *seeds, int64_t n, const uint32_t *reciprocals, int32_t vocab_size,
                          int32_t count, int32_t *lists)
{
    Shuffle shuffle;
    if (open_shuffle(&shuffle, reciprocals, vocab_size, count, sizeof(int32_t)))
        return close_shuffle(&shuffle, -1);
    int32_t *entry = shuffle.scratch;
    for (int64_t row = 0; row < n; row++, lists += count) {
        const uint32_t *draws = all_draws(&shuffle, twister(&shuffle, seeds, n, row));
        for (int32_t id = 0; id < vocab_size; id++)
            entry[id] = id;
        for (int32_t i = 0; i < count; i++) {
            lists[i] = entry[draws[i]];
            entry[draws[i]] = entry[i];
        }
    }
    return close_shuffle(&shuffle, 0);
}

/* Which tokens end in the list, by running the shuffle backwards on bits instead of ids.
 *
 * Read backwards, green[p] says whether the token at position p after step i ends in the list. After the last step
 * no position behind the list does. Step i put the token of position j into the list for good, and the token of slot
 * i at position j. So a mask of one byte a token replaces the array of ids, and no id is ever moved. */
static void fill_green(const Shuffle *shuffle, Mersenne *twister, uint8_t *green)
{
    const uint32_t *draws = all_draws(shuffle, twister);
    memset(green, 0, (size_t)shuffle->vocab_size);
    for (int32_t i = shuffle->count - 1; i >= 0; i--) {
        green[i] = green[draws[i]];
        green[draws[i]] = 1;
    }
}

EVERY_PROCESSOR
static void flip(uint8_t *green, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        green[i] ^= 1;
}

int32_t assay_green_rows(const uint32_t *seeds, int64_t n, const uint32_t *reciprocals, int32_t vocab_size,
                         int32_t count, uint8_t complement, uint8_t *rows)
{
    Shuffle shuffle;
    if (open_shuffle(&shuffle, reciprocals, vocab_size, count, 0))
        return close_shuffle(&shuffle, -1);
    for (int64_t row = 0; row < n; row++, rows += vocab_size) {
        fill_green(&shuffle, twister(&shuffle, seeds, n, row), rows);
        if (complement)
            flip(rows, vocab_size);
    }
    return close_shuffle(&shuffle, 0);
}

EVERY_PROCESSOR
static void add_where(float *scores, const uint8_t *green, int64_t n, uint8_t complement, float delta)
{
    for (int64_t i = 0; i < n; i++)
        scores[i] = green[i] != complement ? scores[i] + delta : scores[i];
}

void add_where_green(float *scores, const uint8_t *green, int64_t vocab_size, int64_t shift, uint8_t complement,
                     float delta)
{
    int64_t wrapped = vocab_size - shift; /* the token that takes the place of token 0 */
    add_where(scores, green + shift, wrapped, complement, delta);
    add_where(scores + wrapped, green, shift, complement, delta);
}

int32_t assay_add_to_green(float *scores, const uint32_t *seeds, int64_t n, const uint32_t *reciprocals,
                           int32_t vocab_size, int32_t count, uint8_t complement, int32_t shift, float delta)
{
    Shuffle shuffle;
    if (open_shuffle(&shuffle, reciprocals, vocab_size, count, 1))
        return close_shuffle(&shuffle, -1);
    for (int64_t row = 0; row < n; row++, scores += vocab_size) {
        fill_green(&shuffle, twister(&shuffle, seeds, n, row), shuffle.scratch);
        add_where_green(scores, shuffle.scratch, vocab_size, shift, complement, delta);
    }
    return close_shuffle(&shuffle, 0);
}

static inline int contains(const uint32_t *draws, int n, uint32_t position)
{
    int seen = 0;
    for (int i = 0; i < n; i++)
        seen |= draws[i] == position;
    return seen;
}

/* Follow one token through a block of n draws. It is in the list as soon as its position is drawn. Until then it
 * moves only when the shuffle reaches the slot it lies in: there it changes places with the entry drawn. */
EVERY_PROCESSOR
static int follow(const uint32_t *draws, uint32_t first, int n, uint32_t *position)
{
    int from = 0;
    while (*position - first < (uint32_t)n) {
        int own = (int)(*position - first);
        if (contains(draws + from, own + 1 - from, *position))
            return 1;
        *position = draws[own];
        from = own + 1;
    }
    return contains(draws + from, n - from, *position);
}

/* A few tokens of one seed, until all are found or the list is full. */
static void follow_all(const Shuffle *shuffle, Mersenne *twister, const int32_t *targets, int n, uint8_t *found)
{
    uint32_t position[MOST_FOLLOWED];
    int left = n;
    for (int t = 0; t < n; t++) {
        position[t] = (uint32_t)targets[t];
        found[t] = 0;
    }
    for (int32_t first = 0; first < shuffle->count && left; first += MERSENNE_WORDS) {
        int drawn = next_draws(shuffle, twister, first, shuffle->draws);
        for (int t = 0; t < n; t++) {
            if (found[t])
                continue;
            found[t] = (uint8_t)follow(shuffle->draws, (uint32_t)first, drawn, position + t);
            left -= found[t];
        }
    }
}

static void look_up_all(const Shuffle *shuffle, Mersenne *twister, const int32_t *targets, int64_t n, uint8_t *found)
{
    uint8_t *green = shuffle->scratch;
    fill_green(shuffle, twister, green);
    for (int64_t t = 0; t < n; t++)
        found[t] = green[targets[t]];
}

/* Tokens come grouped by seed: those of seeds[g] lie from starts[g] to starts[g + 1]. */
int32_t assay_member(const uint32_t *seeds, const int64_t *starts, int64_t groups, const int32_t *targets,
                     const uint32_t *reciprocals, int32_t vocab_size, int32_t count, uint8_t complement,
                     uint8_t *found)
{
    Shuffle shuffle;
    if (open_shuffle(&shuffle, reciprocals, vocab_size, count, 1))
        return close_shuffle(&shuffle, -1);
    for (int64_t g = 0; g < groups; g++) {
        int64_t start = starts[g], n = starts[g + 1] - start;
        Mersenne *generator = twister(&shuffle, seeds, groups, g);
        if (n <= MOST_FOLLOWED)
            follow_all(&shuffle, generator, targets + start, (int)n, found + start);
        else
            look_up_all(&shuffle, generator, targets + start, n, found + start);
        if (complement)
            flip(found + start, n);
    }
    return close_shuffle(&shuffle, 0);
}
