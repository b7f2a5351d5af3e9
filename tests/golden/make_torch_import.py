#!/usr/bin/env python3
"""Makes torch_import.safetensors: the state dict of a small PyTorch model as DataParallel saves it, its input and output.

    python3 tests/golden/make_torch_import.py        # needs torch and safetensors; their versions are in the metadata
"""
import pathlib

import safetensors.torch
import torch


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5))
        self.norm = torch.nn.BatchNorm1d(5)  # only for its num_batches_tracked; not used
        self.rnn = torch.nn.GRU(5, 4)
        self.head = torch.nn.Parameter(torch.empty(4, 2))  # applied as x @ head: (in, out)

    def forward(self, x):
        return self.rnn(self.encoder(x))[0] @ self.head


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(11)
    model = Model()
    torch.nn.init.normal_(model.head)
    x = torch.randn(6, 2, 3)
    out = {f"module.{name}": value.clone() for name, value in model.state_dict().items()}
    out["test.x"] = x
    out["test.y"] = model(x).detach()
    path = pathlib.Path(__file__).with_name("torch_import.safetensors")
    safetensors.torch.save_file(out, path, metadata={"torch": torch.__version__, "script": "make_torch_import.py"})


if __name__ == "__main__":
    main()
