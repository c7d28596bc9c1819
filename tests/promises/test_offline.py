"""Nothing uses the network but the download of a backbone that was asked for, and UIPAD_OFFLINE=1 forbids that, too."""

import json
import os
import subprocess
import sys

import pytest

from uipad_cli.engine import weights
from uipad_cli.engine.doctor import examine

# Loaded by Python before anything else: every way to another machine is told and refused.
WATCH = """
import os, socket

def attempt(name):
    def refuse(*arguments, **options):
        with open(os.environ["ATTEMPTS"], "a") as told:
            told.write(name + "\\n")
        raise OSError("this machine has no network")
    return refuse

def guarded(name):
    real = getattr(socket.socket, name)
    def guard(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            attempt(name)()
        return real(self, *arguments)
    setattr(socket.socket, name, guard)

for name in ("connect", "connect_ex", "sendto", "sendmsg", "bind"):
    guarded(name)
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
    setattr(socket, name, attempt(name))
"""
# Runs commands one after the other; tells of each its exit code, what it said, and how often it tried.
COMMANDS = """
import contextlib, io, json, os, sys
from uipad_cli.cli import main
found = []
for variables, arguments in json.load(open(sys.argv[1])):
    os.environ.pop("UIPAD_OFFLINE", None)
    os.environ.update(variables)
    before = len(open(os.environ["ATTEMPTS"]).readlines())
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    found.append((code, said.getvalue(), len(open(os.environ["ATTEMPTS"]).readlines()) - before))
json.dump(found, sys.stdout)
"""
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture
def ran(tmp_path):
    """Runs commands in a process without a network."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "attempts").touch()

    def run(commands):
        (tmp_path / "commands.json").write_text(
            json.dumps([(variables, [str(word) for word in words]) for variables, words in commands])
        )
        environment = {
            **{name: value for name, value in os.environ.items() if name not in (*PROXIES, "HF_HUB_OFFLINE")},
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "watch"), *sys.path]),
            "ATTEMPTS": str(tmp_path / "attempts"),
            "HF_HOME": str(tmp_path / "hub"),
        }
        command = [sys.executable, "-c", COMMANDS, str(tmp_path / "commands.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
        return json.loads(done.stdout)

    return run


def test_only_the_download_that_was_asked_for_uses_the_network(ran, world, tmp_path, cases):
    pair = [world.raw / "pegs" / "test" / "good" / part for part in ("rgb/000.png", "xyz/000.tiff")]
    own, run, results = tmp_path / "own", tmp_path / "run", tmp_path / "results"
    small = ["--backbone", "tiny", "--set", "framing.resize=56", "--set", "framing.crop=56"]
    of_pegs = ["--category", "pegs"]
    commands = [
        ["doctor"],
        ["prepare", world.raw, own],
        ["train", own, *of_pegs, "--out", run, "--method", "patchcore", *small],
        ["eval", run, own, "--report"],
        ["infer", *pair, "--model", run, "--out", results, "--ply"],
        ["heatmap", run, own, "--out", results / "maps"],
    ]
    if cases(0, 1):
        commands += [
            ["calibrate", run, own, "--fpr", "0.3"],
            ["drift", run, own],
            ["train", own, *of_pegs, "--out", tmp_path / "run2", *small, "--set", "options.training.steps=4"],
            ["export", run, "--out", tmp_path / "onnx", "--format", "onnx"],
            ["export", run, "--out", tmp_path / "openvino", "--format", "openvino"],
            ["infer", *pair, "--model", tmp_path / "onnx", "--engine", "onnx", "--out", results],
            ["infer", *pair, "--model", tmp_path / "openvino", "--engine", "openvino", "--out", results],
            ["infer", world.raw / "pegs" / "test" / "good", "--model", run, "--out", results / "f", "--watch",
             "--idle", "1"],
            ["compare", run, tmp_path / "run2", own],
            ["pretrain", tmp_path / "tiny", "--steps", "1"],
        ]  # fmt: skip
    asked = ["train", own, *of_pegs, "--out", tmp_path / "big", "--backbone", "dinov2-base"]
    wanted = [({}, words) for words in commands]
    wanted += [({}, asked), ({"UIPAD_OFFLINE": "1"}, asked)]
    wanted += [({"UIPAD_OFFLINE": "yes", "HTTPS_PROXY": "http://127.0.0.1:9"}, asked)]
    *found, online, offline, behind_proxy = ran(wanted)
    for (code, said, attempts), words in zip(found, commands, strict=True):
        assert (code, attempts) == (0, 0), (words, said)
    code, said, attempts = online
    assert (code, "UIPAD_OFFLINE" in said) == (4, False)
    assert attempts > 0, "the watch sees nothing: it could not fail"
    for (code, said, attempts), value in ((offline, "1"), (behind_proxy, "yes")):
        assert (code, attempts) == (4, 0), said
        assert f"UIPAD_OFFLINE={value} forbids the download" in " ".join(said.split())
        assert "--weights FILE" in said
        assert "--backbone tiny" in " ".join(said.split())
    assert not (tmp_path / "big").exists()


@pytest.mark.parametrize("name", ["UIPAD_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "forbids"),
    [("1", True), ("on", True), ("YES", True), ("True", True), ("off", False), ("0", False), ("", False)],
)
def test_what_forbids_the_network(monkeypatch, name, value, forbids):
    for other in ("UIPAD_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # so that nothing is tried here
    assert bool(weights.forbidden()) is forbids
    assert weights.hub_answers() is not forbids
    monkeypatch.setattr("uipad_cli.engine.doctor.cached_weights", lambda repository: None)
    told = next(one for one in examine() if one.name == "backbone dinov2-base")
    assert ("forbids fetching" in told.cure) is forbids
