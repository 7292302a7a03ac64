"""Finding, in source text, the calls that run what a file says or unpack it without a bound."""

from __future__ import annotations

import ast

# Where a thing that is unsafe by itself is made safe, and tested: file -> dotted names.
ALLOWED = {
    "dyncity/datasets/plain_pickle.py": {"pickle.Unpickler"},
    "dyncity/released.py": {"torch.load"},  # with weights_only=True, which is looked at all the same
}
_PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
_PICKLE_NAMES = {"load", "loads", "Unpickler", "_Unpickler", "open"}
_YAML = {"load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "UnsafeLoader", "FullLoader"}
_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
_SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def unsafe(source: str, file: str = "") -> list[str]:
    """One line a finding: the line's number and the dotted name."""
    tree = ast.parse(source)
    names = _imported(tree)
    allowed = ALLOWED.get(file, set())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = _dotted(node, names)
            package, _, last = name.partition(".")
            bad = (package in _PICKLES and last in _PICKLE_NAMES) or (package == "yaml" and last in _YAML)
            if (bad or name in _SHELLS or last.rpartition(".")[2] in ("extractall", "unpack_archive")) and (
                name not in allowed
            ):
                found.append((node.lineno, name))
        if isinstance(node, ast.Call):
            name = _dotted(node.func, names)
            given = {k.arg: k.value for k in node.keywords}
            if _is_unsafe_call(name, given, names, allowed):
                found.append((node.lineno, name))
    return [f"{line}: {name}" for line, name in sorted(set(found))]


def _is_unsafe_call(name: str, given: dict, names: dict[str, str], allowed: set[str]) -> bool:
    constant = {key: getattr(value, "value", None) for key, value in given.items()}
    if name in ("eval", "exec", "builtins.eval", "builtins.exec"):
        return True
    if name == "torch.load":
        return name not in allowed or constant.get("weights_only") is not True
    if name in ("numpy.load", "numpy.lib.format.read_array"):
        return constant.get("allow_pickle") is not False
    if name == "yaml.load":
        return name not in allowed and _dotted(given.get("Loader"), names) not in _SAFE_LOADERS
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
