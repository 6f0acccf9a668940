/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011): contexts to states, states and tokens to uniforms. */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

#define STATE_DOMAIN 0x574D4358u
#define TOKEN_DOMAIN 0x574D544Bu
enum { TILE = 256 }; /* calls whose words stay in the first cache */

/* A word is the low half of a 64-bit lane; what is above it is never read. So halves of products need no packing, in
 * which vectors would spend most of their time. */
typedef struct {
    uint64_t c0, c1, c2, c3;
} Block;

static inline Block philox_round(Block c, uint32_t k0, uint32_t k1)
{
    uint64_t a = 0xD2511F53u * (c.c0 & 0xFFFFFFFFu), b = 0xCD9E8D57u * (c.c2 & 0xFFFFFFFFu);
    return (Block){(b >> 32) ^ c.c1 ^ k0, b, (a >> 32) ^ c.c3 ^ k1, a};
}

/* The rounds are written out: only straight code lets the compiler work on many calls at once. */
static inline __attribute__((always_inline)) Block philox(Block c, uint32_t k0, uint32_t k1)
{
#define ROUND(r) c = philox_round(c, k0 + r##u * 0x9E3779B9u, k1 + r##u * 0xBB67AE85u)
    ROUND(0);
    ROUND(1);
    ROUND(2);
    ROUND(3);
    ROUND(4);
    ROUND(5);
    ROUND(6);
    ROUND(7);
    ROUND(8);
    ROUND(9);
#undef ROUND
    return c;
}

/* ((word >> 8) + 1) / (2^24 + 1), rounded to float32, without dividing. With m = (word >> 8) + 1 the quotient is
 * m / 2^24 less m / 2^48 (1 - 2^-24 + ...). That is more than half a step of float32 just below m / 2^24, and less
 * than a whole one, so it rounds to the float before m / 2^24: for positive floats, one less in the bits. */
static inline float uniform_of(uint32_t word)
{
    float u = (float)(int32_t)((word >> 8) + 1) * 0x1p-24f;
    int32_t bits;
    memcpy(&bits, &u, sizeof bits);
    bits--;
    memcpy(&u, &bits, sizeof bits);
    return u;
}

EVERY_PROCESSOR
int32_t assay_philox_states(const int64_t *contexts, int64_t n, int64_t width, uint64_t key, uint32_t *states)
{
    for (int64_t row = 0; row < n; row++) {
        Block state = {STATE_DOMAIN, (uint32_t)width, 0, 0};
        const int64_t *context = contexts + row * width;
        for (int64_t offset = 0; offset < width; offset += 4) {
            uint32_t word[4]; /* past the end of the context: 2^32 - 1 - i */
            for (int i = 0; i < 4; i++)
                word[i] = offset + i < width ? (uint32_t)context[offset + i] : 0xFFFFFFFFu - (uint32_t)i;
            state = (Block){state.c0 ^ word[0], state.c1 ^ word[1], state.c2 ^ word[2], state.c3 ^ word[3]};
            state = philox(state, (uint32_t)key ^ (uint32_t)offset, (uint32_t)(key >> 32));
        }
        states[4 * row] = (uint32_t)state.c0;
        states[4 * row + 1] = (uint32_t)state.c1;
        states[4 * row + 2] = (uint32_t)state.c2;
        states[4 * row + 3] = (uint32_t)state.c3;
    }
    return 0;
}

EVERY_PROCESSOR
int32_t assay_philox_uniforms(const uint32_t *states, const int64_t *tokens, int64_t n, uint64_t key, float *uniforms)
{
    for (int64_t row = 0; row < n; row++) {
        const uint32_t *state = states + 4 * row;
        uint32_t token = (uint32_t)tokens[row];
        Block words = philox((Block){token >> 2, state[0], state[1], state[2]}, (uint32_t)key ^ state[3],
                             (uint32_t)(key >> 32) ^ TOKEN_DOMAIN);
        uint64_t even = token & 2 ? words.c2 : words.c0, odd = token & 2 ? words.c3 : words.c1;
        uniforms[row] = uniform_of((uint32_t)(token & 1 ? odd : even));
    }
    return 0;
}

/* The words of tokens 4 first, 4 first + 1, ... of one state, four from each call. */
EVERY_PROCESSOR
static void fill_words(const uint32_t *state, uint64_t key, uint32_t first, uint32_t *words)
{
    uint32_t s0 = state[0], s1 = state[1], s2 = state[2], k0 = (uint32_t)key ^ state[3];
    uint32_t k1 = (uint32_t)(key >> 32) ^ TOKEN_DOMAIN;
    for (uint32_t call = 0; call < TILE; call++) {
        Block four = philox((Block){first + call, s0, s1, s2}, k0, k1);
        words[4 * call] = (uint32_t)four.c0;
        words[4 * call + 1] = (uint32_t)four.c1;
        words[4 * call + 2] = (uint32_t)four.c2;
        words[4 * call + 3] = (uint32_t)four.c3;
    }
}

EVERY_PROCESSOR
static void to_uniforms(const uint32_t *words, int64_t n, float *uniforms)
{
    for (int64_t i = 0; i < n; i++)
        uniforms[i] = uniform_of(words[i]);
}

EVERY_PROCESSOR
static void to_green(const uint32_t *words, int64_t n, uint32_t limit, uint8_t *green)
{
    for (int64_t i = 0; i < n; i++)
        green[i] = (words[i] >> 8) < limit;
}

static int64_t tile_length(int64_t start, int64_t vocab_size)
{
    return vocab_size - start < 4 * TILE ? vocab_size - start : 4 * TILE;
}

int32_t assay_philox_rows(const uint32_t *states, int64_t n, int64_t vocab_size, uint64_t key, float *rows)
{
    uint32_t words[4 * TILE];
    for (int64_t row = 0; row < n; row++, states += 4, rows += vocab_size)
        for (int64_t start = 0; start < vocab_size; start += 4 * TILE) {
            fill_words(states, key, (uint32_t)(start / 4), words);
            to_uniforms(words, tile_length(start, vocab_size), rows + start);
        }
    return 0;
}

int32_t assay_add_philox_green(float *scores, const uint32_t *states, int64_t n, int64_t vocab_size, uint64_t key,
                               uint32_t limit, int64_t shift, float delta)
{
    uint32_t words[4 * TILE];
    uint8_t *green = malloc((size_t)vocab_size + 1);
    if (!green)
        return -1;
    for (int64_t row = 0; row < n; row++, states += 4, scores += vocab_size) {
        for (int64_t start = 0; start < vocab_size; start += 4 * TILE) {
            fill_words(states, key, (uint32_t)(start / 4), words);
            to_green(words, tile_length(start, vocab_size), limit, green + start);
        }
        add_where_green(scores, green, vocab_size, shift, 0, delta);
    }
    free(green);
    return 0;
}
