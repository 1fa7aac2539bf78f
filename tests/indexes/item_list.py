"""A plain list of items beside an index, which is changed in the same way and searched by comparing bits."""

import numpy as np
import polars
import pytest
import torch

import deephash
from deephash.validation import InvalidInputError

NAMINGS = ["none", "whole", "words"]


def random_codes(rng, rows, bits):
    """Codes around few centres, with many ties and copies."""
    centres = np.random.default_rng(0).random((4, bits)) < 0.5
    bools = centres[rng.integers(0, 4, rows)] ^ (rng.random((rows, bits)) < 0.1)
    return np.packbits(bools, axis=1, bitorder="little")


class ItemList:
    """A plain list of items (id, name, code, price), searched by comparing bits."""

    def __init__(self, kind, naming, bits, rng, rows, **settings):
        self.bits, self.rng, self.naming, self.next_id, self.last_name = bits, rng, naming, 0, 0
        self.items = []
        codes = random_codes(rng, rows, bits)
        names, columns = self.new_names(rows), self.new_columns(rows)
        self.take(codes, names, columns)
        self.index = deephash.index(codes, kind, bits=bits, names=names, columns=columns, **settings)

    def new_names(self, count):
        if self.naming == "none":
            return None
        numbers = [self.last_name + place for place in range(count)]
        self.last_name += count
        self.rng.shuffle(numbers)
        return np.array(numbers) * 3 - 5 if self.naming == "whole" else [f"é{'x' * (n % 7)}{n}" for n in numbers]

    def new_columns(self, count):
        return {"price": self.rng.integers(0, 10, count), "in_stock": self.rng.random(count) < 0.5}

    def take(self, codes, names, columns):
        for place in range(len(codes)):
            name = self.next_id if names is None else names[place]
            self.items.append((self.next_id, name, codes[place], columns["price"][place], columns["in_stock"][place]))
            self.next_id += 1

    def some_names(self):
        count = int(self.rng.integers(0, len(self.items) + 1))
        chosen = self.rng.permutation(len(self.items))[:count]
        return [self.items[place][1] for place in chosen]

    def add(self):
        count = int(self.rng.integers(0, 9))
        codes, names, columns = random_codes(self.rng, count, self.bits), self.new_names(count), self.new_columns(count)
        first = self.next_id
        self.take(codes, names, columns)
        assert self.index.add(codes, names=names, columns=columns).tolist() == list(range(first, self.next_id))

    def remove(self):
        gone = self.some_names()[: int(self.rng.integers(0, 12))]
        self.index.remove(gone)
        self.items = [item for item in self.items if item[1] not in gone]

    def remove_most(self):
        gone = self.some_names()
        self.index.remove(gone)
        self.items = [item for item in self.items if item[1] not in gone]

    def update(self):
        names = self.some_names()[:5]
        codes, columns = random_codes(self.rng, len(names), self.bits), self.new_columns(len(names))
        if self.naming == "none":
            with pytest.raises(InvalidInputError, match="has no names to update"):
                self.index.update(codes, names, columns)
            return
        self.items = [item for item in self.items if item[1] not in names]
        self.take(codes, names, columns)
        self.index.update(codes, names, columns)

    def compact(self):
        if self.items:
            self.index.compact()
            assert self.index.items.rows == len(self.items)

    def reload(self, folder):
        if self.items:
            self.index.save(folder)
            self.index = deephash.load_index(folder, engine="trust")

    def filters(self):
        """Filters, each with the items that it selects."""
        yield None, self.items
        mask = self.rng.random(len(self.items)) < self.rng.random()
        yield mask, [item for item, kept in zip(self.items, mask, strict=True) if kept]
        names = self.some_names()
        yield names, [item for item in self.items if item[1] in names]
        limit = int(self.rng.integers(0, 11))
        yield f"price < {limit} AND in_stock", [item for item in self.items if item[3] < limit and item[4]]
        yield polars.col("id") % 3 == 0, [item for item in self.items if item[0] % 3 == 0]

    def check(self, *, any_tie=False, radius=True):
        index = self.index
        assert len(index) == len(self.items)
        assert index.ids.tolist() == [item[0] for item in self.items]
        assert index.named(index.ids).tolist() == [item[1] for item in self.items]
        if not self.items:
            return
        queries = random_codes(self.rng, int(self.rng.integers(1, 9)), self.bits)
        queries[0] = self.items[int(self.rng.integers(len(self.items)))][2]
        for where, chosen in self.filters():
            k = int(self.rng.integers(1, len(self.items) + 1))
            distances, ids = index.search(queries, k, where=where)
            assert distances.dtype == ids.dtype == torch.int64
            for query, near, found in zip(queries, distances.tolist(), ids.tolist(), strict=True):
                nearest = sorted((int(np.unpackbits(query ^ item[2]).sum()), item[0]) for item in chosen)
                padded = (nearest + [(self.bits + 1, -1)] * k)[:k]
                assert near == [distance for distance, _ in padded]
                assert any_tie or found == [row for _, row in padded]
                assert set(found) <= {-1, *(item[0] for item in chosen)}
            if radius:
                reach = int(self.rng.integers(0, self.bits + 1))
                within = index.within(queries, reach, where=where)
                for place, query in enumerate(queries):
                    nearest = sorted((int(np.unpackbits(query ^ item[2]).sum()), item[0]) for item in chosen)
                    own = slice(within.offsets[place], within.offsets[place + 1])
                    listed = list(zip(within.distances[own].tolist(), within.ids[own].tolist(), strict=True))
                    assert listed == [pair for pair in nearest if pair[0] <= reach]
