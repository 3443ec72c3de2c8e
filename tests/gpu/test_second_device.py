"""Holds the engine to a device that is not the CPU where there is no CUDA: no tensor is left behind.

Runs the CUDA tests of the embedded model on `second_device` in a process of
its own, because torch never forgets a device. All of them take two minutes:
ATTENTION_TEST_DEVICE=second:0 python -m pytest -m gpu tests/gpu -k "not memory"
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

FORBIDDEN = {
    "a sum": "there + here", "a product": "there @ here", "one list": "torch.cat([there, here])",
    "a choice": "torch.where(there > 0, there, here)", "numpy": "there.numpy()",
    "an index of the other kind": "here[torch.zeros(1, dtype=torch.long, device=there.device)]",
    "a generator": "torch.rand(2, device=there.device, generator=torch.Generator())",
}
TRIED = "".join(f"""
try:
    {code}
except (RuntimeError, TypeError):
    pass
else:
    raise SystemExit("{name} was let through")
""" for name, code in FORBIDDEN.items())
ALLOWED = """
assert (there + here.to(there.device)).cpu().numpy().tolist() == [[2, 2], [2, 2]]
assert (there * here.sum()).sum().item() == 16 and there[torch.tensor([0])].device == there.device
here[0] = 3 * there[0]
assert here.tolist() == [[3, 3], [1, 1]] and torch.arange(2, 5, device=there.device).tolist() == [2, 3, 4]
"""
CUDA_TESTS = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "tests/gpu/test_cuda.py", "-k",
              "every and zh-en or keep and gpt2"]
PROGRAM = f"""
import pytest
import torch
from tests.gpu import second_device
second_device.install()
there, here = torch.ones(2, 2, device="second:0"), torch.ones(2, 2)
{TRIED + ALLOWED}
raise SystemExit(pytest.main({CUDA_TESTS}))
"""
#: Ample: half a minute on an idle core.
SECONDS = 200


@pytest.mark.timeout(SECONDS + 40)
def test_what_mixes_devices_fails_there_and_the_engine_leaves_no_tensor_behind():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=SECONDS,
                          env={**os.environ, "ATTENTION_TEST_DEVICE": "second:0"})
    assert done.returncode == 0, done.stderr + done.stdout[-4_000:]
    assert re.search(r"^11 passed", done.stdout, re.MULTILINE), done.stdout[-400:]
