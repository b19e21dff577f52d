"""Makes models.lua beside this file: python3 models.py COUNTS, where COUNTS is a Lua file with lines
{ arch="resnet18", size=224, params=..., macs=... }. Needs torch and torchvision 0.29.

For every model: CRC-32 of the sorted lines "name AxBxC" of its parameters, and of its buffers (without num_batches_tracked). For models with
a `small` size: logits of two images with 10 classes, computed in float64, at weights by a formula (tests/lua/formula.lua) rounded to float32.
"""
import os, re, sys, warnings, zlib
import numpy as np, torch, torchvision

SMALL = {  # smallest legal inputs, or a little more so that the last windows are not all padding
    "mobilenet_v2": 32, "mobilenet_v3_small": 32, "mobilenet_v3_large": 32, "densenet121": 32, "googlenet": 32, "inception_v3": 75,
    "squeezenet1_1": 33, "shufflenet_v2_x1_0": 32, "mnasnet1_0": 32, "efficientnet_b0": 32, "regnet_x_400mf": 32,
}


def uniform(name, count):
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(name.encode()))) & mask
    h ^= h >> np.uint64(15)
    h = h * np.uint64(2246822519) & mask
    h ^= h >> np.uint64(13)
    h = h * np.uint64(3266489917) & mask
    h ^= h >> np.uint64(16)
    return (h.astype(np.float64) + 0.5) / 2.0**32


def formula(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if len(shape) > 1:
        u = (2 * u - 1) * np.sqrt(3 / (u.size // shape[0]))
    elif name.endswith("running_var"):
        u = 0.5 + u
    elif name.endswith("running_mean") or name.endswith("bias"):
        u = 0.2 * (u - 0.5)
    else:
        u = 0.5 + u
    return torch.from_numpy(u.astype(np.float32).astype(np.float64).reshape(shape))


def build(arch, classes):
    heads = {"aux_logits": False} if arch in ("googlenet", "inception_v3") else {}
    if heads:
        heads["init_weights"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(torchvision.models, arch)(num_classes=classes, **heads)


def crc(tensors):
    lines = sorted(f"{name} {'x'.join(map(str, t.shape))}\n" for name, t in tensors if not name.endswith("num_batches_tracked"))
    return zlib.crc32("".join(lines).encode())


def logits(arch, size):
    net = build(arch, 10).double().eval()
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                t.copy_(formula(name, tuple(t.shape)))
        x = (2 * uniform("input", 2 * 3 * size * size) - 1) * np.sqrt(3)
        return net(torch.from_numpy(x.astype(np.float32).astype(np.float64).reshape(2, 3, size, size)))


def main():
    counts = open(sys.argv[1]).read()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.lua"), "w") as out:
        out.write("-- Made by models.py with torchvision " + torchvision.__version__.split("+")[0] + "; it says what the numbers are.\n")
        out.write("-- params, macs: of 1000 classes at 3 x size x size. parameters, buffers: CRC-32 of names and shapes.\nreturn {\n")
        for arch, size, params, macs in re.findall(r'arch="(\w+)", size=(\d+), params=(\d+), macs=(\d+)', counts):
            with torch.device("cpu" if "regnet" in arch else "meta"):
                net = build(arch, 1000)
            out.write(f'  {{ arch = "{arch}", size = {size}, params = {params}, macs = {macs},\n    ')
            out.write(f"parameters = {crc(net.named_parameters())}, buffers = {crc(net.named_buffers())}")
            if arch in SMALL:
                y = logits(arch, SMALL[arch])
                rows = ["{ " + ", ".join(f"{v:.12g}" for v in row) + " }" for row in y.tolist()]
                out.write(f",\n    small = {SMALL[arch]}, logits = {{\n      " + ",\n      ".join(rows) + " }")
            out.write(" },\n")
        out.write("}\n")


main()
