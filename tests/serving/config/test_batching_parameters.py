import pytest
from c2al_serving.config.batching_parameters import BatchingParameters, read_batching_parameters


def test_parameters_of_the_real_server(tmp_path) -> None:
    path = tmp_path / "batching.config"
    path.write_text(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 7 }\n"
        "num_batch_threads { value: 3 } thread_pool_name { value: 'pool' }\n"
        "allowed_batch_sizes: 32 allowed_batch_sizes: 128"
    )
    assert read_batching_parameters(path) == BatchingParameters(128, 500, 7, 3, (32, 128))
    path.write_text("")
    assert read_batching_parameters(path) == BatchingParameters()
    path.write_text(
        "max_batch_size { value: 512 } enable_large_batch_splitting { value: true } pad_variable_length_inputs: true\n"
        "max_execution_batch_size { value: 128 }"
    )
    assert read_batching_parameters(path) == BatchingParameters(
        512, pad_variable_length_inputs=True, max_execution_batch_size=128
    )
    path.write_text("max_execution_batch_size { value: 128 }")
    assert read_batching_parameters(path) == BatchingParameters()  # only where batches are split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batchsize { value: 3 }", 'batching.config: .*no field named "max_batchsize"'),
        ("max_batch_size { value: 0 }", "`max_batch_size` must be at least 1. Received: max_batch_size=0"),
        ("batch_timeout_micros { value: -1 }", "`batch_timeout_micros` must be at least 0"),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2000 }",
            "`max_execution_batch_size` may be at most `max_batch_size`. Received: 2000, max_batch_size=1000",
        ),
        ("allowed_batch_sizes: 8", r"must increase, and end in `max_batch_size`. Received: \[8\], max_batch_size=1000"),
    ],
)
def test_parameters_that_cannot_be(tmp_path, text, message) -> None:
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_batching_parameters(path)
