"The README's script does what it says"
import os, re, subprocess, sys
from pathlib import Path
from PIL import Image
from cyclegan_fastai.use.translator import Translator

root = Path(__file__).resolve().parents[1]

def test_the_ten_lines(tmp_path):
    script, = [o for o in re.findall(r'```python\n(.*?)```', (root/'README.md').read_text(encoding='utf-8'), re.S) if 'fit_one_cycle' in o]
    assert len(script.strip().splitlines()) <= 11 and script.count('n_train=200')==1
    script = script.replace('n_train=200', 'n_train=32')               # the same lines on fewer images
    env = {**os.environ, 'PYTHONPATH': str(root), 'FASTAI_HOME': str(tmp_path/'home'), 'PYTHONWARNINGS': 'ignore'}
    res = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode==0, res.stderr
    assert Image.open(tmp_path/'winter.png').size==(64, 64)
    assert set(Translator.load(tmp_path/'model.safetensors').domains)=={'summer','winter'}
