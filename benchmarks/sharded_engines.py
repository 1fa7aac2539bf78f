"""Run the schemas of docs/scale.md on engines with their own shards, and compare the results with a scan.

python benchmarks/sharded_engines.py postgres COORDINATOR SHARD SHARD ...   connection strings of PostgreSQL 14 or later
python benchmarks/sharded_engines.py milvus http://localhost:19530

Creates a table or collection `items`, which must not exist, loads codes, finds the nearest codes of queries, compares
them with a scan by NumPy, prints wall-clock times and removes the table. PostgreSQL needs `psycopg`, Milvus `pymilvus`.
"""

import argparse
import time

import numpy as np

BITS, CENTRES, FLIPPED, BLOCK = 64, 2_000, 0.08, 10_000


def draw_clustered_codes(n, seed):
    """Draw packed codes uint8 (n, 8) around centres that all seeds share."""
    centres = np.random.default_rng(0).random((CENTRES, BITS)) < 0.5
    draw = np.random.default_rng([1, seed])
    bits = centres[draw.integers(0, CENTRES, n)] ^ (draw.random((n, BITS)) < FLIPPED)
    return np.packbits(bits, axis=1, bitorder="little")


def compute_distances(codes, query):
    """Compute the Hamming distances of all codes, int64 (n,)."""
    return np.bitwise_count(codes ^ query).sum(1, dtype=np.int64)


def find_nearest(codes, query, k):
    """Return pairs of id and distance of the k nearest, with the lower id first among ties."""
    distances = compute_distances(codes, query)
    ids = np.argsort(distances, kind="stable")[:k]
    return list(zip(ids.tolist(), distances[ids].tolist(), strict=True))


def format_bits(code):
    return "".join(map(str, np.unpackbits(code, bitorder="little")))


