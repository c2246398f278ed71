#!/usr/bin/env python3
"""Time to load and compile, and resident memory after one run, of Onrush and ONNX Runtime: each in fresh processes, in turn.

    python footprint.py --onrush target/release/examples/bench_model [--threads 1] [--rounds 5] MODEL.onnx ...

needs: pip install numpy onnxruntime. Figures are medians of rounds. `load` is from the file to something that can run:
loading, compiling and planning for Onrush, creating the session for ONNX Runtime; `cached` is the same from a compiled
file. `resident` is what the process holds after one run, `peak` the most that it ever held, in MiB: all of Onrush's
process, and of ONNX Runtime's what it holds above an interpreter that has imported onnxruntime. `added` is the resident
memory of Onrush's process above what it held when it had read its arguments. Ratios are Onrush's share of ONNX Runtime's.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

PEER = r"""
import json, sys, time
import numpy as np, onnxruntime as ort
def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))
model, threads, feeds = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
ort.set_default_logger_severity(4)
before = memory("VmRSS:")
options = ort.SessionOptions(); options.intra_op_num_threads = threads
start = time.perf_counter()
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
load = (time.perf_counter() - start) * 1e3
types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
shapes = {i.name: [d if isinstance(d, int) and d > 0 else (1 if axis == 0 else 32) for axis, d in enumerate(i.shape)]
          for i in session.get_inputs()}
shapes.update({name: shape for name, (shape, _) in feeds.items() if name in shapes and shape})
fill = {name: value for name, (_, value) in feeds.items()}
given = {i.name: np.full(shapes[i.name], fill.get(i.name, 1), types.get(i.type, np.float32)) for i in session.get_inputs()}
session.run(None, given)
print(json.dumps({"load": load, "resident": memory("VmRSS:") - before, "peak": memory("VmHWM:") - before,
                  "inputs": {name: [list(array.shape), fill.get(name, 1)] for name, array in given.items()}}))
"""

# Inputs whose shape or value the model's own declaration does not give.
SPECIAL = {"silero": {"input": ([1, 576], 0), "state": ([2, 1, 128], 0), "sr": (None, 16000)}}


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][:160])
    return json.loads(done.stdout.strip().splitlines()[-1])


def onrush(arguments, path, inputs, compiled=None):
    command = [arguments.onrush, path, "--threads", str(arguments.threads), "--runs", "1", "--json"]
    for name, (shape, value) in inputs.items():
        command += ["--shape", f"{name}={','.join(map(str, shape))}", "--fill", f"{name}={value}"]
    record = last_json(command + (["--compiled", compiled] if compiled else []))
    return {"load": record["load_ms"] + record["compile_ms"], "resident": record["rss_mb"], "peak": record["peak_rss_mb"],
            "added": record["rss_mb"] - record["start_rss_mb"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onrush", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    print(f"{'':18} {'load, ms':^35} {'resident, MiB':^41} {'peak, MiB':^20}")
    print(f"{'model':18} {'ort':>7} {'onrush':>7} {'ratio':>5} {'cached':>7} {'ratio':>5}"
          f" {'ort':>7} {'onrush':>7} {'ratio':>5} {'cached':>7} {'added':>5} {'ratio':>5}"
          f" {'ort':>7} {'onrush':>7} {'ratio':>5}")
    for path in arguments.models:
        name = os.path.splitext(os.path.basename(path))[0]
        special = next((feeds for key, feeds in SPECIAL.items() if name.startswith(key)), {})
        special = {"attention_mask": (None, 1), "token_type_ids": (None, 0), **special}
        peer_command = [sys.executable, "-c", PEER, path, str(arguments.threads), json.dumps(special)]
        peers, ours, cached = [], [], []
        try:
            with tempfile.TemporaryDirectory() as folder:
                compiled = os.path.join(folder, "compiled")
                inputs = last_json(peer_command)["inputs"]
                onrush(arguments, path, inputs, compiled)
                for _ in range(arguments.rounds):
                    peers.append(last_json(peer_command))
                    ours.append(onrush(arguments, path, inputs))
                    cached.append(onrush(arguments, path, inputs, compiled))
        except RuntimeError as error:
            print(f"{name:18} {error}", flush=True)
            continue
        middle = lambda records, field: statistics.median(record[field] for record in records)
        line = f"{name:18}"
        for field in ("load", "resident", "peak"):
            peer, own, file = (middle(records, field) for records in (peers, ours, cached))
            line += f" {peer:7.1f} {own:7.1f} {own / peer:5.2f}"
            line += f" {file:7.1f}" if field != "peak" else ""
            line += f" {file / peer:5.2f}" if field == "load" else ""
            if field == "resident":
                added = middle(ours, "added")
                line += f" {added:5.1f} {added / peer:5.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
