/* How fast a processor can decide which pairs of queries and items are nearer than a limit: vector intrinsics, and a
 * count of the items within the limit instead of lists. BYTES of a code; compile with -O3 -march=native -fopenmp -shared
 * -fPIC -DBYTES=b. Queries are in blocks of 4. Tiles of 64 items, laid out byte by byte, hold the same byte of each item.
 * AVX-512: popcounts of bytes (BITALG). AVX2: costs of half bytes by shuffles. */
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 4
#define TILE 64
/* Bytes of a code whose differing bits fit in a byte. */
#define GROUP (8 * BYTES < 256 ? BYTES : 31)

static void lay_tiles(const uint8_t *codes, int64_t n_items, uint8_t *tiles) {
    for (int64_t j = 0; j < n_items; j++)
        for (int w = 0; w < BYTES; w++) tiles[(j / TILE * BYTES + w) * TILE + j % TILE] = codes[j * BYTES + w];
}

#if defined(__AVX512BITALG__) && defined(__AVX512BW__)

static inline void count_tile(const uint8_t *queries, const uint8_t *tile, const int *limits, int64_t *near,
                              uint64_t valid) {
    __m512i low[BLOCK], high[BLOCK];
    for (int a = 0; a < BLOCK; a++) low[a] = high[a] = _mm512_setzero_si512();
    for (int g = 0; g < BYTES; g += GROUP) {
        __m512i sums[BLOCK];
        for (int a = 0; a < BLOCK; a++) sums[a] = _mm512_setzero_si512();
        for (int w = g; w < BYTES && w < g + GROUP; w++) {
            __m512i items = _mm512_loadu_si512(tile + w * TILE);
            for (int a = 0; a < BLOCK; a++) {
                __m512i query = _mm512_set1_epi32(queries[a * BYTES + w] * 0x01010101);
                sums[a] = _mm512_add_epi8(sums[a], _mm512_popcnt_epi8(_mm512_xor_si512(items, query)));
            }
        }
        for (int a = 0; a < BLOCK; a++) {
            if (GROUP == BYTES) {
                low[a] = sums[a];
                continue;
            }
            low[a] = _mm512_add_epi16(low[a], _mm512_cvtepu8_epi16(_mm512_castsi512_si256(sums[a])));
            high[a] = _mm512_add_epi16(high[a], _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(sums[a], 1)));
        }
    }
    for (int a = 0; a < BLOCK; a++) {
        uint64_t mask;
        if (GROUP == BYTES)
            mask = _mm512_cmplt_epu8_mask(low[a], _mm512_set1_epi8(limits[a]));
        else
            mask = _mm512_cmplt_epu16_mask(low[a], _mm512_set1_epi16(limits[a])) |
                   (uint64_t)_mm512_cmplt_epu16_mask(high[a], _mm512_set1_epi16(limits[a])) << 32;
        near[a] += __builtin_popcountll(mask & valid);
    }
}

#define PREPARED (BLOCK * BYTES)
static void prepare(const uint8_t *queries, uint8_t *out) { memcpy(out, queries, PREPARED); }

#elif defined(__AVX2__)

#define PREPARED (BLOCK * BYTES * 32)
static void prepare(const uint8_t *queries, uint8_t *out) {
    for (int i = 0; i < BLOCK * BYTES; i++)
        for (int v = 0; v < 16; v++) {
            out[32 * i + v] = __builtin_popcount((queries[i] & 15) ^ v);
            out[32 * i + 16 + v] = __builtin_popcount((queries[i] >> 4) ^ v);
        }
}