class Postgres:
    """Hash partitions that are foreign tables of other servers: postgres_fdw, which comes with PostgreSQL."""

    def __init__(self, coordinator, *shards):
        import psycopg

        self.shards = [psycopg.connect(one, autocommit=True) for one in shards]
        self.coordinator = psycopg.connect(coordinator, autocommit=True)
        self.places = [psycopg.conninfo.conninfo_to_dict(one) for one in shards]

    def create(self):
        """Create the tables of the shards and the coordinator's table over them."""
        run = self.coordinator.execute
        run("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
        run("CREATE TABLE items (id bigint NOT NULL, code bit(64) NOT NULL) PARTITION BY HASH (id)")
        for number, (shard, place) in enumerate(zip(self.shards, self.places, strict=True)):
            shard.execute("CREATE TABLE items (id bigint PRIMARY KEY, code bit(64) NOT NULL)")
            user = place.pop("user", "postgres")
            options = ", ".join(f"{name} '{value}'" for name, value in place.items())
            run(
                f"CREATE SERVER shard_{number} FOREIGN DATA WRAPPER postgres_fdw "
                f"OPTIONS ({options}, async_capable 'true')"
            )
            run(f"CREATE USER MAPPING FOR CURRENT_USER SERVER shard_{number} OPTIONS (user '{user}')")
            run(
                f"CREATE FOREIGN TABLE items_{number} PARTITION OF items FOR VALUES WITH (MODULUS {len(self.shards)}, "
                f"REMAINDER {number}) SERVER shard_{number} OPTIONS (table_name 'items', batch_size '1000')"
            )

    def add(self, first, codes):
        """Store codes with ids from the first on; the coordinator finds each one's shard."""
        with self.coordinator.cursor() as cursor, cursor.copy("COPY items FROM STDIN") as copy:
            for row, code in enumerate(codes, first):
                copy.write_row((row, format_bits(code)))

    def build_query(self, k):
        """Build the query for the k nearest of each shard and the k nearest among these.

        Each branch has the limit, since PostgreSQL does not push it through a partitioned table. Sorting by an
        expression lets it query all shards at once. To sort by the column itself, it would merge their sorted results
        and start each shard after the previous one.
        """
        branches = (
            f"(SELECT id, bit_count(code # %(code)s::bit(64)) AS distance FROM items_{number} "
            f"ORDER BY distance, id LIMIT {k})"
            for number in range(len(self.shards))
        )
        return f"SELECT id, distance FROM ({' UNION ALL '.join(branches)}) AS near ORDER BY distance + 0, id LIMIT {k}"

    def search(self, code, k):
        """Return ids and distances of the k nearest, with the lower id first among ties."""
        return self.coordinator.execute(self.build_query(k), {"code": format_bits(code)}).fetchall()

    def describe(self):
        """Describe whether shards are queried in parallel, and how many rows each may send."""
        plan = self.coordinator.execute("EXPLAIN (VERBOSE) " + self.build_query(10), {"code": "0" * BITS}).fetchall()
        plan = "\n".join(line for (line,) in plan)
        return f"{plan.count('Async Foreign Scan')} shards in parallel, {plan.count('LIMIT 10')} send 10 rows"

    def remove(self):
        """Drop the tables and servers that `create` made."""
        self.coordinator.execute("DROP TABLE IF EXISTS items")
        for number, shard in enumerate(self.shards):
            self.coordinator.execute(f"DROP SERVER IF EXISTS shard_{number} CASCADE")
            shard.execute("DROP TABLE IF EXISTS items")


class Milvus:
    """A collection of several shards."""

    def __init__(self, address):
        from pymilvus import MilvusClient

        self.client = MilvusClient(address)

    def create(self):
        """Create the collection and its index without loading it, since loading fixes the number of replicas."""
        from pymilvus import DataType, MilvusClient

        if "items" in self.client.list_collections():
            raise SystemExit("the collection `items` exists already; drop it or use another server")
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("code", DataType.BINARY_VECTOR, dim=BITS)
        self.client.create_collection("items", schema=schema, num_shards=8)
        index = MilvusClient.prepare_index_params()
        index.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        self.client.create_index("items", index)

    def add(self, first, codes):
        """Store codes with ids from the first on."""
        self.client.insert("items", [{"id": row, "code": code.tobytes()} for row, code in enumerate(codes, first)])
        self.client.load_collection("items", replica_number=1)

    def search(self, code, k):
        """Return ids and distances of the k nearest among all stored codes."""
        (found,) = self.client.search("items", [code.tobytes()], limit=k, consistency_level="Strong")
        return [(one["id"], int(one["distance"])) for one in found]

    def describe(self):
        """Describe the number of shards."""
        return f"{self.client.describe_collection('items')['num_shards']} shards"

    def remove(self):
        """Drop the collection."""
        self.client.drop_collection("items")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("postgres", "milvus"))
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    codes, queries = draw_clustered_codes(arguments.items, 2), draw_clustered_codes(arguments.queries, 1)
    engine = {"postgres": Postgres, "milvus": Milvus}[arguments.engine](*arguments.addresses)
    engine.create()
    try:
        started = time.perf_counter()
        for first in range(0, len(codes), BLOCK):
            engine.add(first, codes[first : first + BLOCK])
        loaded = time.perf_counter() - started
        same, times = 0, []
        for query in queries:
            started = time.perf_counter()
            found = engine.search(query, arguments.k)
            times.append(time.perf_counter() - started)
            truth = find_nearest(codes, query, arguments.k)
            # The engine chooses among the items at the k-th distance.
            assert [distance for _, distance in found] == [distance for _, distance in truth], "distances differ"
            assert all(compute_distances(codes[[row]], query)[0] == distance for row, distance in found), "ids differ"
            assert len({row for row, _ in found}) == arguments.k, "an item is returned twice"
            same += found == truth
        print(
            f"{engine.describe()}: {len(queries)} answers have a scan's distances, {same} the same ids; "
            f"loaded in {loaded:.1f} s, {1e3 * np.median(times):.1f} ms a query"
        )
    finally:
        engine.remove()


if __name__ == "__main__":
    main()
