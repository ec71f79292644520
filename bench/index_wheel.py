"""The lowest rung of `make bench-index`: Faiss as its PyPI wheel has it, asked by requests of one line each (index_sides.py says which).

    index_wheel.py FOLDER        with the vectors of index_data.py
"""

import json
import pathlib
import resource
import sys
import time

import faiss
import numpy

FACTORIES = {"ivf_flat": "IVF{nlist},Flat", "ivf_sq8": "IVF{nlist},SQ8", "ivf_pq_fs_refine": "IVF{nlist},PQ{m}x4fsr"}
# Kinds whose codes are not the rows: what they find is scored anew from the rows, as `ann` does, or recall would differ.
REFINED = {"ivf_sq8", "ivf_pq_fs_refine"}
# Bytes rank nearly as rows do: so many more than k suffice.
BYTES_OVER_FETCH = 1.2
BLOCK = 65_536


class Wheel:
    """Vectors, and the index that was built or loaded last."""

    def __init__(self, folder: pathlib.Path, dim: int):
        self.folder, self.dim = folder, dim
        self.users = numpy.fromfile(folder / "users.f32", "<f4").reshape(-1, dim)
        self.index = None
        self.refined = None

    def build(self, kind: str, nlist: int) -> dict:
        """Trains and fills an index of its own."""
        rows = self.rows()
        index = faiss.index_factory(self.dim, FACTORIES[kind].format(nlist=nlist, m=self.dim // 2), faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = 64
        index.train(rows)
        index.add(rows)
        return {}

    def load(self, file: str, kind: str) -> dict:
        """The index that the other side wrote."""
        self.index, self.refined = faiss.read_index(file), None
        if kind in REFINED:
            self.flat = faiss.IndexFlatIP(self.dim)
            self.flat.add(self.rows())
            self.refined = faiss.IndexRefine(self.index, self.flat)
        return {}

    def search(self, k: int, nprobe: int, first: int, count: int, over_fetch: int = 0, mask: str = "", hits: str = "") -> dict:
        """One query at a time on one thread."""
        index, told = self.told(nprobe, over_fetch, mask)
        users = [self.users[n : n + 1] for n in range(first, first + count)]
        began = time.process_time()
        found = [index.search(user, k, params=told)[1] for user in users]
        seconds = time.process_time() - began
        if hits:
            numpy.concatenate(found).astype("<i4").tofile(hits)
        return {"search_cpu_s": seconds}

    def told(self, nprobe: int, over_fetch: int, mask: str):
        """The index to ask, and the parameters of a search. A fast scan that is refined takes the index's own nprobe."""
        self.bitmap = numpy.fromfile(mask, "u1") if mask else None
        selector = faiss.IDSelectorBitmap(self.bitmap) if mask else None
        if self.refined is None:
            return self.index, faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        self.index.nprobe = nprobe
        self.base_told = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        return self.refined, faiss.IndexRefineSearchParameters(k_factor=over_fetch or BYTES_OVER_FETCH, base_index_params=self.base_told)

    def overhead(self, count: int) -> dict:
        """Calls that search one row: what Python adds to each."""
        index = faiss.IndexFlatIP(self.dim)
        index.add(self.users[:1])
        told = faiss.SearchParameters()
        began = time.process_time()
        for _ in range(count):
            index.search(self.users[:1], 1, params=told)
        return {"search_cpu_s": time.process_time() - began}

    def exact(self, k: int, count: int, hits: str, mask: str = "") -> dict:
        """The truth: scores of the k best rows that may be found, by matrix products; minus infinity where there are fewer."""
        best = numpy.full((count, k), -numpy.inf, "f4")
        allowed = numpy.unpackbits(numpy.fromfile(mask, "u1"), bitorder="little").astype(bool) if mask else None
        rows = self.rows()
        for first in range(0, len(rows), BLOCK):
            scores = self.users[:count] @ rows[first : first + BLOCK].T
            if mask:
                scores = scores[:, allowed[first : first + scores.shape[1]]]
            both = numpy.concatenate((best, scores), axis=1)
            best = numpy.partition(both, -k, axis=1)[:, -k:]
        best.sort(axis=1)
        best[:, ::-1].astype("<f4").tofile(hits)
        return {}

    def rows(self) -> numpy.ndarray:
        """The items, mapped."""
        return numpy.memmap(self.folder / "items.f32", "<f4", "r").reshape(-1, self.dim)

    def recall(self, hits: str, exact: str, k: int, count: int) -> dict:
        """The share of the exact hits that were found, by their scores."""
        found = numpy.fromfile(hits, "<i4").reshape(count, k)
        least = numpy.fromfile(exact, "<f4").reshape(count, k)
        rows, shares = self.rows(), []
        for number in range(count):
            real = least[number][numpy.isfinite(least[number])]
            scores = rows[found[number][found[number] >= 0]] @ self.users[number]
            shares.append(min((scores >= real[-1] - 1e-5).sum(), len(real)) / len(real) if len(real) else 1.0)
        return {"recall": float(numpy.mean(shares))}


def main() -> int:
    """Answers requests until there are none."""
    faiss.omp_set_num_threads(1)
    wheel = Wheel(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.monotonic(), time.process_time()
        answer = getattr(wheel, request.pop("do"))(**request)
        answer |= {"wall_s": time.monotonic() - wall, "cpu_s": time.process_time() - cpu, "version": faiss.__version__}
        answer["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer["memory_mib"] = memory_mib()
        print(json.dumps(answer), flush=True)
    return 0


def memory_mib() -> float:
    """What this process holds that is no file's."""
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(status["RssAnon"].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
