import subprocess
import sys

from harness.speech.extractor import load_extractor
from harness.speech.features import FeatureConfig


def test_features_and_digest_are_the_same_in_another_process(waves):
    code = (
        "import sys, torch, hashlib; from harness.speech.extractor import load_extractor;"
        "from harness.speech.features import FeatureConfig;"
        "e = load_extractor(FeatureConfig()); torch.manual_seed(0); f = e([torch.randn(20000) * 0.1])[0];"
        "print(e.digest, hashlib.sha256(f.numpy().tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 1
    assert load_extractor(FeatureConfig()).digest in runs.pop()
