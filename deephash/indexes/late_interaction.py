"""Search of documents by the codes of their tokens: late interaction (Khattab & Zaharia, SIGIR 2020) over bits."""

from typing import Any, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes, cut_codes
from deephash.conversion import PlainArguments, convert_numpy_numbers
from deephash.indexes.late_interaction_kernels import search_documents
from deephash.indexes.neighbour_lists import NOT_FOUND
from deephash.ranking.inputs import check_packed
from deephash.ranking.numba_engine import run_in_threads
from deephash.ranking.numba_layout import pack_words
from deephash.validation import InvalidInputError, as_numbers, check_bits, check_count, check_whole

# Memory for the distances of a block of queries on a GPU.
BLOCK_BYTES = 256 * 2**20
TOKENS = ITEMS = 32
# Id of a document without tokens, or of none, in the lower half of a key.
NO_DOCUMENT = 2**32 - 1


@final
class LateInteraction(PlainArguments):
    """Exact search of documents that have a code for each token, by the sum over query tokens of their nearest token.

    A late-interaction model of floats scores a document by Σᵢ maxⱼ qᵢᵀ dⱼ over its tokens j. With codes of ±1, qᵀ d is
    b - 2 h for the Hamming distance h, so the order is that of the distance Σᵢ minⱼ h(qᵢ, dⱼ); the score, as a sum of
    cosines, is tokens - 2 · distance / b. Threads of the CPU share the queries, and a Triton kernel
    compares them if the codes are on a GPU.

    Args:
        codes: packed codes of all tokens, uint8 (T, ⌈b/8⌉), document by document.
        offsets: whole numbers (N + 1,); the tokens of document i are at offsets[i] to offsets[i + 1]. A document
            without tokens is never found.
        bits: code length b; None uses all bits of the bytes.
        prefix: search in two stages: `factor` · k documents by the first bits of all tokens, then the k nearest of them
            by all bits. None searches exactly. For codes whose prefixes are codes, such as those of `NestedITQ`.
        factor: documents of the first stage for each requested one.
        threads: number of threads on the CPU; None uses torch's number.

    Raises:
        InvalidInputError: codes of the wrong length, offsets that do not ascend from 0 to T, a prefix that is not below
            b, or factor or threads below 1.

    References:
        Khattab & Zaharia, "ColBERT: efficient and effective passage search via contextualized late interaction over
        BERT", SIGIR 2020.

    Examples:
        >>> codes = torch.tensor([[0b0000], [0b1111], [0b0001], [0b0011]], dtype=torch.uint8)
        >>> index = LateInteraction(codes, [0, 2, 4], bits=4)  # two documents of two tokens
        >>> query = torch.tensor([[0b0000], [0b1111]], dtype=torch.uint8)
        >>> distances, ids = index.search(query, [0, 2], k=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 3]], [[0, 1]])
    """

    @convert_numpy_numbers
    def __init__(
        self,
        codes: Tensor | ArrayLike,
        offsets: Tensor | ArrayLike,
        bits: int | None = None,
        prefix: int | None = None,
        factor: int = 10,
        threads: int | None = None,
    ) -> None:
        codes = as_codes(codes)
        if codes.ndim != 2:
            raise InvalidInputError(f"codes have shape {tuple(codes.shape)}; expected packed codes (T, bytes).")
        bits = 8 * codes.shape[1] if bits is None else bits
        check_bits(bits)
        check_packed(codes, bits, "codes")
        check_count(factor, "factor")
        if threads is not None:
            check_count(threads, "threads")
        if prefix is not None:
            check_whole(prefix, 1, "prefix", bits - 1)
        self.bits, self.prefix, self.factor, self.threads = bits, prefix, factor, threads
        self.offsets = check_offsets(offsets, len(codes), "offsets")
        self.codes = codes.contiguous()
        self.size = len(self.offsets) - 1
        self._words = self._pack(self.codes)
        self._first = None if prefix is None else self._pack(cut_codes(self.codes, prefix))

    def __len__(self) -> int:
        return self.size

    @convert_numpy_numbers
    def search(
        self,
        codes: Tensor | ArrayLike,
        offsets: Tensor | ArrayLike,
        k: int = 10,
        among: Tensor | ArrayLike | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Find the k nearest documents of each query, nearest first; ties are ordered by id.

        Args:
            codes: packed codes of the tokens of all queries, uint8 (t, ⌈b/8⌉).
            offsets: whole numbers (q + 1,); the tokens of query i are at offsets[i] to offsets[i + 1], at least one.
            k: number of documents, 1 to N.
            among: documents to compare with each query, whole numbers (q, c), such as candidates of another index; -1
                for none. None compares all.

        Returns:
            Distances and ids, int64 (q, k). If fewer than k documents are compared, the last ids are -1, at the
            distance b + 1 for each token of the query.

        Raises:
            InvalidInputError: codes of the wrong length, a query without tokens, k above N, or an id in `among` that is
                not -1 to N - 1.
        """
        codes = as_codes(codes, "query codes").to(self.codes.device)
        check_packed(codes, self.bits, "query codes")
        starts = check_offsets(offsets, len(codes), "query offsets")
        if bool((starts.diff() == 0).any()):
            empty = int(torch.nonzero(starts.diff() == 0)[0])
            raise InvalidInputError(f"query {empty} has no tokens; leave it out.")
        check_whole(k, 1, "k", self.size)
        queries = len(starts) - 1
        listed = torch.empty(queries, 0, dtype=torch.int64) if among is None else self._check_among(among, queries)
        if self._first is not None and self.prefix is not None:
            depth = min(self.size, k * self.factor)
            first = self._pack(cut_codes(codes, self.prefix))
            listed = self._nearest(first, starts, self._first, self.prefix, listed, depth)[1]
        return self._nearest(self._pack(codes), starts, self._words, self.bits, listed, k)

    def _pack(self, codes: Tensor) -> Tensor:
        """Return codes as words: uint64 on the CPU, int32 on a GPU, (n, W)."""
        if codes.is_cpu:
            return torch.from_numpy(pack_words(codes.numpy()))
        padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 4))
        return padded.contiguous().view(torch.int32)

    def _check_among(self, among: Tensor | ArrayLike, queries: int) -> Tensor:
        given = torch.as_tensor(as_numbers(among, "among"))
        whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
        if not whole or given.ndim != 2 or len(given) != queries or not given.shape[1]:
            raise InvalidInputError(
                f"among has shape {tuple(given.shape)} and dtype {given.dtype}; expected whole numbers ({queries}, c), "
                "a row of document ids for each query."
            )
        listed = given.to("cpu", torch.int64)
        if bool(((listed < -1) | (listed >= self.size)).any()):
            wrong = int(listed[(listed < -1) | (listed >= self.size)][0])
            raise InvalidInputError(f"among contains {wrong}; expected ids from 0 to {self.size - 1}, or -1 for none.")
        # A document that is listed twice is found once.
        listed = listed.sort(1).values
        listed[:, 1:][listed[:, 1:] == listed[:, :-1]] = -1
        return listed.contiguous()

    def _nearest(
        self, queries: Tensor, starts: Tensor, codes: Tensor, bits: int, among: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """Return the k nearest documents of packed queries, among those that are listed, or all for no columns."""
        if not codes.is_cpu:
            return search_on_device(queries, starts, codes, self.offsets, bits + 1, among, k)
        distances, found = (torch.empty(len(starts) - 1, k, dtype=torch.int64) for _ in range(2))
        arrays = (queries, starts, codes, self.offsets, among)
        arguments = (*(tensor.numpy() for tensor in arrays), bits + 1, distances.numpy(), found.numpy())
        run_in_threads(search_documents, arguments, len(found), self.threads or torch.get_num_threads(), least=1)
        return distances, found


def search_on_device(
    queries: Tensor, starts: Tensor, codes: Tensor, offsets: Tensor, farthest: int, among: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Find the k nearest documents by the Triton kernel, in blocks of queries; see `search_documents`.

    Args:
        queries: words int32 (t, W) on the device.
        starts: int64 (q + 1,) on the CPU.
        codes: words int32 (T, W) on the device.
        offsets: int64 (N + 1,) on the CPU.
        farthest: distance b + 1 of a token without a partner.
        among: int64 (q, c) on the CPU, documents to compare, -1 for none; no columns for all.
        k: number of documents.

    Returns:
        Distances and ids, int64 (q, k) on the CPU.
    """
    from deephash.ranking.triton_late_interaction import document_distances_kernel

    device, everything = codes.device, among.shape[1] == 0
    documents = (torch.arange(len(offsets) - 1)[None] if everything else among).to(device)
    starts_there, offsets_there = starts.to(device), offsets.to(device)
    columns = documents.shape[1]
    step = max(1, BLOCK_BYTES // (24 * columns))
    parts = []
    for first in range(0, len(starts) - 1, step):
        block = starts_there[first : first + step + 1]
        listed = documents if everything else documents[first : first + step]
        distances = torch.empty(len(block) - 1, columns, dtype=torch.int32, device=device)
        document_distances_kernel[(columns, len(distances))](
            *(queries, block, codes, offsets_there, listed, distances, columns, 0 if everything else columns),
            *(codes.shape[1], farthest),
            TOKENS=TOKENS,
            ITEMS=ITEMS,
        )
        # Without tokens to compare, the distance is the farthest, and the id comes last.
        nothing = distances == farthest * block.diff()[:, None]
        keys = distances.to(torch.int64) << 32 | torch.where(nothing, NO_DOCUMENT, listed)
        taken = keys.topk(min(k, columns), largest=False, sorted=True).values.cpu()
        parts.append(taken)
    keys = torch.cat(parts)
    distances, found = keys >> 32, keys & NO_DOCUMENT
    found = found.masked_fill(found == NO_DOCUMENT, NOT_FOUND)
    missing = k - found.shape[1]
    if missing:
        ends = farthest * starts.diff()[:, None].expand(-1, missing)
        distances = torch.cat([distances, ends], 1)
        found = torch.nn.functional.pad(found, (0, missing), value=NOT_FOUND)
    return distances, found


def check_offsets(offsets: Any, tokens: int, name: str) -> Tensor:
    """Convert offsets to int64 (n + 1,) on the CPU.

    Raises:
        InvalidInputError: not whole numbers that ascend from 0 to the number of tokens.
    """
    given = torch.as_tensor(as_numbers(offsets, name))
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if whole and given.ndim == 1 and len(given) > 1:
        starts = given.to("cpu", torch.int64).contiguous()
        if int(starts[0]) == 0 and int(starts[-1]) == tokens and bool((starts.diff() >= 0).all()):
            return starts
    raise InvalidInputError(
        f"{name} have shape {tuple(given.shape)} and dtype {given.dtype}; expected whole numbers that ascend from 0 to "
        f"the number of codes, {tokens}, one more than there are documents or queries."
    )
