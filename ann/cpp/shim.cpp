// The few things that Pagoda asks of Faiss, as C functions that throw nothing.
//
// Every entry returns 0, or 1 with a message. Lengths, finiteness and the truth of pointers are the caller's promise (src/ffi.rs), and so
// is that bytes to be read were understood by src/file.rs; parameters of a search live on the stack, so that concurrent searches share
// nothing that is written.

#include <omp.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexScalarQuantizer.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/ResultHandler.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <faiss/utils/distances.h>

extern "C" const int pagoda_ann_cpu_checked;

namespace {

constexpr size_t message_bytes = 512;
constexpr auto metric = faiss::METRIC_INNER_PRODUCT;

enum Kind : int32_t { flat = 1, ivf_flat = 2, ivf_sq8 = 3, hnsw = 4, ivf_pq_fs_refine = 5 };

#ifdef PAGODA_FAILPOINTS
// Which place throws, and after how many times it was passed. Places are numbered in src/failpoints.rs.
std::atomic<int> fail_place{0};
std::atomic<int> fail_after{0};

void fail_point(int place) {
    if (fail_place.load() == place && fail_after.fetch_sub(1) <= 0) throw faiss::FaissException("fail point");
}
#else
inline void fail_point(int) {}
#endif

enum FailPlace { in_build = 1, in_read = 2, in_write = 3, before_search = 4, within_search = 5, in_exact = 6 };

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

// Fast scan as Faiss 1.12 has it, but for one mistake: its tables take the index's own nprobe for that of the query, and read past what
// is there.
struct FastScan : faiss::IndexIVFPQFastScan {
    FastScan(faiss::Index* cells, size_t dim, size_t nlist, size_t m)
            : IndexIVFPQFastScan(cells, dim, nlist, m, 4, metric) {
        by_residual = true;
    }

    // Takes over what was read.
    explicit FastScan(faiss::IndexIVFPQFastScan& read) : IndexIVFPQFastScan(read) {
        fine_quantizer = &pq;
        read.own_fields = false;
        read.own_invlists = false;
    }

