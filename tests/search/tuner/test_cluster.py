"""Addresses of clusters, and how many trials fit on a node."""

import socket
import time

import pytest

from mgnas.search.config import Resources
from mgnas.search.tuner.cluster import Cluster, _fits, check_address, check_reachable


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "ray://head:10001", "[::1]:6379"])
def test_addresses_of_clusters(address):
    check_address(address)


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "head:0", "head:65536", "http://head:80", "head:٣"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(refusal, address):
    message = refusal(lambda: check_address(address))
    assert message == f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT"


def test_a_port_where_nobody_listens_is_refused_at_once(refusal):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    assert refusal(lambda: check_reachable(address)).startswith(f"--address {address}: no Ray cluster answers there (")


@pytest.mark.parametrize(
    ("available", "per_trial", "count"),
    [
        ({"CPU": 8}, {"CPU": 1, "GPU": 0}, 8),
        ({"CPU": 8}, {"CPU": 3}, 2),
        ({"CPU": 8}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 8, "GPU": 2}, {"CPU": 1, "GPU": 0.25}, 8),
        ({"CPU": 64, "GPU": 2}, {"CPU": 1, "GPU": 0.4}, 4),
        ({"CPU": 64, "GPU": 4}, {"CPU": 1, "GPU": 2}, 2),
        ({"CPU": 7, "GPU": 2}, {"CPU": 1, "TPU": 1}, 0),
        ({"CPU": 8, "A100": 1}, {"CPU": 1, "A100": 0.1}, 8),
    ],
)
def test_the_scarcest_resource_decides_how_many_trials_fit(available, per_trial, count):
    assert _fits(available, per_trial) == count


def test_the_limit_follows_the_cluster():
    cluster = Cluster(Resources(workers=5), "127.0.0.1:1")
    cluster._looked = time.monotonic() + 1000
    for fits, expected in ((0, 2), (3, 4), (9, 5)):  # one more than fit waits, so that an autoscaler sees it
        cluster._fits = fits
        assert cluster.limit() == expected
    unbounded = Cluster(Resources(), "127.0.0.1:1")
    unbounded._looked, unbounded._fits = cluster._looked, 3
    assert unbounded.limit() == 3
