"""How the clients reach servers: several addresses, servers that die, are full or silent, proxies, metadata, forks."""

import asyncio
import contextlib
import os
import pickle
import shutil
import signal
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from c2al_serving.async_client import AsyncPredictClient
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.requests.model_client import open_channel


@pytest.fixture
def two_servers(serving_process, export, tmp_path):
    """Servers of version 1 and of version 2, by version."""
    shutil.copytree(export.base_path / "1", tmp_path / "first" / "1")
    with serving_process(tmp_path / "first") as first, serving_process(export.base_path) as second:
        yield {1: first, 2: second}


def addresses(servers):
    return "ipv4:" + ",".join(f"127.0.0.1:{server.grpc_port}" for server in servers.values())


def versions(client):
    return [status.version for status in client.status()]


def test_requests_go_to_all_addresses_in_turn(two_servers, until):
    with PredictClient(addresses(two_servers)) as client:
        met = set()
        until(lambda: met.update(versions(client)) or met == {1, 2})  # both are connected now
        asked = [version for _ in range(100) for version in versions(client)]
    assert len(asked) == 100
    assert 40 <= asked.count(1) <= 60


def test_requests_of_coroutines_go_to_all_addresses_in_turn(two_servers):
    async def run():
        async with AsyncPredictClient(addresses(two_servers)) as client, asyncio.timeout(300):
            met = set()
            while met != {1, 2}:
                met.add((await client.status())[0].version)
            return [(await client.status())[0].version for _ in range(100)]

    assert 40 <= asyncio.run(run()).count(1) <= 60


@pytest.mark.parametrize("retries", [0, 3])
def test_a_server_of_two_is_killed(two_servers, export, until, retries):
    """It has requests of every thread when it dies: without retries they fail, else the other one answers them."""
    columns = {name: np.resize(column, (2000, *column.shape[1:])) for name, column in export.columns.items()}
    columns["city"] = np.array(["x" * 200] * 2000, object)  # more than gRPC retries by default
    first, errors, going, waiting = two_servers[1].process, [], threading.Event(), [0] * 8

    with PredictClient(addresses(two_servers), retries=retries) as client:

        def ask(thread):
            while not going.is_set():
                waiting[thread] += 1
                try:
                    assert client.predict(columns)["logits"].shape == (2000, 1)
                except PredictError as error:
                    errors.append(error)

        met = set()
        until(lambda: met.update(versions(client)) or met == {1, 2})
        with ThreadPoolExecutor(8) as pool:
            threads = [pool.submit(ask, thread) for thread in range(8)]
            try:
                until(lambda: min(waiting) > 1)
                os.kill(first.pid, signal.SIGSTOP)
                until(lambda: _stand_still(waiting))
                os.kill(first.pid, signal.SIGKILL)
                before = waiting.copy()
                until(lambda: min(waiting) > max(before) + 2)
            finally:
                going.set()
                os.kill(first.pid, signal.SIGKILL)
        for thread in threads:
            thread.result()
    assert (errors == []) == (retries > 0), errors


def _stand_still(counts):
    before = counts.copy()
    threading.Event().wait(1)
    return counts == before


@pytest.mark.parametrize("retries", [0, 3])
def test_a_server_that_refuses_all_gets_a_tenth_more_requests_at_most(answering, retries):
    counts, lock = {"GetModelStatus": 0}, threading.Lock()

    def refuse(method, _request, context):
        with lock:
            counts[method] += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")

    with answering(refuse) as target, PredictClient(target, retries=retries) as client:

        def ask(_):
            with pytest.raises(PredictError, match="the queue is full"):
                client.status()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(1000)))
    if retries:
        assert 1000 < counts["GetModelStatus"] <= 1100
    else:
        assert counts["GetModelStatus"] == 1000


_STATUS_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
method = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
handler = grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", {"GetModelStatus": method})
server = grpc.server(ThreadPoolExecutor(1), [handler])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def test_a_server_that_falls_silent_is_noticed(start_process):
    """Long before the request's time is over."""
    pings = {
        name: 1000 for name in ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    }
    with start_process([sys.executable, "-c", _STATUS_SERVER]) as process:
        target = f"127.0.0.1:{int(process.stdout.readline())}"
        with PredictClient(target, retries=0, options=pings) as client:
            assert client.status() == []
            os.kill(process.pid, signal.SIGSTOP)
            with pytest.raises(PredictError) as silent:
                client.status()
    assert silent.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("timeout", [1, 10, 90, 600])
