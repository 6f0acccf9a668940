/* MT19937 (Matsumoto and Nishimura, 1998), as torch's CPU generator uses it: seeded with one 32-bit number. */
#ifndef ASSAY_MERSENNE_H
#define ASSAY_MERSENNE_H

#include <stdint.h>

enum {
    MERSENNE_WORDS = 624, /* words of a state, and words that one renewal of it yields */
    MERSENNE_LANES = 16   /* seeds that are expanded together */
};

typedef struct {
    uint32_t word[MERSENNE_WORDS];
} Mersenne;

/* Expand up to MERSENNE_LANES seeds into states. */
void mersenne_seed(Mersenne *states, const uint32_t *seeds, int lanes);

/* Renew a state: its words are then the next 624 outputs, not yet tempered. */
void mersenne_renew(Mersenne *state);

/* What a word of the state becomes when it is given out. */
static inline uint32_t mersenne_temper(uint32_t y)
{
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    return y ^ (y >> 18);
}

#endif
