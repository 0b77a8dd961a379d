"""test_cli.py: the command `fusedattn`: what it prints, what it writes, and how it ends."""

import json
import os
import subprocess
import sys

import pytest

from fusedattn import _native, checks, cli, info


def run(*arguments, **environment):
    """The command's finished process, its output as text."""
    changes = {"NO_COLOR": "1", **environment}
    command = [sys.executable, "-m", "fusedattn", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | changes, timeout=300)


def test_help_names_the_commands():
    text = run("--help").stdout
    assert all(command in text for command in ("info", "check", "bench", "demo", "cann"))


def test_version():
    result = run("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"fusedattn {_native.version()}\n", "")


def test_info_as_text():
    result = run("info")
    assert result.returncode == 0 and "\x1b" not in result.stdout
    assert _native.version() in result.stdout
    for lane, refusal in _native.lanes():
        assert lane in result.stdout and refusal in result.stdout


def test_info_as_json():
    facts = json.loads(run("info", "--json", FUSEDATTN_NUM_THREADS="3").stdout)
    assert facts["threads"] == 3 and facts["environment"]["FUSEDATTN_NUM_THREADS"] == "3"
    assert facts["lane"] == _native.lane_chosen() or os.environ.get("FUSEDATTN_ISA")
    assert {lane["name"] for lane in facts["lanes"]} == {name for name, _ in _native.lanes()}


def test_info_without_a_lane_says_so():
    result = run("info", FUSEDATTN_ISA="mmx")
    assert result.returncode == 1 and "mmx" in result.stdout


def test_check_of_one_lane():
    result = run("check", "--json", FUSEDATTN_ISA="baseline")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["passed"] and {row["lane"] for row in report["results"]} == {"baseline"}
    assert {row["dtype"] for row in report["results"]} == {"fp32", "bf16", "fp16"}
    assert {row["tensor"] for row in report["results"]} == {
        "out",
        "dq",
        "dk",
        "dv",
        "lse",
        "d_bias",
        "d_sink",
    }
    assert "avx2" in report["not_checked"] or len(_native.lanes()) == 1


def test_check_of_a_lane_that_does_not_run():
    result = run("check", FUSEDATTN_ISA="mmx")
    assert result.returncode == 2 and result.stderr.startswith("fusedattn: FUSEDATTN_ISA")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("damage", ["out", "dk", "max"])
def test_check_finds_a_wrong_result(monkeypatch, damage):
    original = checks._computed

    def damaged(*arguments):
        result = original(*arguments)
        result[damage].flat[7] += 0.5
        return result

    monkeypatch.setattr(checks, "_computed", damaged)
    monkeypatch.setattr(checks, "CASES", checks.CASES[:1])
    failed = {outcome.tensor for outcome in checks.run([_native.lane_chosen()]) if not outcome.passed}
    assert failed == {"lse" if damage == "max" else damage}


def test_storage_types_round_to_nearest_even():
    import numpy as np

    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, 3.0e38])
    assert checks.decode(checks.encode(values, "bf16")).tolist()[:4] == [1.0, 1.0, 1.015625, -2.5]
    assert checks.decode(checks.encode(values[:4], "fp16"))[3] == -2.5


