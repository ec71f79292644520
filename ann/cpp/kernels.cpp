// Inner products, and nothing else: rows against one query, at full width of the registers that the compiler was allowed.
//
// The score of one pair is the same bits wherever it is computed, because every function here sums in the same order: two vectors of eight
// sums taken in turn, added, then folded; what is left of the row at last. Rows may lie at any address. Compiled with
// -ffp-contract=fast, so that products and sums fuse.

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

typedef float Eight __attribute__((vector_size(32)));
typedef float EightAnywhere __attribute__((vector_size(32), aligned(1), may_alias));

constexpr size_t width = 8;
// As far ahead a row that lies elsewhere is fetched.
constexpr size_t ahead = 8;
constexpr size_t cache_line = 64;

inline Eight load(const float* at) {
    return *reinterpret_cast<const EightAnywhere*>(at);
}

#ifdef __AVX2__
// The two halves of eight sums, added.
inline __m128 halves(Eight a, Eight b) {
    const __m256 s = reinterpret_cast<__m256>(a + b);
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

inline float fold(Eight a, Eight b) {
    const __m128 four = halves(a, b), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Four folds at once.
inline void fold_all(const Eight (&even)[4], const Eight (&odd)[4], float* sums) {
    const __m128 a = halves(even[0], odd[0]), b = halves(even[1], odd[1]);
    const __m128 c = halves(even[2], odd[2]), d = halves(even[3], odd[3]);
    const __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
    const __m128 cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    _mm_storeu_ps(sums, _mm_hadd_ps(ab, cd));
}
#else
inline float fold(Eight a, Eight b) {
    const Eight s = a + b;
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
#endif

template <size_t N>
inline void fold_all(const Eight (&even)[N], const Eight (&odd)[N], float* sums) {
    for (size_t n = 0; n < N; ++n) sums[n] = fold(even[n], odd[n]);
}

inline float value_at(const float* at) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

inline float with_tail(float sum, const float* query, const float* row, size_t from, size_t dim) {
    for (size_t i = from; i < dim; ++i) sum += query[i] * value_at(row + i);
    return sum;
}

// N rows at once, so that their sums do not wait for each other.
template <size_t N>
inline void dots(const float* query, const float* const* rows, size_t dim, float* scores) {
    Eight even[N] = {}, odd[N] = {};
    size_t i = 0;
    for (; i + 2 * width <= dim; i += 2 * width) {
        const Eight q0 = load(query + i), q1 = load(query + i + width);
        for (size_t n = 0; n < N; ++n) {
            even[n] += q0 * load(rows[n] + i);
            odd[n] += q1 * load(rows[n] + i + width);
        }
    }
    if (i + width <= dim) {
        const Eight q0 = load(query + i);
        for (size_t n = 0; n < N; ++n) even[n] += q0 * load(rows[n] + i);
        i += width;
    }
    fold_all(even, odd, scores);
    for (size_t n = 0; n < N && i < dim; ++n) scores[n] = with_tail(scores[n], query, rows[n], i, dim);
}

inline void four(const float* query, const float* row, size_t dim, float* scores) {
    const float* rows[4] = {row, row + dim, row + 2 * dim, row + 3 * dim};
    dots<4>(query, rows, dim, scores);
}

inline float one(const float* query, const float* row, size_t dim) {
    float score;
    dots<1>(query, &row, dim, &score);
    return score;
}

inline void prefetch(const void* row, size_t bytes) {
    const char* at = static_cast<const char*>(row);
    for (size_t i = 0; i < bytes; i += cache_line) __builtin_prefetch(at + i);
}

// Where the bytes are that are read after these: first what follows in the same place, then what lies elsewhere.
struct Ahead {
    const uint8_t* rest;
    size_t rest_bytes;
    const uint8_t* next;
    size_t next_bytes;

    // Fetches what is read `distance` bytes after an offset. Processors fetch ahead by themselves, but not across pages and cells.
    inline void fetch(size_t offset, size_t bytes) const {
        size_t at = offset + distance;
        if (at + bytes <= rest_bytes) return prefetch(rest + at, bytes);
        at -= rest_bytes < at ? rest_bytes : at;
        if (at + bytes <= next_bytes) prefetch(next + at, bytes);
    }

    static constexpr size_t distance = 4096;
};

inline int32_t byte_dot(const int16_t* query, const uint8_t* code, size_t dim) {
    int32_t sum = 0;
    size_t i = 0;
#ifdef __AVX2__
    __m256i sums = _mm256_setzero_si256();
    for (; i + 16 <= dim; i += 16) {
        const __m256i c = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(code + i)));
        const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + i));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(c, q));
    }
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    sum = _mm_cvtsi128_si32(s);
#endif
    for (; i < dim; ++i) sum += int32_t(query[i]) * int32_t(code[i]);
    return sum;
}