def test_pings_are_those_that_a_server_permits_by_default(timeout):
    """Not more than three in a request's time: gRPC's servers close the connection at the fourth."""
    transport = types.SimpleNamespace(insecure_channel=lambda _target, options: dict(options))
    options = open_channel(transport, "localhost:1", None, {}, 3, timeout)
    assert options["grpc.keepalive_time_ms"] >= 30_000
    assert 3 * options["grpc.keepalive_time_ms"] >= 1000 * timeout
    assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"] == 10_000
    assert not options.keys() & {"grpc.keepalive_permit_without_calls", "grpc.http2.max_pings_without_data"}


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_of_the_environment_is_not_used(server, monkeypatch, name, host):
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    with PredictClient(f"{host}:{server.grpc_port}") as client:
        assert client.status()[0].state == "AVAILABLE"
    wanted = {"grpc.enable_http_proxy": 1}
    client = PredictClient(f"{host}:{server.grpc_port}", options=wanted, retries=0)
    with client, pytest.raises(PredictError, match="UNAVAILABLE"):
        client.status()


@contextlib.contextmanager
def echoing(answering):
    """A server that refuses all with the metadata that it got."""

    def refuse(_method, _request, context):
        context.set_trailing_metadata(
            [(key, value) for key, value in context.invocation_metadata() if key != "user-agent"]
        )
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    with answering(refuse) as target:
        yield target


CALLS = {
    "predict": ({"x": [1.0]},),
    "predict_examples": ([b""],),
    "classify": ([b""],),
    "regress": ([b""],),
    "metadata": (),
    "status": (),
    "pin": (),
}


@pytest.mark.parametrize("method", CALLS)
def test_metadata_goes_with_every_call(answering, method):
    """The client's, and the call's beside it or, for the same key, instead."""
    own = {"authorization": "Bearer abc", "trace": "none"}
    given = {"trace": "17", "span-bin": b"\0\xff"}

    async def run(target):
        async with AsyncPredictClient(target, metadata=own) as client:
            await getattr(client, method)(*CALLS[method], metadata=given)

    with echoing(answering) as target:
        with PredictClient(target, metadata=own) as client, pytest.raises(PredictError) as blocking:
            getattr(client, method)(*CALLS[method], metadata=given)
        with PredictClient(target, metadata=own) as client, pytest.raises(PredictError) as without:
            getattr(client, method)(*CALLS[method])
        with pytest.raises(PredictError) as awaited:
            asyncio.run(run(target))
    assert blocking.value.trailing_metadata == awaited.value.trailing_metadata == own | given
    assert without.value.trailing_metadata == own


@pytest.mark.parametrize("metadata", [{"Trace": "1"}, {"a b": "1"}, {"trace": "é"}, {"trace": "a\nb"}])
def test_metadata_that_grpc_does_not_take(metadata):
    """An error of the caller's, not the server's."""

    async def run():
        async with AsyncPredictClient("127.0.0.1:1", metadata=metadata) as client:
            await client.status()

    with PredictClient("127.0.0.1:1") as client, pytest.raises(ValueError, match="`metadata` must have") as blocking:
        client.status(metadata=metadata)
    with pytest.raises(ValueError, match="`metadata` must have") as awaited:
        asyncio.run(run())
    assert type(blocking.value) is type(awaited.value) is ValueError


def test_an_error_carries_what_the_server_says(answering):
    with (
        echoing(answering) as target,
        PredictClient(target, "ads", metadata={"a": "b"}) as client,
        pytest.raises(PredictError, match=f"model 'ads' at {target}: PERMISSION_DENIED: not you") as refused,
    ):
        client.status()
    for error in (refused.value, pickle.loads(pickle.dumps(refused.value))):  # as between processes
        assert isinstance(error, PredictError)
        assert str(error) == str(refused.value)
        assert (error.code, error.details) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        assert error.trailing_metadata == {"a": "b"}


@pytest.mark.parametrize(("keywords", "seconds"), [({}, 1000), ({"timeout": None}, 1000), ({"timeout": 5000}, 5000)])
def test_timeout_of_a_call(answering, keywords, seconds):
    def refuse(_method, _request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{context.time_remaining()}")

    async def run(target):
        async with AsyncPredictClient(target, timeout=1000) as client:
            await client.status(**keywords)

    with answering(refuse) as target:
        with PredictClient(target, timeout=1000) as client, pytest.raises(PredictError) as blocking:
            client.status(**keywords)
        with pytest.raises(PredictError) as awaited:
            asyncio.run(run(target))
    for refused in (blocking, awaited):
        assert seconds - 500 < float(refused.value.details) <= seconds


_FORK = """
import os, sys
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "1"  # on by default in newer versions
from c2al_serving.client import PredictClient
with PredictClient(sys.argv[1]) as client:
    client.status()
    child = os.fork()
    if not child:
        try:
            client.status()
        except RuntimeError as error:
            print(error, flush=True)
        with PredictClient(sys.argv[1]) as own:
            print(own.status()[0].state, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(os.getpid(), client.status()[0].state)
"""


def test_a_forked_process_makes_its_own_client(server, run_python):
    refused, child, parent = run_python(_FORK, f"127.0.0.1:{server.grpc_port}").stdout.splitlines()
    process, state = parent.split()
    assert refused == f"a forked process must make its own client. Received: one of process {process}"
    assert child == state == "AVAILABLE"
