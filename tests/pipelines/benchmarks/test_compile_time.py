from c2al_pipelines.benchmarks.compile_time import cases, first_step

from c2al_tf.model import build_model


def test_models_have_the_fields_of_what_they_stand_for() -> None:
    shapes = {
        name: build_model(case.schema, case.model).get_layer("block_0").output.shape for name, case in cases().items()
    }
    assert shapes == {"demo": (None, 10, 8), "Census-Income": (None, 40, 16)}


def test_the_first_step_is_timed_and_its_operations_counted() -> None:
    seconds, operations = first_step(cases()["demo"], jit_compile=False)
    assert seconds > 0
    assert operations > 100