def test_bench_of_one_small_cell(tmp_path):
    pytest.importorskip("torch")
    target = tmp_path / "bench.json"
    result = run(
        "bench", "--cells", "1,2,64,32:causal", "--dtype", "bf16", "--budget", "2", "--json", str(target), "--commit", "of a test"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1,2,64,32" in result.stdout and "\x1b" not in result.stdout
    assert "1/2 [1,2,64,32:causal] bf16 forward" in result.stderr
    report = json.loads(target.read_text())
    assert report["machine"]["version"] == _native.version()
    assert [row["direction"] for row in report["results"]] == ["forward", "backward"]
    for row in report["results"]:
        assert row["commit"] == "of a test"
        assert {"fusedattn", "torch"} <= set(row["peers"])
        assert row["peers"]["torch"]["ratio"][0] > 0 and row["limit_gflops"] > 0
        assert max(row["errors"].values()) < 2e-2


def test_bench_draws_a_chart(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    target = tmp_path / "bench.png"
    options = ["--cells", "1,1,32,16", "--dtype", "fp32", "--alone", "--budget", "1", "--plot", str(target)]
    result = run("bench", *options)
    assert result.returncode == 0, result.stderr
    assert target.read_bytes().startswith(b"\x89PNG")
    refused = run("bench", "--costs", "--plot", str(target))
    assert refused.returncode != 0 and "--plot" in refused.stdout + refused.stderr


def test_bench_of_a_shape_of_ones_own(tmp_path):
    pytest.importorskip("torch")
    target = tmp_path / "bench.json"
    options = ["--shape", "1,4:2,3x64,16", "--causal", "--dtype", "fp32", "--backward", "--alone", "--budget", "1", "--json", str(target)]
    result = run("bench", *options)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(target.read_text())["results"]
    assert (row["name"], row["direction"]) == ("1,4:2,3x64,16:causal", "backward")
    assert row["flops"] == 10 * 16 * 4 * (62 + 63 + 64) and row["bytes"] == 4 * (4 * 4 * 3 * 16 + 4 * 2 * 64 * 16)
    assert 0 < row["peers"]["fusedattn"]["roofline_percent"] < 200
    assert "backward,avx2" in result.stdout.replace(_native.lane_chosen(), "avx2") and "softmax" in result.stdout and "▒" in result.stdout


def test_bench_goes_on_where_it_was_stopped(tmp_path):
    pytest.importorskip("torch")
    target = tmp_path / "bench.json"
    options = ["--dtype", "fp32", "--forward", "--alone", "--budget", "1", "--json", str(target), "--resume"]
    cells = ["--cells", "1,1,32,16", "--cells", "1,1,48,16"]

    def change(steady, **machine):
        report = json.loads(target.read_text())
        report["machine"] |= machine
        for row in report["results"]:
            row["steady"] = steady[row["name"]]
        target.write_text(json.dumps(report))
        return [row["name"] for row in report["results"]]

    assert run("bench", "--cells", "1,1,32,16", *options).returncode == 0
    change({"1,1,32,16": True})
    result = run("bench", *cells, *options)
    assert result.returncode == 0 and "1/1 [1,1,48,16]" in result.stderr
    change({"1,1,32,16": False, "1,1,48,16": True})
    assert run("bench", "--cells", "1,1,48,16", *options).returncode == 0
    assert change({"1,1,32,16": False, "1,1,48,16": True}) == ["1,1,32,16", "1,1,48,16"]  # what is not asked for stays; what had no rest is measured again
    result = run("bench", *cells, *options)
    assert result.returncode == 0 and "1/1 [1,1,32,16]" in result.stderr
    assert change(dict.fromkeys(("1,1,32,16", "1,1,48,16"), True), cpu="another") == ["1,1,32,16", "1,1,48,16"]
    result = run("bench", "--cells", "1,1,32,16", *options)
    assert result.returncode == 2 and "has results of cpu another" in result.stderr


def test_bench_of_the_machine_alone(tmp_path):
    target = tmp_path / "probe.json"
    result = run("bench", "--probe", "--json", str(target))
    assert result.returncode == 0, result.stderr
    assert "GFLOP/s" in result.stdout and "exp" in json.loads(target.read_text())["rates"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dtype", "fp64"], "--dtype is 'fp64'; accepted are fp32, bf16, fp16"),
        (["--cells", "1,2"], "shape is '1,2'; accepted are"),
        (["--shape", "1,3:2,8,8"], "shape is '1,3:2,8,8'; accepted are"),
        (["--shape", "1,2,8,8", "--mask", "diagonal"], "--mask is 'diagonal'; accepted are causal, band and padding"),
        (["--causal"], "--mask and --causal belong to --shape"),
        (["--resume"], "--resume is given without --json"),
        (["--shape", "1,1,8,8", "--json", "nowhere/x.json"], "--json is 'nowhere/x.json'; accepted is a file in a folder that exists"),
        (["--shape", "1,1,8,2000"], "shape is '1,1,8,2000', whose dim is 2000; accepted are 1 to 768"),
        (["--probe", "--json", "."], "--json is '.'; accepted is a file in a folder that exists"),
        (["--probe", "--costs", "--forward"], "is given with --forward, --costs; accepted with it are --threads and --json"),
        (["--cells", "1,1,8,8", "--peers", "/nowhere"], "--peers is '/nowhere'; accepted is a folder of virtual environments named zentorch"),
    ],
)
def test_bench_refuses_in_a_sentence(arguments, sentence, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", ["fusedattn", "bench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and sentence in capsys.readouterr().err


def test_the_cpu_has_a_name():
    assert info.cpu_model() and info.usable_cpus() >= 1


@pytest.mark.parametrize(
    ("path", "accepted"), [("nowhere/x.png", "accepted is a file in a folder"), (".", "accepted is a file in a folder"), ("x.foo", "accepted are files that end in .")]
)
def test_bench_refuses_a_chart_that_it_could_not_write(path, accepted, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "argv", ["fusedattn", "bench", "--cells", "1,1,8,8", "--plot", path])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and f"--plot is '{path}'; {accepted}" in " ".join(capsys.readouterr().err.split())