static inline void count_tile(const uint8_t *tables, const uint8_t *tile, const int *limits, int64_t *near,
                              uint64_t valid) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i wide[BLOCK][4];
    memset(wide, 0, sizeof wide);
    for (int g = 0; g < BYTES; g += GROUP) {
        __m256i sums[BLOCK][2];
        memset(sums, 0, sizeof sums);
        for (int w = g; w < BYTES && w < g + GROUP; w++) {
            __m256i low[2], high[2];
            for (int v = 0; v < 2; v++) {
                __m256i items = _mm256_loadu_si256((const __m256i *)(tile + w * TILE + 32 * v));
                low[v] = _mm256_and_si256(items, nibble);
                high[v] = _mm256_and_si256(_mm256_srli_epi16(items, 4), nibble);
            }
            for (int a = 0; a < BLOCK; a++) {
                const __m128i *table = (const __m128i *)(tables + (a * BYTES + w) * 32);
                __m256i lower = _mm256_broadcastsi128_si256(_mm_loadu_si128(table));
                __m256i upper = _mm256_broadcastsi128_si256(_mm_loadu_si128(table + 1));
                for (int v = 0; v < 2; v++) {
                    sums[a][v] = _mm256_add_epi8(sums[a][v], _mm256_shuffle_epi8(lower, low[v]));
                    sums[a][v] = _mm256_add_epi8(sums[a][v], _mm256_shuffle_epi8(upper, high[v]));
                }
            }
        }
        for (int a = 0; a < BLOCK; a++)
            for (int v = 0; v < 2; v++) {
                if (GROUP == BYTES) {
                    wide[a][v] = sums[a][v];
                    continue;
                }
                __m256i zero = _mm256_setzero_si256();
                wide[a][2 * v] = _mm256_add_epi16(wide[a][2 * v], _mm256_unpacklo_epi8(sums[a][v], zero));
                wide[a][2 * v + 1] = _mm256_add_epi16(wide[a][2 * v + 1], _mm256_unpackhi_epi8(sums[a][v], zero));
            }
    }
    for (int a = 0; a < BLOCK; a++) {
        uint64_t mask = 0;
        for (int v = 0; v < 2; v++) {
            __m256i within;
            if (GROUP == BYTES) { /* At most the limit less one: their minimum is the distance itself. */
                __m256i bound = _mm256_set1_epi8(limits[a] - 1);
                within = _mm256_cmpeq_epi8(_mm256_min_epu8(wide[a][v], bound), wide[a][v]);
            } else {
                __m256i bound = _mm256_set1_epi16(limits[a]);
                within = _mm256_packs_epi16(_mm256_cmpgt_epi16(bound, wide[a][2 * v]),
                                            _mm256_cmpgt_epi16(bound, wide[a][2 * v + 1]));
            }
            mask |= (uint64_t)(uint32_t)_mm256_movemask_epi8(within) << 32 * v;
        }
        near[a] += __builtin_popcountll(mask & valid);
    }
}

#endif

/* near[i]: the number of items nearer than limits[i], which is at least 1, to query i; queries are a multiple of 4. */
void count_near(const uint8_t *queries, int64_t n_queries, const uint8_t *database, int64_t n_items, const int *limits,
                int threads, int64_t *near) {
    int64_t n_tiles = (n_items + TILE - 1) / TILE;
    uint8_t *tiles = aligned_alloc(64, n_tiles * TILE * BYTES);
    memset(tiles + (n_tiles - 1) * TILE * BYTES, 0, TILE * BYTES);
    lay_tiles(database, n_items, tiles);
    uint64_t last = n_items % TILE ? ((uint64_t)1 << n_items % TILE) - 1 : ~(uint64_t)0;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
    for (int64_t first = 0; first < n_queries; first += BLOCK) {
        _Alignas(64) uint8_t prepared[PREPARED];
        int64_t counts[BLOCK] = {0};
        prepare(queries + first * BYTES, prepared);
        for (int64_t t = 0; t < n_tiles; t++)
            count_tile(prepared, tiles + t * TILE * BYTES, limits + first, counts, t + 1 < n_tiles ? ~(uint64_t)0 : last);
        memcpy(near + first, counts, sizeof counts);
    }
    free(tiles);
}
