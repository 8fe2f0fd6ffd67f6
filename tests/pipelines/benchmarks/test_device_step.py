"""What an exported step is, that what is drawn for it fits, and how its operations become programs of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.benchmarks import device_step

MODULE = """module @step {
  func.func public @main(%arg0: tensor<9x4xf32> loc("a"), %arg1: tensor<5xi32>) -> tensor<9x4xf32> {
    %0 = "stablehlo.gather"(%arg0, %arg1) <{dimension_numbers = #stablehlo.gather<offset_dims = [1], \
collapsed_slice_dims = [0], start_index_map = [0], index_vector_dim = 1>, slice_sizes = array<i64: 1, 4>}> : \
(tensor<9x4xf32>, tensor<5xi32>) -> tensor<5x4xf32> loc(#loc3)
    %1 = stablehlo.dot_general %0, %0, contracting_dims = [0] x [0] : (tensor<5x4xf32>, tensor<5x4xf32>) -> \
tensor<4x4xf32> loc(fused[#loc1, #loc2])
    %2 = stablehlo.dot %0, %1 : (tensor<5x4xf32>, tensor<4x4xf32>) -> tensor<5x4xf32>
    %3 = "stablehlo.scatter"(%arg0, %arg1, %2) <{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = \
[1], inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({
    ^bb0(%arg2: tensor<f32> loc(fused[#loc1, #loc2]), %arg3: tensor<f32>):
      %4 = stablehlo.add %arg2, %arg3 : tensor<f32> loc(#loc4)
      stablehlo.return %4 : tensor<f32>
    }) : (tensor<9x4xf32>, tensor<5xi32>, tensor<5x4xf32>) -> tensor<9x4xf32> loc(#loc5)
    return %3 : tensor<9x4xf32>
  }
}"""


def test_operations_are_found_with_what_they_compute_and_move() -> None:
    gather, first, second, scatter = device_step.operations(MODULE)
    assert [each.name for each in (gather, first, second, scatter)] == ["gather", "dot_general", "dot", "scatter"]
    assert first.flops() == 2 * 4 * 4 * 5
    assert second.flops() == 2 * 5 * 4 * 4
    assert gather.num_bytes() == 4 * (9 * 4 + 5 + 5 * 4)
    assert scatter.operands == ["tensor<9x4xf32>", "tensor<5xi32>", "tensor<5x4xf32>"]
    assert not any("loc" in each.text for each in (gather, first, second, scatter))


def test_an_operand_of_another_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"Operands must be of f32, .* Received: tensor<3xf64>"):
        device_step._dtype_of("tensor<3xf64>")


def test_operations_run_alone() -> None:
    pytest.importorskip("jax", reason="`make test-jax` installs JAX")
    found = device_step.operations(MODULE)
    module, updated = device_step.program_of(found)
    assert updated == [(3, 6)]
    operands = device_step._draw_operands(found)
    table, ids, values = (np.asarray(operand) for operand in operands[6:9])
    assert 0 <= ids.min() <= ids.max() < 9
    program = device_step.Program(module, updated, operands)
    assert program.run(2) > 0
    expected = table.copy()
    np.add.at(expected, ids, 2 * values)
    np.testing.assert_allclose(np.asarray(program._arguments[6]), expected, rtol=1e-5)
    assert program.moved_bytes(found) > 0
    shares = device_step._shares(found, step=1.0, steps=1, rounds=1)
    assert [part.split()[0] for part in shares.split(", ")] == ["gather", "scatter", "matrix"]


@pytest.mark.tensorflow
def test_every_argument_of_the_program_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_step, "CASES", {"two cohort heads": (2, False)})
    device_step.export(tmp_path, [8])
    ((name, case),) = json.loads((tmp_path / "cases.json").read_text()).items()
    assert (name, case["dtype"]) == ("batch 8, two cohort heads", "float32")
    assert (tmp_path / case["file"]).stat().st_size > 10_000
    kinds = [kind for kind, *_ in case["arguments"]]
    # 26 columns, three labels, a weight.
    assert kinds.count("row") == 30
    rng = np.random.default_rng(0)
    for kind, dtype, shape in case["arguments"]:
        drawn = device_step._draw(rng, kind, dtype, shape)
        assert (drawn.dtype.name, list(drawn.shape)) == (dtype, shape)
        assert np.all(drawn >= 0)
