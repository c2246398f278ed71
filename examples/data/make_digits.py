"""Makes digits.onnx and digits.bin, which lie beside this script: a small convolutional network trained on a part of
scikit-learn's handwritten digits, and all of the images: those that it was trained on, then those it has never seen.

    python make_digits.py

Needs numpy, scikit-learn (for the data) and onnx (to write the model); takes well under two minutes on one core. The
split and the training are seeded; the last bits of the weights still depend on the BLAS under numpy.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED = 1797
TEST_IMAGES = 500
CHANNELS = (16, 32)
CLASSES = 10
EPOCHS = 30
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
HERE = pathlib.Path(__file__).parent


def patches(x):
    """[n, c, h, w] to [n * h * w, c * 9]: the 3x3 neighborhood of every pixel, zero outside."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)


def convolve(x, weight, bias):
    """A 3x3 convolution that keeps the size, as one product; also gives the patches, for the way back."""
    n, _, h, w = x.shape
    columns = patches(x)
    y = columns @ weight.reshape(len(weight), -1).T + bias
    return y.reshape(n, h, w, -1).transpose(0, 3, 1, 2), columns


def convolve_back(dy, columns, weight, need_dx):
    """The gradients of a convolution: of its weight, of its bias and, if asked for, of its input."""
    rows = dy.transpose(0, 2, 3, 1).reshape(-1, dy.shape[1])
    dx = None
    if need_dx:
        # Its input's gradient is a convolution too: with the kernel turned by 180 degrees and the channels swapped.
        turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        dx, _ = convolve(dy, turned, np.float32(0))
    return (rows.T @ columns).reshape(weight.shape), rows.sum(axis=0), dx


def pool(x):
    """The largest of every 2x2 block, and a mask that says which ones it was (shared where several are equal)."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    y = blocks.max(axis=(3, 5), keepdims=True)
    mask = (blocks == y).astype(np.float32)
    return y.reshape(n, c, h // 2, w // 2), mask / mask.sum(axis=(3, 5), keepdims=True)


def forward(p, x):
    """The logits [n, 10] and what the way back needs."""
    a1, columns1 = convolve(x, p["conv1.weight"], p["conv1.bias"])
    h1 = np.maximum(a1, 0)
    a2, columns2 = convolve(h1, p["conv2.weight"], p["conv2.bias"])
    h2 = np.maximum(a2, 0)
    pooled, mask = pool(h2)
    flat = pooled.reshape(len(x), -1)
    return flat @ p["head.weight"].T + p["head.bias"], (a1, columns1, a2, columns2, mask, pooled.shape, flat)


def gradients(p, x, labels):
    """The gradients of the mean cross-entropy."""
    logits, (a1, columns1, a2, columns2, mask, pooled_shape, flat) = forward(p, x)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    dlogits = e / e.sum(axis=1, keepdims=True)
    dlogits[np.arange(len(x)), labels] -= 1
    dlogits /= len(x)
    n, c, h, w = pooled_shape
    dpooled = (dlogits @ p["head.weight"]).reshape(n, c, h, 1, w, 1)
    da2 = (dpooled * mask).reshape(a2.shape) * (a2 > 0)
    dw2, db2, dh1 = convolve_back(da2, columns2, p["conv2.weight"], True)
    dw1, db1, _ = convolve_back(dh1 * (a1 > 0), columns1, p["conv1.weight"], False)
    return {
        "conv1.weight": dw1, "conv1.bias": db1, "conv2.weight": dw2, "conv2.bias": db2,
        "head.weight": dlogits.T @ flat, "head.bias": dlogits.sum(axis=0),
    }


def initial(rng):
    """He's initialization (He et al. 2015): normal with variance 2 / fan-in."""
    c1, c2 = CHANNELS
    shapes = {"conv1": (c1, 1, 3, 3), "conv2": (c2, c1, 3, 3), "head": (CLASSES, c2 * 4 * 4)}
    p = {}
    for name, shape in shapes.items():
        p[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        p[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return p


def train(images, labels, rng):
    """Adam with decoupled weight decay and a learning rate that falls as a cosine. The last epoch counts: nothing is
    chosen by looking at the test images."""
    p = initial(rng)
    mean = {name: np.zeros_like(v) for name, v in p.items()}
    square = {name: np.zeros_like(v) for name, v in p.items()}
    steps, step = EPOCHS * -(-len(images) // BATCH), 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            step += 1
            for name, g in gradients(p, images[chosen], labels[chosen]).items():
                mean[name] += 0.1 * (g - mean[name])
                square[name] += 0.001 * (g * g - square[name])
                update = mean[name] / (1 - 0.9**step) / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8)
                p[name] -= (rate * (update + WEIGHT_DECAY * p[name])).astype(np.float32)
    return p


def to_onnx(p):
    """The network as an ONNX model with a symbolic batch axis."""
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["a1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["a1"], ["h1"], "relu1"),
        helper.make_node("Conv", ["h1", "conv2.weight", "conv2.bias"], ["a2"], "conv2", pads=[1] * 4),
        helper.make_node("Relu", ["a2"], ["h2"], "relu2"),
        helper.make_node("MaxPool", ["h2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in p.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "make_digits.py"
    model.doc_string = "Handwritten digits, 8x8 pixels in 0..1, to the logits of the classes 0 to 9."
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(pixels))
    train_part, test_part = order[:-TEST_IMAGES], order[-TEST_IMAGES:]
    images = (pixels / np.float32(16)).astype(np.float32)[:, None]

    p = train(images[train_part], digits.target[train_part], np.random.default_rng(SEED + 1))
    for name, part in [("train", train_part), ("test", test_part)]:
        right = forward(p, images[part])[0].argmax(axis=1) == digits.target[part]
        print(f"{name}: {right.sum()} of {len(part)} right ({right.mean():.2%})")

    (HERE / "digits.onnx").write_bytes(to_onnx(p).SerializeToString(deterministic=True))
    records = np.concatenate([pixels[order].reshape(-1, 64), digits.target[order, None]], axis=1)
    (HERE / "digits.bin").write_bytes(records.astype(np.uint8).tobytes())


if __name__ == "__main__":
    main()
