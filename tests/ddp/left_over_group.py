"""Runs a script in a process that an earlier job has left a process group of one in."""

import runpy
import sys
import tempfile

import torch.distributed as dist

if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{tempfile.mkdtemp()}/store", rank=0, world_size=1)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
