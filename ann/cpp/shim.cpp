// The few things that Pagoda asks of Faiss, as C functions that throw nothing.
//
// Every entry returns 0, or 1 with a message. Lengths, finiteness and the truth of pointers are the caller's promise (src/ffi.rs);
// parameters of a search live on the stack, so that concurrent searches share nothing that is written.

#include <omp.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexScalarQuantizer.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <faiss/utils/distances.h>

extern "C" const int pagoda_ann_cpu_checked;

namespace {

constexpr size_t message_bytes = 512;
constexpr auto metric = faiss::METRIC_INNER_PRODUCT;

enum Kind : int32_t { flat = 1, ivf_flat = 2, ivf_sq8 = 3, hnsw = 4 };

template <class Work>
int guarded(char* message, Work work) {
    try {
        work();
        return 0;
    } catch (const std::exception& e) {
        std::snprintf(message, message_bytes, "%s", e.what());
    } catch (...) {
        std::snprintf(message, message_bytes, "unknown C++ exception");
    }
    return 1;
}

// Points a k-means takes per cell: more refine the cells little and cost much.
template <class Ivf>
std::unique_ptr<faiss::Index> own_quantizer(std::unique_ptr<faiss::IndexFlatIP> quantizer, std::unique_ptr<Ivf> ivf) {
    quantizer.release();
    ivf->own_fields = true;
    ivf->cp.spherical = true;
    ivf->cp.min_points_per_centroid = 1;
    ivf->cp.max_points_per_centroid = 64;
    return ivf;
}

std::unique_ptr<faiss::Index> make(int32_t kind, size_t dim, size_t nlist, size_t hnsw_m) {
    if (kind == hnsw) {
        return std::make_unique<faiss::IndexHNSWFlat>(int(dim), int(hnsw_m), metric);
    }
    auto cells = std::make_unique<faiss::IndexFlatIP>(dim);
    auto* q = cells.get();
    switch (kind) {
        case flat:
            return cells;
        case ivf_flat:
            return own_quantizer(std::move(cells), std::make_unique<faiss::IndexIVFFlat>(q, dim, nlist, metric));
        case ivf_sq8:
            return own_quantizer(
                    std::move(cells),
                    std::make_unique<faiss::IndexIVFScalarQuantizer>(
                            q, dim, nlist, faiss::ScalarQuantizer::QT_8bit, metric));
        default:
            throw std::invalid_argument("unknown kind of index");
    }
}

// What kind an index is, and its nlist; 0 for one that this program does not build.
int32_t kind_of(const faiss::Index& index, size_t* nlist) {
    *nlist = 0;
    if (auto* ivf = dynamic_cast<const faiss::IndexIVF*>(&index)) {
        *nlist = ivf->nlist;
    }
    if (dynamic_cast<const faiss::IndexIVFFlat*>(&index)) return ivf_flat;
    if (dynamic_cast<const faiss::IndexIVFScalarQuantizer*>(&index)) return ivf_sq8;
    if (dynamic_cast<const faiss::IndexHNSWFlat*>(&index)) return hnsw;
    if (dynamic_cast<const faiss::IndexFlat*>(&index)) return flat;
    return 0;
}

struct SliceReader : faiss::IOReader {
    const uint8_t* at;
    size_t left;
    SliceReader(const uint8_t* bytes, size_t n) : at(bytes), left(n) {}
    size_t operator()(void* out, size_t size, size_t count) override {
        const size_t items = size == 0 ? 0 : std::min(count, left / size);
        std::memcpy(out, at, items * size);
        at += items * size;
        left -= items * size;
        return items;
    }
};

struct CallbackWriter : faiss::IOWriter {
    void* context;
    void (*write)(void*, const uint8_t*, size_t);
    CallbackWriter(void* context, void (*write)(void*, const uint8_t*, size_t)) : context(context), write(write) {}
    size_t operator()(const void* bytes, size_t size, size_t count) override {
        write(context, static_cast<const uint8_t*>(bytes), size * count);
        return count;
    }
};

} // namespace

extern "C" {

struct PagodaShape {
    int32_t kind;
    size_t dim;
    size_t rows;
    size_t nlist;
    size_t hnsw_m;
};

int pagoda_ann_build(const PagodaShape* shape, const float* rows, int threads, faiss::Index** out, char* message) {
    return guarded(message, [&] {
        if (!pagoda_ann_cpu_checked) throw std::runtime_error("the processor was not checked");
        omp_set_num_threads(threads);
        auto index = make(shape->kind, shape->dim, shape->nlist, shape->hnsw_m);
        index->train(faiss::idx_t(shape->rows), rows);
        index->add(faiss::idx_t(shape->rows), rows);
        *out = index.release();
    });
}

int pagoda_ann_search(
        const faiss::Index* index, const float* query, size_t k, const uint8_t* allowed, size_t allowed_bytes,
        size_t nprobe, int ef_search, float* scores, int64_t* rows, char* message) {
    return guarded(message, [&] {
        omp_set_num_threads(1); // of this thread: a search runs on one core, many searches run on many
        faiss::IDSelectorBitmap selector(allowed_bytes, allowed);
        faiss::SearchParameters plain;
        faiss::SearchParametersIVF ivf;
        faiss::SearchParametersHNSW graph;
        faiss::SearchParameters* parameters = &plain;
        if (dynamic_cast<const faiss::IndexIVF*>(index)) {
            ivf.nprobe = nprobe;
            parameters = &ivf;
        } else if (dynamic_cast<const faiss::IndexHNSW*>(index)) {
            graph.efSearch = ef_search;
            parameters = &graph;
        }
        parameters->sel = allowed ? &selector : nullptr;
        index->search(1, query, faiss::idx_t(k), scores, rows, parameters);
    });
}

// Exact nearest rows of many queries at once, by matrix products: ground truth.
int pagoda_ann_exact(
        const float* queries, size_t query_count, const float* rows, size_t row_count, size_t dim, size_t k,
        int threads, float* scores, int64_t* found, char* message) {
    return guarded(message, [&] {
        omp_set_num_threads(threads);
        faiss::knn_inner_product(queries, rows, dim, query_count, row_count, k, scores, found);
    });
}

// The score of one pair is the same bits wherever it is computed: here.
void pagoda_ann_scores(const float* query, const float* rows, size_t row_count, size_t dim, float* scores) {
    for (size_t i = 0; i < row_count; ++i) {
        scores[i] = faiss::fvec_inner_product(query, rows + i * dim, dim);
    }
}

int pagoda_ann_write(
        const faiss::Index* index, void* context, void (*write)(void*, const uint8_t*, size_t), char* message) {
    return guarded(message, [&] {
        CallbackWriter writer(context, write);
        faiss::write_index(index, &writer);
    });
}

int pagoda_ann_read(const uint8_t* bytes, size_t n, PagodaShape* shape, faiss::Index** out, char* message) {
    return guarded(message, [&] {
        SliceReader reader(bytes, n);
        std::unique_ptr<faiss::Index> index(faiss::read_index(&reader));
        shape->kind = kind_of(*index, &shape->nlist);
        if (shape->kind == 0 || index->metric_type != metric) throw std::runtime_error("a kind of index that is never built here");
        shape->dim = size_t(index->d);
        shape->rows = size_t(index->ntotal);
        *out = index.release();
    });
}

void pagoda_ann_free(faiss::Index* index) {
    delete index;
}
}
