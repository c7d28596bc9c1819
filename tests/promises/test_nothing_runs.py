"""Checkpoints and caches execute nothing: files with a payload are refused wherever something is loaded."""

import ast
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import gadgets
import pytest
import torch
from exports import networks_with_numbers_in, write_export
from gadgets import ARCHIVES, FORMATS, GADGETS, in_metadata, pickled
from mutations import mutations
from program import SMALL, call
from records import change_record

import uipad_cli
from uipad_cli import config
from uipad_cli.engine import exported, pretrain, tensors, weights
from uipad_cli.engine.feature_cache import FeatureCache, cache_folder
from uipad_cli.engine.fingerprint import EARLIER_FILE, read_fingerprints
from uipad_cli.engine.record import CALIBRATION_FILE, EXPORT, RECORD, file_hash, read_record
from uipad_cli.engine.sealed import write_sealed
from uipad_cli.engine.train import train
from uipad_cli.errors import WeightsError
from uipad_cli.records import silent

SUPPORT = Path(gadgets.__file__).parent
RUN_FILES = ("checkpoint.json", "method.safetensors", "backbone.safetensors", "calibration.safetensors")
MEMORY = 1.5  # GB that the reading of a small file may take, torch itself among them
PATCHCORE = ["method=patchcore", *SMALL]


@pytest.fixture(autouse=True, scope="module")
def extension():
    gadgets.register()


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "a payload has run"


@pytest.fixture
def run(world, tmp_path):
    return shutil.copytree(world.run, tmp_path / "run")


