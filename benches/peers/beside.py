#!/usr/bin/env python3
"""Puts the time of each kind of step of Onrush beside that of OpenVINO's and ONNX Runtime's own profile, for one model.

    python beside.py --inspect target/release/examples/inspect_model MODEL.onnx [--batch 8] [--seq 32] [--fill NAME=VALUE] [--top 12]

needs: pip install numpy onnx onnxruntime openvino. One thread. Steps are summed by kind; the steps of products and convolutions by
the name of the node that they came from, so that the same layer stands on one line.
"""
import argparse, collections, json, os, re, statistics, subprocess, sys, tempfile
import numpy as np


def inputs_of(session, batch, seq, fill):
    rng, feeds = np.random.default_rng(0), {}
    kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
    for i in session.get_inputs():
        dims = [d if isinstance(d, int) and d > 0 else (batch if at == 0 else seq) for at, d in enumerate(i.shape)]
        dtype = kinds.get(i.type, np.float32)
        if i.name in fill: feeds[i.name] = np.full(dims, fill[i.name], dtype)
        elif np.issubdtype(dtype, np.integer): feeds[i.name] = rng.integers(0, 250, dims).astype(dtype)
        else: feeds[i.name] = rng.normal(0, 1, dims).astype(dtype)
    return feeds


def onnxruntime(path, feeds, runs):
    import onnxruntime as ort
    folder = tempfile.mkdtemp()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling, options.profile_file_prefix = 1, True, os.path.join(folder, "p")
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(runs): session.run(None, feeds)
    steps = collections.defaultdict(list)
    for event in json.load(open(session.end_profiling())):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            steps[event["name"][: -len("_kernel_time")], event["args"]["op_name"]].append(event["dur"])
    return [(name, kind, statistics.median(times)) for (name, kind), times in steps.items()]


def openvino(path, feeds, runs):
    import openvino as ov
    core = ov.Core(); model = core.read_model(path); model.reshape({k: v.shape for k, v in feeds.items()})
    request = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}).create_infer_request()
    steps = collections.defaultdict(list)
    for _ in range(runs):
        request.infer(feeds)
        for p in request.profiling_info:
            steps[p.node_name, p.node_type, p.exec_type].append(p.real_time.total_seconds() * 1e6)
    return [(name, f"{kind} {how}", statistics.median(times)) for (name, kind, how), times in steps.items()]


def onrush(inspect, path, batch, seq, fill):
    command = [inspect, path, "--profile", "--json", "--batch", str(batch), "--seq", str(seq)]
    for pair in fill: command += ["--fill", pair]
    profile = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return [(s["name"], s["kernel"], s["nanoseconds"] / profile["runs"] / 1e3) for s in profile["steps"]]


HEAVY = re.compile("conv|gemm|product|matmul|fullyconnected", re.I)


def sums(steps):
    """Microseconds by kind: the digits in a kernel's name are its shape."""
    kinds = collections.Counter()
    for _, kind, t in steps: kinds[re.sub(r"\b\d\S*->\S+|\b\d+x\d+x\S+", "", kind).strip()] += t
    return kinds


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model"); p.add_argument("--inspect", required=True)
    p.add_argument("--batch", type=int, default=1); p.add_argument("--seq", type=int, default=32)
    p.add_argument("--fill", action="append", default=[]); p.add_argument("--runs", type=int, default=20); p.add_argument("--top", type=int, default=10)
    a = p.parse_args()
    import onnxruntime as ort
    ort.set_default_logger_severity(4)
    fill = {f.split("=")[0]: float(f.split("=")[1]) for f in a.fill}
    feeds = inputs_of(ort.InferenceSession(a.model, providers=["CPUExecutionProvider"]), a.batch, a.seq, fill)
    engines = {"onrush": onrush(a.inspect, a.model, a.batch, a.seq, a.fill), "openvino": openvino(a.model, feeds, a.runs), "onnxruntime": onnxruntime(a.model, feeds, a.runs)}
    print(f"{os.path.basename(a.model)}, batch {a.batch}, one thread, microseconds")
    for engine, steps in engines.items():
        heavy = sum(t for _, kind, t in steps if HEAVY.search(kind))
        print(f"  {engine:12} {sum(t for *_, t in steps):10.0f} in all, {heavy:10.0f} of it in products and convolutions")
        for kind, t in sums(steps).most_common(a.top):
            if t > 0.5: print(f"      {t:10.0f}  {kind}")
    peers = {name: t for name, kind, t in engines["openvino"] if HEAVY.search(kind)}
    both = sorted(((t - peers[n], n, kind, t) for n, kind, t in engines["onrush"] if peers.get(n)), reverse=True)
    if both:
        print("  layers that lose most to openvino (onrush, openvino)")
        for lost, n, kind, t in both[: a.top]: print(f"      {lost:+8.1f}  {t:9.1f} {peers[n]:9.1f}  {kind}  {n}")
        print("  layers that gain most")
        for lost, n, kind, t in both[-a.top // 2:]: print(f"      {lost:+8.1f}  {t:9.1f} {peers[n]:9.1f}  {kind}  {n}")


main()
