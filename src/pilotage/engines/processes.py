"""Several processes of one machine that share each optimiser step, as torchrun starts them."""

from __future__ import annotations

import ipaddress
import os
import socket

import torch
import torch.distributed as dist
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.learn.learner import Ranks

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes(Ranks):
    """Sums over processes by gloo, on the loopback interface. Each process holds its own share of the episodes, whole
    groups only; what is summed comes out bitwise the same everywhere, so that parameters stay equal.

    Reads torchrun's variables RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Raises UsageError where one is missing or
    the address is not this machine's loopback.
    """

    def __init__(self) -> None:
        missing = [name for name in VARIABLES if name not in os.environ]
        if missing:
            raise UsageError(f"{', '.join(missing)} not set: start the processes with torchrun")
        address = os.environ["MASTER_ADDR"]
        if not _is_loopback(address):
            raise UsageError(f"MASTER_ADDR is {address!r}: processes here share one machine, so it has to be 127.0.0.1")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("gloo", init_method="env://")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, total: Tensor) -> Tensor:
        shared = total.detach().clone()
        dist.all_reduce(shared)
        return shared

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """A parameter that has a gradient in one process gets one in all; one that has none anywhere keeps none."""
        has = self.sum(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32))
        shared = [p for p, count in zip(parameters, has.tolist(), strict=True) if count]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in shared])
        dist.all_reduce(flat)
        for p, part in zip(shared, torch.split(flat, [p.numel() for p in shared]), strict=True):
            p.grad = part.view_as(p)

    def close(self) -> None:
        """Leaves the group of processes."""
        dist.destroy_process_group()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(address)).is_loopback
    except OSError:
        return False
