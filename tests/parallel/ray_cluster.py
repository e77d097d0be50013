"""A Ray cluster of two nodes with two cores each, on this machine: prints its address."""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    memory = 80 * 2**20
    options = {"num_cpus": 2, "object_store_memory": memory, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    cluster.add_node(num_cpus=2, object_store_memory=memory)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