    void compute_LUT(
            size_t n, const float* x, const CoarseQuantized& cells, faiss::AlignedTable<float>& tables,
            faiss::AlignedTable<float>& biases) const override {
        tables.resize(n * pq.ksub * pq.M);
        pq.compute_inner_prod_tables(n, x, tables.get());
        if (by_residual) {
            biases.resize(n * cells.nprobe);
            std::memcpy(biases.get(), cells.dis, sizeof(float) * n * cells.nprobe);
        }
    }
};

// Allowed rows, one bit each.
struct Selector : faiss::IDSelector {
    const uint8_t* bits;
    size_t bytes;
    Selector(const uint8_t* bits, size_t bytes) : bits(bits), bytes(bytes) {}
    bool is_member(faiss::idx_t id) const override {
        fail_point(within_search);
        const size_t at = size_t(id) / 8;
        return at < bytes && (bits[at] >> (id % 8) & 1);
    }
};

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

struct Shape {
    int32_t kind;
    size_t dim;
    size_t rows;
    size_t nlist;
    size_t hnsw_m;
    size_t pq_m;
};

std::unique_ptr<faiss::Index> make(const Shape& shape) {
    const size_t dim = shape.dim, nlist = shape.nlist;
    if (shape.kind == hnsw) return std::make_unique<faiss::IndexHNSWFlat>(int(dim), int(shape.hnsw_m), metric);
    auto cells = std::make_unique<faiss::IndexFlatIP>(dim);
    auto* q = cells.get();
    switch (shape.kind) {
        case flat:
            return cells;
        case ivf_flat:
            return own_quantizer(std::move(cells), std::make_unique<faiss::IndexIVFFlat>(q, dim, nlist, metric));
        case ivf_sq8:
            return own_quantizer(
                    std::move(cells),
                    std::make_unique<faiss::IndexIVFScalarQuantizer>(
                            q, dim, nlist, faiss::ScalarQuantizer::QT_8bit, metric));
        case ivf_pq_fs_refine:
            return own_quantizer(std::move(cells), std::make_unique<FastScan>(q, dim, nlist, shape.pq_m));
        default:
            throw std::invalid_argument("unknown kind of index");
    }
}

struct SliceReader : faiss::IOReader {
    const uint8_t* at;
    size_t left;
    SliceReader(const uint8_t* bytes, size_t n) : at(bytes), left(n) {}
    size_t operator()(void* out, size_t size, size_t count) override {
        const size_t items = size == 0 ? 0 : std::min(count, left / size);
        if (items == 0) return 0;
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

// Faiss's own search of a graph, without the parallel region around it: what is thrown there would end the process. Which nodes were
// visited is kept by thread, because clearing it for a query costs as much as the query.
void search_graph(
        const faiss::IndexHNSW& index, const float* query, size_t k, const faiss::SearchParametersHNSW& parameters,
        float* scores, int64_t* rows) {
    thread_local std::unique_ptr<faiss::VisitedTable> visited;
    if (!visited || visited->visited.size() < size_t(index.ntotal)) {
        visited = std::make_unique<faiss::VisitedTable>(int(index.ntotal));
    }
    faiss::HeapBlockResultHandler<faiss::HNSW::C> results(1, scores, rows, k);
    faiss::HeapBlockResultHandler<faiss::HNSW::C>::SingleResultHandler result(results);
    auto distances = std::make_unique<faiss::NegativeDistanceComputer>(index.storage->get_distance_computer());
    result.begin(0);
    distances->set_query(query);
    try {
        index.hnsw.search(*distances, result, *visited, &parameters);
    } catch (...) {
        visited.reset();
        throw;
    }
    result.end();
    for (size_t i = 0; i < k; ++i) scores[i] = -scores[i];
}

} // namespace

extern "C" {

// What a search of one query is told.
struct PagodaSearch {
    const float* query;
    size_t k;
    // Allowed rows, one bit each; null: all.
    const uint8_t* allowed;
    size_t allowed_bytes;
    int ef_search;
    // Fast scan: the cells to visit and their scores.
    const int64_t* cells;
    const float* cell_scores;
    size_t nprobe;
};

int pagoda_ann_build(const Shape* shape, const float* rows, int threads, faiss::Index** out, char* message) {
    return guarded(message, [&] {
        if (!pagoda_ann_cpu_checked) throw std::runtime_error("the processor was not checked");
        fail_point(in_build);
        omp_set_num_threads(threads);
        auto index = make(*shape);
        index->train(faiss::idx_t(shape->rows), rows);
        index->add(faiss::idx_t(shape->rows), rows);
        *out = index.release();
    });
}

// A graph or a fast scan; the other kinds are searched without Faiss.
int pagoda_ann_search(
        const faiss::Index* index, const PagodaSearch* search, float* scores, int64_t* rows, char* message) {
    return guarded(message, [&] {
        fail_point(before_search);
        omp_set_num_threads(1); // of this thread: a search runs on one core, many searches run on many
        Selector selector(search->allowed, search->allowed_bytes);
        auto* sel = search->allowed ? &selector : nullptr;
        if (auto* graph = dynamic_cast<const faiss::IndexHNSW*>(index)) {
            faiss::SearchParametersHNSW parameters;
            parameters.efSearch = search->ef_search;
            parameters.sel = sel;
            search_graph(*graph, search->query, search->k, parameters, scores, rows);
        } else if (auto* scan = dynamic_cast<const FastScan*>(index)) {
            faiss::IVFSearchParameters parameters;
            parameters.nprobe = search->nprobe;
            parameters.sel = sel;
            scan->search_preassigned(
                    1, search->query, faiss::idx_t(search->k), search->cells, search->cell_scores, scores, rows, false,
                    &parameters);
        } else {
            throw std::invalid_argument("this kind of index is not searched by Faiss");
        }
    });
}

// Exact nearest rows of many queries at once, by matrix products: ground truth.
int pagoda_ann_exact(
        const float* queries, size_t query_count, const float* rows, size_t row_count, size_t dim, size_t k,
        int threads, float* scores, int64_t* found, char* message) {
    return guarded(message, [&] {
        fail_point(in_exact);
        omp_set_num_threads(threads);
        faiss::knn_inner_product(queries, rows, dim, query_count, row_count, k, scores, found);
    });
}

int pagoda_ann_write(
        const faiss::Index* index, void* context, void (*write)(void*, const uint8_t*, size_t), char* message) {
    return guarded(message, [&] {
        fail_point(in_write);
        CallbackWriter writer(context, write);
        faiss::write_index(index, &writer);
    });
}

int pagoda_ann_read(const uint8_t* bytes, size_t n, faiss::Index** out, char* message) {
    return guarded(message, [&] {
        fail_point(in_read);
        SliceReader reader(bytes, n);
        std::unique_ptr<faiss::Index> index(faiss::read_index(&reader));
        if (auto* scan = dynamic_cast<faiss::IndexIVFPQFastScan*>(index.get())) {
            index.reset(new FastScan(*scan));
        }
        *out = index.release();
    });
}

void pagoda_ann_free(faiss::Index* index) {
    delete index;
}

#ifdef PAGODA_FAILPOINTS
void pagoda_ann_fail(int place, int after) {
    fail_after = after;
    fail_place = place;
}
#endif
}
