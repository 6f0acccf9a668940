#include "mersenne.h"
#include "kernel.h"

enum { MIDDLE = 397 };

/* Every word of a fresh state depends on the one before it, which leaves a processor waiting. Several seeds side by
 * side, one in each lane of a vector, fill the wait. */
EVERY_PROCESSOR
void mersenne_seed(Mersenne *states, const uint32_t *seeds, int lanes)
{
    uint32_t last[MERSENNE_LANES];
    for (int lane = 0; lane < MERSENNE_LANES; lane++)
        last[lane] = seeds[lane < lanes ? lane : 0];
    for (int lane = 0; lane < lanes; lane++)
        states[lane].word[0] = last[lane];
    for (uint32_t i = 1; i < MERSENNE_WORDS; i++) {
        for (int lane = 0; lane < MERSENNE_LANES; lane++)
            last[lane] = 1812433253u * (last[lane] ^ (last[lane] >> 30)) + i;
        for (int lane = 0; lane < lanes; lane++)
            states[lane].word[i] = last[lane];
    }
}

static inline uint32_t twisted(uint32_t here, uint32_t next)
{
    uint32_t y = (here & 0x80000000u) | (next & 0x7FFFFFFFu);
    return (y >> 1) ^ (-(next & 1u) & 0x9908B0DFu);
}

/* Two loops, so that what a word needs is either untouched (first) or at least 227 words back (second): both run in
 * vectors. */
EVERY_PROCESSOR
void mersenne_renew(Mersenne *state)
{
    uint32_t *word = state->word;
    int i = 0;
    for (; i < MERSENNE_WORDS - MIDDLE; i++)
        word[i] = word[i + MIDDLE] ^ twisted(word[i], word[i + 1]);
    for (; i < MERSENNE_WORDS - 1; i++)
        word[i] = word[i + MIDDLE - MERSENNE_WORDS] ^ twisted(word[i], word[i + 1]);
    word[i] = word[MIDDLE - 1] ^ twisted(word[i], word[0]);
}
