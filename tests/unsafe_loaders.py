"""Finding, in source text, the calls that run what a file says or unpack it without a bound."""

from __future__ import annotations

import ast

# Where a thing that is unsafe by itself is made safe, and tested: file -> dotted names.
ALLOWED = {
    "dyncity/datasets/plain_pickle.py": {"pickle.Unpickler"},
    "dyncity/released.py": {"torch.load"},  # with weights_only=True, which is looked at all the same
    "dyncity/models/attention.py": {"importlib.import_module"},  # of one of its own names
    "exporters/formats.py": {"importlib.import_module"},
}
_PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
_WRITERS = {"dump", "dumps", "Pickler", "HIGHEST_PROTOCOL", "PickleError", "UnpicklingError"}
_YAML = {
    "load_all",
    "unsafe_load",
    "unsafe_load_all",
    "full_load",
    "full_load_all",
    "Loader",
    "UnsafeLoader",
    "FullLoader",
}
_ANYWHERE = {"extract", "extractall", "unpack_archive", "read_pickle"}
_NAMES = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "importlib.import_module"}
_BUILT_IN = {"eval", "exec", "builtins.eval", "builtins.exec", "__import__", "builtins.__import__"}
_SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def unsafe(source: str, file: str = "") -> list[str]:
    """One line a finding: the line's number and the dotted name."""
    tree = ast.parse(source)
    names, allowed, found = _imported(tree), ALLOWED.get(file, set()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and set(str(node.module).split(".")) & _PICKLES:
            found |= {(node.lineno, f"{node.module}.{alias.name}") for alias in node.names if alias.name == "*"}
        if isinstance(node, ast.Attribute | ast.Name):
            name = _dotted(node, names)
            if _is_unsafe_name(name) and name not in allowed:
                found.add((node.lineno, name))
        if isinstance(node, ast.Call):
            name, given = _dotted(node.func, names), {k.arg: k.value for k in node.keywords}
            # What is handed on, as getattr's first argument for one, is out of sight.
            found |= {(node.lineno, arg) for a in node.args if (arg := _dotted(a, names)) in _PICKLES}
            if _is_unsafe_call(name, given, names, allowed):
                found.add((node.lineno, name))
    return [f"{line}: {name}" for line, name in sorted(found)]


def _is_unsafe_name(name: str) -> bool:
    *packages, last = name.split(".")
    if {*packages} & _PICKLES:
        return last not in _WRITERS
    return name in _NAMES or last in _ANYWHERE or (packages[:1] == ["yaml"] and last in _YAML)


def _is_unsafe_call(name: str, given: dict, names: dict[str, str], allowed: set[str]) -> bool:
    constant = {key: getattr(value, "value", None) for key, value in given.items()}
    if name in _BUILT_IN or constant.get("allow_pickle", False) is not False:
        return True
    if name in ("numpy.load", "numpy.lib.format.read_array"):
        return "allow_pickle" not in given
    if name == "yaml.load":
        return _dotted(given.get("Loader"), names) not in _SAFE_LOADERS
    if name.startswith("torch.") and name.endswith(".load"):
        return name not in allowed or constant.get("weights_only") is not True
    return name.startswith("subprocess.") and constant.get("shell", False) is not False


def _imported(tree: ast.AST) -> dict[str, str]:
    """What names of a module stand for: np -> numpy, loads -> pickle.loads."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.AST | None, names: dict[str, str]) -> str:
    """The dotted name of an expression, by what was imported; what it is called on otherwise is a ``?``."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return "?"
