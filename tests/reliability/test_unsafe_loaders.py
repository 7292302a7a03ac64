"""No source file opens what comes from outside with a loader that runs it or unpacks it without a bound."""

from pathlib import Path

import pytest
from unsafe_loaders import ALLOWED, unsafe

ROOT = Path(__file__).parents[2]
SOURCES = [
    ROOT / "cli.py",
    *(p for name in ("dyncity", "generators", "exporters") for p in (ROOT / name).rglob("*.py")),
]

PLANTED = {
    "pickle": "import pickle\npickle.load(file)",
    "pickle by another name": "import pickle as plain\nplain.loads(data)",
    "a function of pickle": "from pickle import loads as read\nread(data)",
    "an unpickler": "import pickle\nclass Mine(pickle.Unpickler): pass",
    "cloudpickle": "import cloudpickle\ncloudpickle.loads(data)",
    "joblib": "from joblib import load\nload(path)",
    "torch": "import torch\ntorch.load(path, weights_only=False)",
    "torch by default": "import torch\ntorch.load(path)",
    "torch elsewhere": "import torch\ntorch.load(path, weights_only=True)",
    "numpy": "import numpy as np\nnp.load(path, allow_pickle=True)",
    "numpy by default": "import numpy as np\nnp.load(path)",
    "numpy as it comes": "import numpy as np\nnp.load(path, allow_pickle=chosen)",
    "a function of numpy": "from numpy import load\nload(path)",
    "yaml": "import yaml\nyaml.load(text, Loader=yaml.Loader)",
    "yaml by default": "import yaml\nyaml.load(text)",
    "unsafe yaml": "from yaml import unsafe_load\nunsafe_load(text)",
    "eval": "eval(text)",
    "exec": "exec(text)",
    "a shell": "import subprocess\nsubprocess.run(text, shell=True)",
    "a shell if chosen": "from subprocess import Popen\nPopen(text, shell=chosen)",
    "os.system": "import os\nos.system(text)",
    "tarfile": "import tarfile\ntarfile.open(path).extractall(out)",
    "zipfile": "import zipfile\nwith zipfile.ZipFile(path) as archive:\n    archive.extractall(out)",
    "shutil": "import shutil\nshutil.unpack_archive(path, out)",
    "one member of an archive": "from zipfile import ZipFile\nZipFile(path).extract(name, out)",
    "pandas": "import pandas\npandas.read_pickle(path)",
    "torch.jit": "import torch\ntorch.jit.load(path)",
    "torch inside": "from torch.serialization import load\nload(path, weights_only=True)",
    "numpy inside": "from numpy.lib.npyio import NpzFile\nNpzFile(file, allow_pickle=True)",
    "a loader of yaml": "import yaml\nyaml.Loader(text).get_data()",
    "a loader of yaml inside": "from yaml.loader import UnsafeLoader\nUnsafeLoader(text)",
    "cloudpickle of another package": "from ray import cloudpickle\ncloudpickle.loads(data)",
    "all of pickle": "from pickle import *\nloads(data)",
    "pickle by its name": "import importlib\nimportlib.import_module('pickle').loads(data)",
    "pickle by its name, built in": "__import__('pickle').loads(data)",
    "a function of pickle by its name": "import pickle\ngetattr(pickle, 'load')(file)",
    "jsonpickle": "import jsonpickle\njsonpickle.decode(text)",
}
HARMLESS = (
    "import json, numpy as np, pickle, subprocess, torch, yaml\n"
    "json.loads(t); np.load(p, mmap_mode='r', allow_pickle=False); pickle.dumps(v); yaml.safe_load(t)\n"
    "subprocess.run([a]); model.eval(); re.compile(t); yaml.load(t, Loader=yaml.SafeLoader)\n"
)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found(name):
    assert unsafe(PLANTED[name], "dyncity/planted.py")


def test_the_one_torch_file_has_to_ask_for_weights_alone():
    assert unsafe("import torch\ntorch.load(p, weights_only=True)", "dyncity/released.py") == []
    assert unsafe("import torch\ntorch.load(p)", "dyncity/released.py") == ["2: torch.load"]


def test_what_is_harmless_is_not_found():
    assert unsafe(HARMLESS) == []


def test_no_source_file_has_an_unsafe_loader():
    assert len(SOURCES) > 100
    assert all((ROOT / name).is_file() for name in ALLOWED)
    found = {str(p.relative_to(ROOT)): unsafe(p.read_text(), p.relative_to(ROOT).as_posix()) for p in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}
