import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, numpy as np
from seglab.data.memory import keep_freed_memory
keep_freed_memory()
def sample():
    return [np.ones(n << 17) for n in (1, 2, 4, 8)]
sample()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    sample()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_what_one_sample_gives_back_the_next_one_takes() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500  # of 77,000 pages that are written to
