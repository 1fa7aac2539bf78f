/* Histograms of Hamming distances in one pass over the database for each block of 8 queries.
 * WORDS 64-bit words per code; compile with -O3 -march=native -fopenmp -shared -fPIC -DWORDS=w. */
#include <stdint.h>
#include <string.h>

#define BLOCK 8

void histogram(const uint64_t *queries, int64_t n_queries, const uint64_t *database, int64_t n_items, int64_t bits,
               int threads, int64_t *total) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t first = 0; first < n_queries; first += BLOCK) {
        int32_t tables[BLOCK][WORDS * 64 + 1];
        uint64_t block[BLOCK][WORDS];
        int64_t used = n_queries - first < BLOCK ? n_queries - first : BLOCK;
        memset(tables, 0, sizeof tables);
        memset(block, 0, sizeof block);
        memcpy(block, queries + first * WORDS, used * WORDS * sizeof(uint64_t));
        for (int64_t j = 0; j < n_items; j++)
            for (int a = 0; a < BLOCK; a++) {
                int distance = 0;
                for (int w = 0; w < WORDS; w++)
                    distance += __builtin_popcountll(block[a][w] ^ database[j * WORDS + w]);
                tables[a][distance]++;
            }
        for (int64_t a = 0; a < used; a++)
            for (int64_t d = 0; d <= bits; d++) total[(first + a) * (bits + 1) + d] = tables[a][d];
    }
}
