from os import PathLike
from typing import Any, Callable, Dict, List, Literal, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

__version__: str

class Error(RuntimeError):
    code: str
    node: str
    tensor: str
    hint: str

class TensorInfo:
    name: str
    kind: Literal["tensor", "sequence", "map", "optional"]
    type: str
    dtype: Optional[str]
    shape: Optional[Tuple[Union[int, str], ...]]
    under: Optional[str]

class Context:
    engine: Engine
    def __init__(self, engine: Engine, threads: int = 0, in_place: bool = False) -> None: ...
    def run(self, *args: Any, **kwargs: Any) -> List[Any]: ...
    def on_value(self, tap: Optional[Callable[[str, np.ndarray], Any]]) -> None: ...
    @property
    def memory(self) -> int: ...

class Memory(NamedTuple):
    weights: int
    values: Optional[int]
    working: Optional[int]
    outputs: Optional[int]
    complete: bool

class Engine:
    inputs: List[TensorInfo]
    outputs: List[TensorInfo]
    def context(self, threads: int = 0, in_place: bool = False) -> Context: ...
    def run(self, inputs: Union[Mapping[str, Any], Sequence[Any]]) -> Dict[str, Any]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def save(self, path: Union[str, PathLike[str]]) -> None: ...
    def memory(self, largest: bool = False) -> Memory: ...
    def serialize(self) -> bytes: ...

def build(
    model: Union[str, PathLike[str], bytes],
    *,
    threads: int = 0,
    level: Optional[str] = None,
    dims: Optional[Mapping[str, Union[int, Tuple[int, int, int]]]] = None,
    tf32: bool = True,
    bf16: bool = False,
    fp16: bool = False,
    timing_cache: Union[None, str, PathLike[str]] = None,
    external_data_root: Union[None, str, PathLike[str]] = None,
    log: Optional[Callable[[str, str], Any]] = None,
    log_level: Literal["error", "warning", "info", "verbose", "debug"] = "warning",
    progress: Union[None, bool, Callable[[str, float], Any]] = None,
) -> Engine: ...
def load(engine: Union[str, PathLike[str], bytes], *, threads: int = 0) -> Engine: ...
def load_plugins(path: Union[str, PathLike[str]]) -> None: ...