@pytest.fixture
def chosen(cases):
    """Gadgets of this cut, each with one of the formats; another choice for another place."""

    def choose(few, place=0):
        names = [*GADGETS]
        count = cases(few, len(names))
        some = [names[(place * few + one * len(names) // count) % len(names)] for one in range(count)]
        return [(name, [*FORMATS][(place + one) % len(FORMATS)]) for one, name in enumerate(some)]

    return choose


def payload(name, kind, marker):
    return FORMATS[kind](GADGETS[name](marker))


def python(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def refused(capsys, *arguments, code=4):
    found, out, err = call(capsys, *arguments)
    assert found == code, err
    assert out == ""
    assert "\nerror:" in f"\n{err}"


# ---- that the tests can fail ------------------------------------------------------------------------------------


def test_every_gadget_runs_where_it_is_trusted(tmp_path):
    ran = python(SUPPORT / "gadgets.py", tmp_path)
    assert [name for name, fine in ran.items() if not fine] == []
    assert len(GADGETS) >= 20
    assert len(ran) == len(GADGETS) * len(FORMATS) + len(ARCHIVES) + 1


# ---- weights ----------------------------------------------------------------------------------------------------


def test_no_gadget_runs_as_weights(tmp_path, marker, monkeypatch):
    """All of them in all formats, as the child reads them, but in this process."""
    monkeypatch.setattr(tensors, "_bound", lambda size: None)
    target = tmp_path / "out"
    made = {f"{name}, {kind}": payload(name, kind, marker) for name in GADGETS for kind in FORMATS}
    made |= {name: archive(marker) for name, archive in ARCHIVES.items()}
    for name, data in made.items():
        for suffix in (".pth", ".safetensors"):
            path = tmp_path / f"evil{suffix}"
            path.write_bytes(data)
            with pytest.raises(Exception) as caught:  # of many kinds, which end the child
                tensors.unpack(str(path), str(target)) if suffix == ".pth" else tensors.read_safetensors(path)
            assert suffix == ".pth" or isinstance(caught.value, ValueError)
            assert not marker.exists(), name
    assert not target.exists()


def test_no_gadget_runs_as_weights_of_a_training(capsys, world, tmp_path, marker, cases, chosen):
    told = [(payload(*one, marker), (".pth", ".pt", ".bin")[place % 3]) for place, one in enumerate(chosen(1))]
    told += [(payload(*one, marker), ".safetensors") for one in chosen(1)]
    if cases(0, 1):
        told += [(archive(marker), ".pth") for archive in ARCHIVES.values()]
    for data, suffix in told:
        path = tmp_path / f"evil{suffix}"
        path.write_bytes(data)
        train_with = ("train", world.prepared, "--category", "pegs", "--out", tmp_path / "r", "--backbone", "tiny")
        refused(capsys, *train_with, "--weights", path)
        assert not (tmp_path / "r" / RECORD).exists()


def test_metadata_of_safetensors_are_never_unpickled(tmp_path, marker):
    (tmp_path / "a.safetensors").write_bytes(in_metadata(GADGETS["os.system"](marker)))
    assert weights.read_weights(tmp_path / "a.safetensors")["a"].tolist() == [0, 0, 0]


def test_no_gadget_runs_in_the_cache_of_the_hub(tmp_path, marker, monkeypatch, chosen):
    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(weights, "cached_weights", lambda repository: path)
    for one in chosen(1, place=2):
        path.write_bytes(payload(*one, marker))
        with pytest.raises(WeightsError):
            weights.load_encoder("vit_tiny_patch16_224", None, 32)


# ---- runs -------------------------------------------------------------------------------------------------------


def asking(run, world, tmp_path, name):
    """Commands that read a file of a run."""
    pair = [world.raw / "pegs" / "test" / "good" / part for part in ("rgb/000.png", "xyz/000.tiff")]
    if name.startswith("calibration"):
        return [("drift", run, world.prepared)]
    return [
        ("infer", *pair, "--model", run, "--out", tmp_path / "o"),
        ("eval", run, world.prepared, "--out", tmp_path / "o"),
        ("calibrate", run, world.prepared),
        ("export", run, "--out", tmp_path / "e", "--format", "onnx"),
    ]


@pytest.mark.parametrize(
    ("name", "sealed"),
    [(name, sealed) for name in RUN_FILES for sealed in (False, True) if (name, sealed) != (RECORD, True)],
)
def test_no_gadget_runs_in_a_run(capsys, world, run, tmp_path, marker, chosen, name, sealed):
    """Also where the record was written for it: whoever makes a checkpoint can do that."""
    before = (run / name).read_bytes()
    for place, one in enumerate(chosen(2, place=RUN_FILES.index(name))):
        data = payload(*one, marker)
        (run / name).write_bytes(data)
        if sealed:
            change_record(run / RECORD, lambda record: record["sha256"].update({name: file_hash(run / name)}))
        commands = asking(run, world, tmp_path, name)
        refused(capsys, *commands[place % len(commands)])
    (run / name).write_bytes(before)


@pytest.mark.parametrize("name", [RECORD, "method.safetensors"])
def test_every_command_refuses_a_run_with_a_gadget(capsys, world, run, tmp_path, marker, name):
    (run / name).write_bytes(GADGETS["os.system"](marker))
    for command in asking(run, world, tmp_path, name):
        refused(capsys, *command)


def test_no_gadget_runs_as_fingerprints_of_before(world, run, marker, chosen):
    """They are only read where the record names their hash; then as any other tensors."""
    for one in chosen(3, place=4):
        (run / EARLIER_FILE).write_bytes(payload(*one, marker))
        assert len(read_fingerprints(run, read_record(run))) == 3
        told = {CALIBRATION_FILE: file_hash(run / EARLIER_FILE)}
        evil = read_record(run).model_copy(update={"sha256": told})
        with pytest.raises(WeightsError):
            read_fingerprints(run, evil)


@pytest.mark.parametrize("name", ["training.safetensors", "run.json", "log.jsonl"])
def test_no_gadget_runs_in_an_unfinished_run(capsys, world, tmp_path, marker, chosen, stopped, name):
    for one in chosen(2, place=5):
        out = shutil.copytree(stopped, tmp_path / "s", dirs_exist_ok=True)
        (out / name).write_bytes(payload(*one, marker))
        settings = [part for told in SMALL for part in ("--set", told)]
        refused(capsys, "train", world.prepared, "--category", "pegs", "--out", out, *settings)


def test_no_gadget_runs_in_an_unfinished_pretraining(capsys, tmp_path, marker, chosen):
    out = tmp_path / "p"
    told = pretrain.PretrainConfig(steps=2, device="cpu").model_dump(mode="json")
    for name in ("training.safetensors", "run.json"):
        for one in chosen(1, place=6):
            write_sealed(out / "run.json", {"config": told, "photos": None})
            (out / name).write_bytes(payload(*one, marker))
            refused(capsys, "pretrain", out, "--steps", 2, "--device", "cpu")


# ---- caches, data, settings, exports ----------------------------------------------------------------------------


def test_no_gadget_runs_in_the_feature_cache(world, tmp_path, marker, chosen, monkeypatch):
    """Each file of it holds a gadget: a training comes to the same, and the cache is whole again."""
    monkeypatch.setenv("UIPAD_CACHE", str(tmp_path / "cache"))

    def trained(name):
        merged = config.merge([], PATCHCORE)
        train(world.prepared, tmp_path / name, category="pegs", configuration=merged)
        return (tmp_path / name / "method.safetensors").read_bytes()

    expected = trained("before")
    kept = {path: path.read_bytes() for path in cache_folder().glob("*.npy")}
    assert len(kept) == 6
    told = chosen(len(kept), place=7)
    for start in range(0, len(told), len(kept)):
        for path, one in zip(kept, told[start:], strict=False):
            path.write_bytes(payload(*one, marker))
        assert trained(f"after{start}") == expected
        assert {path: path.read_bytes() for path in kept} == kept


def test_no_gadget_is_found_in_the_feature_cache(tmp_path, marker):
    for name in GADGETS:
        for kind in FORMATS:
            (tmp_path / "a.npy").write_bytes(payload(name, kind, marker))
            assert FeatureCache(tmp_path, 1e9, silent).find("a") is None


def test_no_gadget_runs_in_a_manifest(capsys, world, tmp_path, marker, chosen):
    data = tmp_path / "data"
    data.mkdir()
    for one in chosen(2, place=8):
        (data / "manifest.json").write_bytes(payload(*one, marker))
        refused(capsys, "eval", world.run, data, "--out", tmp_path / "o", code=3)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/new:os.system ['touch {}']",
        "seed: !!python/object/apply:subprocess.check_call [['touch', '{}']]",
        "!!python/object/apply:builtins.exec [\"open('{}', 'w')\"]",
        "options: {{a: !!python/module:os.path, b: !!python/name:os.system }}",
    ],
)
def test_no_tag_of_yaml_runs(capsys, world, tmp_path, marker, tag):
    (tmp_path / "c.yaml").write_text(tag.format(marker))
    told = ("train", world.prepared, "--category", "pegs", "--out", tmp_path / "r", "--config", tmp_path / "c.yaml")
    refused(capsys, *told, code=2)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_no_gadget_runs_in_an_export(capsys, world, tmp_path, marker, chosen, engine):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[engine])
    pair = [world.raw / "pegs" / "test" / "good" / part for part in ("rgb/000.png", "xyz/000.tiff")]
    judge = ("infer", *pair, "--model", tmp_path / "e", "--engine", engine, "--out", tmp_path / "o")
    networks = {"onnx": ["model.onnx"], "openvino": ["model.xml", "model.bin"]}[engine]
    for one in chosen(2, place=9):
        shutil.rmtree(tmp_path / "e", ignore_errors=True)
        (tmp_path / "e").mkdir()
        for name in networks:
            (tmp_path / "e" / name).write_bytes(payload(*one, marker))
        write_export(tmp_path / "e", engine, read_record(world.run))
        refused(capsys, *judge)
        (tmp_path / "e" / EXPORT).write_bytes(payload(*one, marker))
        refused(capsys, *judge)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "{}/secret.bin", "a/../../secret.bin", "./../secret.bin", "link.bin", "other.bin", ""]
)
def test_an_export_takes_no_numbers_from_elsewhere(world, tmp_path, location):
    """Whatever the version of ONNX Runtime, of which older ones follow any path."""
    pytest.importorskip("onnx")
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    folder = tmp_path / "e"
    folder.mkdir()
    for model in networks_with_numbers_in(location.format(tmp_path)):
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        write_export(folder, "onnx", read_record(world.run))
        (folder / "other.bin").write_bytes(bytes(16))  # nobody has looked at it
        (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
        with pytest.raises(WeightsError, match="which is no file of the export"):
            exported.open_export(folder, "onnx", "auto", "auto")
        for name in ("other.bin", "link.bin"):
            (folder / name).unlink()


def test_an_export_takes_numbers_from_its_own_files(world, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "own.bin").write_bytes(bytes(16))
    (tmp_path / "model.onnx").write_bytes(networks_with_numbers_in("own.bin")[0].SerializeToString())
    write_export(tmp_path, "onnx", read_record(world.run))
    exported.open_export(tmp_path, "onnx", "auto", "auto")


# ---- damaged and enormous weights -------------------------------------------------------------------------------


class Sized:
    """A tensor of a file that says how many numbers it has."""

    def __init__(self, size, stride):
        self.size, self.stride = size, stride

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (torch.zeros(4).storage(), 0, self.size, self.stride, False, {})


def saved(thing, **options):
    stream = io.BytesIO()
    torch.save(thing, stream, **options)
    return stream.getvalue()


def deflated(data, swell=""):
    """A .pth file whose parts are compressed, one of them to a thousandth."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            told = source.read(member)
            target.writestr(member.filename, told + bytes(2**32) if swell and member.filename.endswith(swell) else told)
    return made.getvalue()


def slow_bombs():
    """A key that is a tuple of two tuples of two tuples, and so on."""
    doubled = b"".join(b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) for level in range(60))
    return {"keys that take years": gadgets.zipped(b"\x80\x02})q\0" + doubled + b"K\x01s.")}


def bombs():
    """Small files that ask for a great deal."""
    plain = {"a": torch.zeros(4)}
    huge = (10**6, 10**6)
    return {
        "a view of one number": saved({"a": torch.zeros(1).expand(10**14)}),
        "a view that is squeezed": saved({"a": Sized(huge, (0, 0))}),
        "more than its storage": saved({"a": Sized(huge, (10**6, 1))}),
        "negative sizes": saved({"a": Sized((-4,), (1,))}),
        "many views": saved({str(place): torch.zeros(1).expand(10**7) for place in range(999)}),
        "deflated": deflated(saved({"a": torch.zeros(10**6)})),
        "a long number": gadgets.legacy(b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(99) + b"."),
        "a long text": gadgets.zipped(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"."),
        "an array of bytes": gadgets.zipped(pickled(gadgets.Call(gadgets.Named("builtins", "bytearray"), 2**40))),
        "a tensor of terabytes": gadgets.zipped(pickled(gadgets.Call(gadgets.Named("torch", "Tensor"), 2**20, 2**20))),
        "nested a million deep": gadgets.zipped(b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."),
        "memory by number": gadgets.zipped(b"\x80\x02]r\xff\xff\xff\xff."),
        "ended": saved(plain)[:-22],
    }


def check_ends(found, refused_all=False):
    for one in found:
        assert one["ended"] in (0, 1, 10, 11, 12) or one["ended"] < 0, one  # a signal is what the child is for
        assert one["busy"] < 2 * tensors.SPARE_SECONDS + 5, one
        assert one["megabytes"] < 1000 * MEMORY, one
        assert not refused_all or one["ended"] != 0, one


def test_bombs_are_refused_before_they_go_off(tmp_path, cases):
    folder = tmp_path / "bombs"
    folder.mkdir()
    made = bombs()
    if cases(0, 1):
        made |= slow_bombs()
        made["swollen numbers"] = deflated(saved({"a": torch.zeros(10**6)}), "data/0")
        made["a swollen pickle"] = deflated(saved({"a": torch.zeros(4)}), "data.pkl")
    for name, data in made.items():
        (folder / f"{name}.pth").write_bytes(data)
    for place, header in enumerate(
        [
            b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}',
            b'{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}',
            b'{"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}}',
            b"{"
            + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % place for place in range(10**5))
            + b"}",
            b"[" * 10**6,
            b'{"a":' * 10**6,
        ]
    ):
        (folder / f"{place}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (folder / "head.safetensors").write_bytes(struct.pack("<Q", 2**62) + bytes(99))
    ends = {one["file"]: one for one in python(SUPPORT / "unpacking.py", folder)}
    harmless = {"deflated.pth", "1.safetensors"} & {name for name, one in ends.items() if one["ended"] == 0}
    check_ends([one for name, one in ends.items() if name not in harmless], refused_all=True)
    check_ends([ends[name] for name in harmless])


def test_a_file_that_keeps_its_child_busy_is_an_error_like_any_other(capsys, world, tmp_path, cases):
    if not cases(0, 1):
        pytest.skip("takes as long as it may: with --long")
    (tmp_path / "a.pth").write_bytes(slow_bombs()["keys that take years"])
    told = ("train", world.prepared, "--category", "pegs", "--out", tmp_path / "r", "--backbone", "tiny", "--weights")
    refused(capsys, *told, tmp_path / "a.pth")


def test_damaged_weights_are_read_or_refused(tmp_path, cases):
    """Bytes flipped, cut out and stuffed in: nothing but a WeightsError comes of it, within bounds."""
    state = {f"blocks.{place}.weight": torch.rand(8, 3) for place in range(6)}
    sources = {
        "zip.pth": saved({"model": state}),
        "legacy.pth": saved(state, _use_new_zipfile_serialization=False),
        "a.safetensors": gadgets.safetensors.numpy.save({name: value.numpy() for name, value in state.items()}),
    }
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name, data in sources.items():
        for place, damaged in enumerate(mutations(data, cases(20, 700), seed=8, letters=b"\0\x01\x80\xff().Rcq{}]u")):
            (folder / f"{place:04}-{name}").write_bytes(damaged)
    found = python(SUPPORT / "unpacking.py", folder)
    assert len(found) == 3 * cases(20, 700)
    check_ends(found)
    assert {0, 1} <= {one["ended"] for one in found if one["file"].endswith(".pth")}
    assert {0, 10} == {one["ended"] for one in found if one["file"].endswith(".safetensors")}


# ---- the source -------------------------------------------------------------------------------------------------

CALLS = {"eval", "exec", "compile", "__import__"}
NAMES = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
ATTRIBUTES = {
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader",
    "torch.jit.load", "torch.hub", "torch.package", "os.system", "os.popen",
}  # fmt: skip
CHOICES = {"weights_only": False, "allow_pickle": True, "trust_remote_code": True, "shell": True}


def faults(source):
    """What a source would run, or could: as words."""
    tree = ast.parse(source)
    classes = {node.name: [*map(ast.unparse, node.bases)] for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.split(".")[0] in NAMES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in NAMES:
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name in CALLS:
                yield name
            called = ast.unparse(node.func)
            given = {one.arg: getattr(one.value, "value", None) for one in node.keywords if one.arg}
            yield from (f"{name}={value}" for name, value in CHOICES.items() if given.get(name) is value)
            if called == "yaml.load" and classes.get(
                {one.arg: ast.unparse(one.value) for one in node.keywords}.get("Loader", "")
            ) != ["yaml.SafeLoader"]:
                yield called
            if called == "torch.load" and given.get("weights_only") is not True:
                yield "torch.load without weights_only=True"
            if called.endswith("np.load") and given.get("allow_pickle") is not False:
                yield "numpy.load without allow_pickle=False"


def test_nothing_in_the_source_runs_what_it_reads():
    found = {}
    for path in sorted(Path(uipad_cli.__file__).parent.rglob("*.py")):
        if told := [*faults(path.read_text(encoding="utf-8"))]:
            found[path.name] = told
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(a)", "torch.load(a, weights_only=False)", "np.load(a)", "np.load(a, allow_pickle=True)",
        "import pickle", "from pickle import loads", "import torch.x, dill.y", "yaml.load(a, b)",
        "yaml.load(a, Loader=b)",
        "eval(a)", "exec(a)",
        "torch.jit.load(a)", "f(trust_remote_code=True)", "subprocess.run(a, shell=True)", "import joblib",
        "torch.hub.load(a)", "__import__(a)",
    ],
)  # fmt: skip
def test_the_look_at_the_source_can_fail(source):
    assert [*faults(source)]


def test_records_are_written_in_one_way():
    """No record of a run or an export without its seal."""
    for path in sorted(Path(uipad_cli.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("files.write"):
                named = {one.id for part in node.args for one in ast.walk(part) if isinstance(one, ast.Name)}
                assert not named & {"RECORD", "EXPORT", "RUN_FILE"}, path.name
