"""State trees as JSON plus named tensors: dicts, lists and tuples of tensors, arrays, numbers, strings and None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# safetensors keeps "__metadata__" for itself
RESERVED = frozenset({"", "__metadata__"})
TENSOR, ARRAY, DICT, TUPLE, FLOAT = "$tensor", "$array", "$dict", "$tuple", "$float"
# fmt: off
DTYPES = frozenset({
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2,
})
# fmt: on
MARKS = (TENSOR, ARRAY, DICT, TUPLE, FLOAT)


class TreeError(ValueError):
    """Something in a state tree cannot be stored without pickle; the message names its path and type."""


def encode(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A state tree → (JSON skeleton, tensors by name); tensors are contiguous, on the CPU, and share no memory.

    Dict keys may be strings or ints; other types than those of the module's first line raise TreeError. Subclasses of
    dict come back as dict, parameters as plain tensors; which tensors shared memory is not kept.
    """
    encoder = _Encoder()
    return encoder.node(tree, ""), encoder.tensors


def decode(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state tree that `encode` took apart. Raises TreeError if a tensor is missing."""
    if isinstance(skeleton, list):
        return [decode(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    mark = next((m for m in MARKS if m in skeleton), None)
    if mark is None:
        return {key: decode(value, tensors) for key, value in skeleton.items()}
    content = skeleton[mark]
    if mark == TENSOR:
        return _named(tensors, content)
    if mark == ARRAY:
        return _to_array(_named(tensors, content), skeleton)
    if mark == DICT:
        return {key: decode(value, tensors) for key, value in content}
    if mark == TUPLE:
        return tuple(decode(item, tensors) for item in content)
    return float(content)


class _Encoder:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.storages: set[int] = set()

    def node(self, value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            return {TENSOR: self.keep(_own(value, path, self.storages), path)}
        if isinstance(value, (np.ndarray, np.generic)):
            return self.array(value, path)
        # subclasses are refused: an enum or a named tuple would come back as something else
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {FLOAT: repr(value)}
        if type(value) is list:
            return [self.node(item, f"{path}/{i}") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {TUPLE: [self.node(item, f"{path}/{i}") for i, item in enumerate(value)]}
        if isinstance(value, Mapping):
            return self.mapping(value, path)
        raise TreeError(f"{path or '/'} is a {type(value).__name__}, which a checkpoint cannot hold")

    def mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        pairs = []
        for key, item in value.items():
            if type(key) not in (str, int):
                raise TreeError(f"{path or '/'} has the key {key!r}; keys of a checkpoint are strings or ints")
            # as in JSON pointers (RFC 6901), so that a "/" inside a key is not read as a level
            part = str(key).replace("~", "~0").replace("/", "~1")
            pairs.append((key, self.node(item, f"{path}/{part}")))
        if any(type(key) is int or key in MARKS for key, _ in pairs):
            return {DICT: [list(pair) for pair in pairs]}
        return dict(pairs)

    def array(self, value: np.ndarray[Any, Any] | np.generic, path: str) -> Any:
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.kind == "V":
            raise TreeError(f"{path or '/'} is an array of {array.dtype}, which a checkpoint cannot hold")
        # as bytes, so that every dtype of numpy survives, torch's or not (unsigned, dates, text, byte order)
        content = torch.frombuffer(bytearray(array.tobytes()) or bytearray(1), dtype=torch.uint8)[
            : array.nbytes
        ].clone()
        mark = {ARRAY: self.keep(content, path), "dtype": array.dtype.str, "shape": list(array.shape)}
        return {**mark, "scalar": True} if isinstance(value, np.generic) else mark

    def keep(self, tensor: Tensor, path: str) -> str:
        plain = path.removeprefix("/").encode("utf-8", "backslashreplace").decode()
        name, count = plain, 2
        while name in self.tensors or name in RESERVED:
            # the keys 1 and "1" give the same path; "~2" cannot come from an escaped key
            name, count = f"{plain}~{count}", count + 1
        self.tensors[name] = tensor
        return name


def _own(tensor: Tensor, path: str, storages: set[int]) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise TreeError(
            f"{path or '/'} is a tensor of layout {tensor.layout} on {tensor.device}; only dense data is kept"
        )
    if tensor.dtype not in DTYPES:
        raise TreeError(f"{path or '/'} is a tensor of {tensor.dtype}, which safetensors cannot hold")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    storage = plain.untyped_storage()
    if storage.data_ptr() in storages or storage.nbytes() != plain.nbytes:
        plain = plain.clone()
    storages.add(plain.untyped_storage().data_ptr())
    return plain if type(plain) is Tensor else plain.as_subclass(Tensor)


def _named(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise TreeError(f"the tensor {name!r} is missing")
    return tensors[name]


def _to_array(content: Tensor, mark: Mapping[str, Any]) -> Any:
    array = np.frombuffer(content.numpy().tobytes(), dtype=np.dtype(mark["dtype"])).reshape(mark["shape"]).copy()
    return array[()] if mark.get("scalar") else array