#ifdef __AVX2__
// Four rows' sums in one register.
inline __m128i four_byte_dots(const int16_t* query, const uint8_t* code, size_t dim) {
    __m256i sums[4] = {};
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        const __m256i q = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + i));
        for (int n = 0; n < 4; ++n) {
            const __m256i c = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(code + n * dim + i)));
            sums[n] = _mm256_add_epi32(sums[n], _mm256_madd_epi16(c, q));
        }
    }
    const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    __m128i folded = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    if (i < dim) {
        int32_t tails[4];
        for (int n = 0; n < 4; ++n) tails[n] = byte_dot(query + i, code + n * dim + i, dim - i);
        folded = _mm_add_epi32(folded, _mm_loadu_si128(reinterpret_cast<const __m128i*>(tails)));
    }
    return folded;
}
#endif

} // namespace

extern "C" {

void pagoda_ann_dots(const float* query, const float* rows, size_t n, size_t dim, float* scores) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) four(query, rows + i * dim, dim, scores + i);
    for (; i < n; ++i) scores[i] = one(query, rows + i * dim, dim);
}

// The rows that are not below the threshold: their positions and scores, each with room for n. Returns how many.
size_t pagoda_ann_dots_above(
        const float* query, const float* rows, size_t n, size_t dim, float threshold, const Ahead* ahead, uint32_t* positions,
        float* scores) {
    size_t found = 0, i = 0;
    const size_t row_bytes = dim * sizeof(float);
    for (; i + 4 <= n; i += 4) {
        float s[4];
        ahead->fetch(i * row_bytes, 4 * row_bytes);
        four(query, rows + i * dim, dim, s);
        const bool any = !(s[0] < threshold) | !(s[1] < threshold) | !(s[2] < threshold) | !(s[3] < threshold);
        if (__builtin_expect(!any, 1)) continue;
        for (uint32_t j = 0; j < 4; ++j) {
            positions[found] = uint32_t(i) + j;
            scores[found] = s[j];
            found += !(s[j] < threshold);
        }
    }
    for (; i < n; ++i) {
        const float s = one(query, rows + i * dim, dim);
        positions[found] = uint32_t(i);
        scores[found] = s;
        found += !(s < threshold);
    }
    return found;
}

// The scores of the rows at these positions, which lie anywhere and are fetched ahead.
void pagoda_ann_dots_at(const float* query, const float* rows, size_t dim, const uint32_t* positions, size_t n, float* scores) {
    const size_t bytes = dim * sizeof(float);
    for (size_t i = 0; i < n && i < ahead; ++i) prefetch(rows + positions[i] * dim, bytes);
    for (size_t i = 0; i < n; ++i) {
        if (i + ahead < n) prefetch(rows + positions[i + ahead] * dim, bytes);
        scores[i] = one(query, rows + positions[i] * dim, dim);
    }
}

size_t pagoda_ann_byte_dots_above(
        const int16_t* query, const uint8_t* codes, size_t n, size_t dim, int32_t threshold, const Ahead* ahead,
        uint32_t* positions, int32_t* sums) {
    size_t found = 0, i = 0;
#ifdef __AVX2__
    const __m128i least = _mm_set1_epi32(threshold);
    for (; i + 4 <= n; i += 4) {
        ahead->fetch(i * dim, 4 * dim);
        const __m128i four_sums = four_byte_dots(query, codes + i * dim, dim);
        const int below = _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(least, four_sums)));
        if (__builtin_expect(below == 15, 1)) continue;
        int32_t s[4];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(s), four_sums);
        for (uint32_t j = 0; j < 4; ++j) {
            positions[found] = uint32_t(i) + j;
            sums[found] = s[j];
            found += !(s[j] < threshold);
        }
    }
#endif
    for (; i < n; ++i) {
        const int32_t s = byte_dot(query, codes + i * dim, dim);
        positions[found] = uint32_t(i);
        sums[found] = s;
        found += !(s < threshold);
    }
    return found;
}

void pagoda_ann_byte_dots_at(
        const int16_t* query, const uint8_t* codes, size_t dim, const uint32_t* positions, size_t n, int32_t* sums) {
    for (size_t i = 0; i < n && i < ahead; ++i) prefetch(codes + positions[i] * dim, dim);
    for (size_t i = 0; i < n; ++i) {
        if (i + ahead < n) prefetch(codes + positions[i + ahead] * dim, dim);
        sums[i] = byte_dot(query, codes + positions[i] * dim, dim);
    }
}
}
