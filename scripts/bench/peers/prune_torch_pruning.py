"""One round of scripts/bench/prune with Torch-Pruning: a line of milliseconds per repeat."""

import argparse
import time

import torch
import torch_pruning
import torchvision

parser = argparse.ArgumentParser()
parser.add_argument("--child", choices=["groups", "rounds", "resnet50", "densenet121"], required=True)
parser.add_argument("--threads", type=int, default=1)
given = parser.parse_args()

torch.set_num_threads(given.threads)
size = 32 if given.child in ("groups", "rounds") else 224
example = torch.randn(1, 3, size, size)


def network():
    if size == 224:
        return getattr(torchvision.models, given.child)().eval()
    return torchvision.models.resnet18(num_classes=10).eval()


def graph(net):
    return torch_pruning.DependencyGraph().build_dependency(net, example_inputs=example)


def groups(net):
    return list(graph(net).get_all_groups(root_module_types=[torch.nn.Conv2d, torch.nn.Linear]))


def rounds(net):
    dependency = graph(net)
    for module in list(net.modules()):
        if not isinstance(module, torch.nn.Conv2d):
            continue
        norms = module.weight.detach().abs().sum((1, 2, 3))
        lowest = norms.argsort()[: int(0.3 * len(norms) + 1e-6)].tolist()
        group = dependency.get_pruning_group(module, torch_pruning.prune_conv_out_channels, idxs=lowest)
        if dependency.check_pruning_group(group):
            group.prune()


def plan(net):
    pruner = torch_pruning.pruner.MagnitudePruner(
        net,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[m for m in net.modules() if isinstance(m, torch.nn.Linear)],
    )
    return list(pruner.step(interactive=True))


work = {"groups": groups, "rounds": rounds}.get(given.child, plan)
for i in range(4 if size == 32 else 2):
    net = network()
    start = time.perf_counter()
    work(net)
    if i > 0:
        print(f"{1000 * (time.perf_counter() - start):.3f}")
