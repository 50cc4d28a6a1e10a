"The same recipe, the same bits: in another process, and however many processes decode"
import hashlib, os, subprocess, sys
from dataclasses import replace
from pathlib import Path

import pytest, torch

from cyclegan_fastai.run.experiment import Recipe, run_experiment
from cyclegan_fastai.data.seasons import seasons

def digest(state):
    "Of everything in a checkpoint, in whatever is nested"
    sha = hashlib.sha256()
    def add(o):
        if isinstance(o, torch.Tensor): sha.update(f'{o.dtype}{tuple(o.shape)}'.encode()); sha.update(o.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(o, dict):
            for k,v in o.items(): sha.update(f'{k}:'.encode()); add(v)
        elif isinstance(o, (list,tuple)):
            for v in o: add(v)
        else: sha.update(repr(o).encode())
        sha.update(b';')
    add(state)
    return sha.hexdigest()

def result(out): return {k: digest(v) for k,v in torch.load(out/'last.pth', weights_only=False).items()} # a file of ours

@pytest.fixture(scope='module')
def recipe(tmp_path_factory):
    path = seasons(n_train=7, n_test=4, size=32, path=tmp_path_factory.mktemp('data')/'drawn')
    return Recipe(str(path), size=32, epochs=1, decay_epochs=1, bs=3, blocks=1, width=4, ema=.9, augment='full', deterministic=True)

def on_the_command_line(recipe, out, workers):
    options = {o: getattr(recipe, o) for o in 'data size epochs decay_epochs bs blocks width ema augment seed'.split()}
    args = [o for k,v in options.items() for o in (f'--{k.replace("_", "-")}', str(v))]
    env = {k: v for k,v in os.environ.items() if k!='PYTHONDONTWRITEBYTECODE'} | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONHASHSEED='random')
    done = subprocess.run([Path(sys.executable).parent/'cyclegan-fastai', 'train', '--recipe', 'paper', *args, '--deterministic', '--workers', str(workers),
                           '--device', 'cpu', '--out', out], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stdout+done.stderr
    return result(out)

def in_this_process(recipe, out, workers):
    threads,was = torch.get_num_threads(),torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    try: run_experiment(recipe, out, device='cpu', workers=workers)
    finally: torch.set_num_threads(threads); torch.use_deterministic_algorithms(was)
    return result(out)

def test_the_same_bits(recipe, tmp_path):
    "Two processes, and 0, 1, 2 that decode; weights, optimizer, pools, averages, record and random states"
    first = on_the_command_line(recipe, tmp_path/'a', 0)
    assert {'model','opt','random','callbacks'}<=first.keys()
    assert on_the_command_line(recipe, tmp_path/'b', 2)==first
    for workers in (0,1): assert in_this_process(recipe, tmp_path/f'{workers} here', workers)==first
    assert in_this_process(replace(recipe, seed=43), tmp_path/'other', 0)['model']!=first['model']
    print('lost between two runs: nothing')
