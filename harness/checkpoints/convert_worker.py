"""The process that opens a pickle: gives up the network first, then reads, keeps tensors, and ends.

Run by `convert` as ``python -m harness.checkpoints.convert_worker REQUEST``; imports torch only once it is alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["NOT_ISOLATED", "REFUSED", "isolate", "main"]

NOT_ISOLATED, REFUSED = 3, 4
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_USUAL_KEYS = ("state_dict", "model_state_dict", "network_weights")


def isolate() -> None:
    """Move this process into a user and network namespace of its own, in which there is no way out.

    Raises
    ------
    OSError
        The system does not allow it, or is no Linux.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(f"{sys.platform} has no network namespaces")
    space = Path("/proc/self/ns/net")
    before = space.readlink()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    if space.readlink() == before:
        raise OSError("unshare reported success and changed nothing")


def main(request: Mapping[str, Any]) -> int:
    """Read, keep tensors, write them and the report; the exit code says how it went."""
    isolated = True
    try:
        isolate()
    except OSError as error:
        if not request["trust"]:
            sys.stderr.write(f"{error}\n")
            return NOT_ISOLATED
        isolated = False
    from safetensors.torch import save_file

    content = _load(Path(request["source"]))
    try:
        key, weights = _choose(content, request["weights_key"])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    kept: dict[str, Any] = {}
    dropped = {} if key is None else {str(name): "another top-level entry" for name in content if name != key}
    for name, value in _leaves(weights):
        reason = _unfit(value)
        if reason is not None:
            dropped[name] = reason
        elif not name.startswith(request["prefix"]):
            sys.stderr.write(f"the tensor {name!r} does not start with the prefix {request['prefix']!r}\n")
            return REFUSED
        else:
            # the format knows no two names of one storage
            kept[name.removeprefix(request["prefix"])] = value.detach().cpu().contiguous().clone()
    if not kept:
        sys.stderr.write("it holds no tensors there. `--key` names another top-level entry.\n")
        return REFUSED
    save_file(kept, request["tensors"])
    report = {"weights_key": key, "prefix": request["prefix"], "dropped": dropped, "isolated": isolated}
    Path(request["report"]).write_text(json.dumps(report), encoding="utf-8")
    return 0


class _Absent:
    """Stands for an object of a class that is not installed: keeps its state, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Absent:
        return _Absent()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Tolerant(pickle.Unpickler):
    """Reads files of modules whose code is not installed: their tensors are wanted, not their methods."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (_Absent,), {"__module__": module})


def _load(source: Path) -> Any:
    import torch

    reader = types.SimpleNamespace(Unpickler=_Tolerant, load=pickle.load, __name__="pickle")
    return torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader)


def _choose(content: Any, wanted: str | None) -> tuple[str | None, Any]:
    if not isinstance(content, Mapping):
        return None, content
    if wanted is not None:
        if wanted not in content:
            raise ValueError(f"it has no entry {wanted!r}; its top level is {', '.join(map(str, content))[:200]}.")
        return wanted, content[wanted]
    usual = [key for key in _USUAL_KEYS if key in content]
    inside = usual or [str(key) for key, value in content.items() if not _is_tensor(value) and _has_tensors(value)]
    if any(_is_tensor(value) for value in content.values()) or not inside:
        return None, content
    if len(inside) > 1:
        raise ValueError(f"its entries {', '.join(inside[:8])} hold tensors each: name the one you want with --key.")
    return inside[0], content[inside[0]]


def _has_tensors(value: Any) -> bool:
    return any(_is_tensor(leaf) for _, leaf in _leaves(value))


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Walk mappings and modules, installed or not; names as a state dict spells them."""
    held = getattr(value, "__dict__", {})
    if not _is_tensor(value) and "_parameters" in held and "_modules" in held:
        passing = held.get("_non_persistent_buffers_set", ())
        children = {
            **{key: child for key, child in held["_parameters"].items() if child is not None},
            **{
                key: child
                for key, child in held.get("_buffers", {}).items()
                if child is not None and key not in passing
            },
            **{key: child for key, child in held["_modules"].items() if child is not None},
        }
    elif isinstance(value, Mapping):
        children = dict(value)
    else:
        yield name, value
        return
    for key, child in children.items():
        yield from _leaves(child, f"{name}.{key}" if name else str(key))


def _unfit(value: Any) -> str | None:
    if not _is_tensor(value):
        return f"a {type(value).__name__}, not a tensor"
    if value.layout.__repr__() != "torch.strided" or value.is_quantized or value.is_meta:
        return "a sparse, quantized or empty tensor"
    return None


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
