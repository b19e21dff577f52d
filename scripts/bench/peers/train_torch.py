"""One round of scripts/bench/train in PyTorch: eager, channels-last, a line of milliseconds per step."""

import argparse
import time

import torch
import torchvision

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
given = parser.parse_args()

torch.set_num_threads(given.threads)
torch.manual_seed(0)
net = torchvision.models.resnet18(num_classes=10).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
images = torch.randn(given.batch, 3, 32, 32).to(memory_format=torch.channels_last)
labels = torch.arange(given.batch) % 10

for step in range(-1, given.steps + 1):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(images), labels)
    loss.backward()
    optimizer.step()
    loss.item()
    if step > 0:
        print(f"{1000 * (time.perf_counter() - start):.3f}")
