"""Each format is run by its own runtime. The packages are large, so these tests make an environment for each."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]

SCRIPT = """
import json, sys
from pathlib import Path
import numpy, torch, mgnas
folder, kind = Path(sys.argv[1]), sys.argv[2]
images = numpy.load(sys.argv[3])
file = mgnas.export(folder, kind)
if kind == "executorch":
    from executorch.runtime import Runtime
    program = Runtime.get().load_program(str(file))
    method = program.load_method("forward")
    logits = [method.execute([torch.from_numpy(images[i : i + 1])])[0].tolist()[0] for i in range(len(images))]
    names = json.loads(program.load_method("class_names").execute([])[0])
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == numpy.uint8
    logits = []
    for i in range(len(images)):
        interpreter.set_tensor(given["index"], images[i : i + 1])
        interpreter.invoke()
        logits += interpreter.get_tensor(result["index"]).tolist()
    names = json.loads((folder / "exports.json").read_text())["litert"]["class_names"]
with torch.inference_mode():
    expected = mgnas.load(folder)(torch.from_numpy(images)).numpy()
difference = float(numpy.abs(expected - logits).max())
(folder / "outcome.json").write_text(json.dumps([file.name, difference, names]))
"""


@pytest.fixture
def python_with(new_environment):
    """Extra, its module -> a Python that has it: this one, or that of a new environment on top of this one."""

    def find(extra, module):
        if importlib.util.find_spec(module):
            return sys.executable
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return new_environment(*project["optional-dependencies"][extra], on_top=True)

    return find


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "module"), [("executorch", "executorch"), ("litert", "litert_torch")])
def test_its_own_runtime_gives_the_logits_of_pytorch(kind, module, folder, images, tmp_path, python_with):
    np.save(tmp_path / "images.npy", images[:20])
    python = python_with(kind, module)
    command = [python, "-c", SCRIPT, folder, kind, tmp_path / "images.npy"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    name, difference, names = json.loads((folder / "outcome.json").read_text())
    assert name == {"executorch": "model.pte", "litert": "model.tflite"}[kind]
    assert difference <= 1e-4
    assert names == [str(digit) for digit in range(10)]
    facts = json.loads((folder / "exports.json").read_text())[kind]
    assert (facts["images"], facts["file"]) == (256, name)
    assert facts["difference"] <= 1e-4
    assert f"| {name} |" in (folder / "model_card.md").read_text()
